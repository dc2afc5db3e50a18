"""Playing whole episodes, and what they return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdnas.envs.team_env import TeamEnv
from kdnas.errors import RewardError
from kdnas.policies.team_policy import TeamPolicy

Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Returns:
    """Undiscounted returns of E episodes, in the order of their seeds.

    Example: two episodes of a group of two and a group of one are
    `Returns(per_agent={"drone": [[1, 3], [0, 2]], "base": [[5], [4]]})`; then `per_group["drone"]` is `[2, 1]`, and
    `mean` is `[3, 2]`, in which every agent weighs the same.
    """

    per_agent: Mapping[str, Doubles]
    """Group -> (E, A)."""

    @property
    def per_group(self) -> dict[str, Doubles]:
        """Group -> (E,): mean over the agents of the group."""
        return {group: returns.mean(axis=1) for group, returns in self.per_agent.items()}

    @property
    def mean(self) -> Doubles:
        """(E,): mean over all agents of the team."""
        together: Doubles = np.concatenate(list(self.per_agent.values()), axis=1).mean(axis=1)
        return together


def play(env: TeamEnv, policy: TeamPolicy, seeds: Sequence[int], *, copies: int, max_steps: int) -> Returns:
    """Play one episode for each seed, at most `copies` of them together, each cut after `max_steps`.

    A reward counts for an agent that was alive before the step, so also the one with which it leaves.

    Raises:
        RewardError: a reward that counts is NaN or infinite.
    """
    returns = {group: np.zeros((len(seeds), seats)) for group, seats in env.spec.seats.items()}
    for start in range(0, len(seeds), copies):
        chunk = slice(start, start + copies)
        shown = env.reset(seeds[chunk])
        for step in range(1, max_steps + 1):
            if shown.over:
                break
            acting = shown.alive
            shown = env.step(policy.act(shown))
            for group, total in returns.items():
                counted = np.where(acting[group], shown.rewards[group], 0.0)
                if not np.isfinite(counted).all():
                    raise RewardError(
                        f"environment {env.spec.name!r}: a reward of group {group!r} at step {step} is NaN or "
                        "infinite; correct the environment's rewards"
                    )
                total[chunk] += counted
    return Returns(per_agent=returns)
