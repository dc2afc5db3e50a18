"""The contract that every environment is brought to: PettingZoo's parallel API with a leading axis of B copies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kdnas.envs.spec import AgentSpec
from kdnas.policies.arrays import Actions, Bools, Floats


@dataclass(frozen=True, kw_only=True)
class BatchedStep:
    """What B copies show after a reset or a step.

    An agent that has left keeps its place in the arrays: its observation is zeros, its mask is all legal, its reward 0.
    """

    observations: Mapping[str, Floats]
    """Agent -> (B, O)."""
    masks: Mapping[str, Bools]
    """Agent -> (B, N) legal actions; agents without masks are absent."""
    alive: Mapping[str, Bools]
    """Agent -> (B,): still in the episode, so that its next action counts."""
    rewards: Mapping[str, Floats]
    """Agent -> (B,): reward of the step that led here; zeros after a reset."""
    state: Floats
    """(B, S) global state."""


class BatchedEnv(Protocol):
    """B copies of one multi-agent environment, stepped together.

    `reset` is called before `step`, with one seed a copy; its length sets B until the next reset. A copy whose agents
    have all left is stepped on with ignored actions and changes nothing. The same seed gives the same episode under
    the same actions, whatever B is and wherever in the batch it stands. No method may touch a global random generator.
    """

    name: str
    agents: Mapping[str, AgentSpec]
    state_size: int

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        """Start B = len(seeds) episodes."""
        ...

    def step(self, actions: Mapping[str, Actions]) -> BatchedStep:
        """Advance all copies by one step; actions: agent -> (B, *shape), within their bounds."""
        ...

    def close(self) -> None:
        """Release what the copies hold; calling it twice is allowed."""
        ...
