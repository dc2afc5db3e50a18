"""`TeamEnv`: a batched environment seen by group, which is how teachers and students act."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdnas.envs.batched import BatchedEnv, BatchedStep
from kdnas.envs.blame import blame
from kdnas.envs.spec import EnvSpec
from kdnas.policies.arrays import Actions, Floats
from kdnas.policies.scene import Scene


@dataclass(frozen=True, kw_only=True)
class TeamStep(Scene):
    """A scene and the rewards of the step that led to it."""

    rewards: Mapping[str, Floats]
    """Group -> (B, A)."""

    @property
    def over(self) -> bool:
        """Every agent of every copy has left."""
        return not any(alive.any() for alive in self.alive.values())


class TeamEnv:
    """A batch of B copies of an environment together with its group map."""

    def __init__(self, batched: BatchedEnv, groups: Mapping[str, tuple[str, ...]]) -> None:
        self.spec = EnvSpec(name=batched.name, agents=batched.agents, groups=groups, state_size=batched.state_size)
        self._batched = batched

    def reset(self, seeds: Sequence[int]) -> TeamStep:
        """Start len(seeds) episodes, one of each seed.

        Raises:
            EnvError: the environment's own code raised anything.
        """
        with blame(f"environment {self.spec.name!r} failed in reset()"):
            return self._grouped(self._batched.reset(seeds), first=True)

    def step(self, actions: Mapping[str, Actions]) -> TeamStep:
        """Advance every copy; actions: group -> (B, A, *shape).

        Raises:
            EnvError: the environment's own code raised anything.
        """
        by_agent = {
            agent: actions[group][:, seat]
            for group, agents in self.spec.groups.items()
            for seat, agent in enumerate(agents)
        }
        with blame(f"environment {self.spec.name!r} failed in step()"):
            return self._grouped(self._batched.step(by_agent), first=False)

    def close(self) -> None:
        self._batched.close()

    def _grouped(self, step: BatchedStep, *, first: bool) -> TeamStep:
        groups = self.spec.groups
        observations = {g: np.stack([step.observations[a] for a in agents], 1) for g, agents in groups.items()}
        return TeamStep(
            observations=observations,
            views=observations,
            masks={
                g: np.stack([step.masks[a] for a in agents], 1) if self.spec.group_spec(g).masked else None
                for g, agents in groups.items()
            },
            alive={g: np.stack([step.alive[a] for a in agents], 1) for g, agents in groups.items()},
            rewards={g: np.stack([step.rewards[a] for a in agents], 1) for g, agents in groups.items()},
            state=step.state,
            first=first,
        )
