"""The task of `echo.py` with masks that forbid: what would be best is never allowed, and choosing it is an error.

In every step and factor the largest number is fenced off, so that the second largest is to be named. A perfect team
returns 5, as in `echo.py`; a policy that does not read its masks does not get beyond the first step.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from echo import Echo

from kdnas.envs import BatchedStep


class Fenced(Echo):
    """Discrete(3) or MultiDiscrete((2, 3)): random play returns 5 / 2, or 5 (1 + 1/2) / 2 = 3.75."""

    def __init__(self, *, actions: str = "discrete") -> None:
        super().__init__(actions=actions, masked=True)
        self.name = "fenced"

    def step(self, actions: Mapping[str, np.ndarray]) -> BatchedStep:
        for agent, chosen in actions.items():
            legal = self.legal(agent)
            starts = np.cumsum([0, *self.agents[agent].actions.counts[:-1]])
            if not np.take_along_axis(legal, starts + chosen.reshape(len(legal), -1), 1).all():
                raise ValueError(f"{agent} did what is forbidden")
        return super().step(actions)

    def legal(self, agent: str) -> np.ndarray:
        """(B, N): all but the largest of each factor."""
        return np.concatenate([part < part.max(1, keepdims=True) for part in self._factors(agent)], 1)

    def _factors(self, agent: str) -> list[np.ndarray]:
        space = self.agents[agent].actions
        return np.split(self._seen(agent)[:, : space.outputs], np.cumsum(space.counts)[:-1], axis=1)

    def _paid(self, agent: str, chosen: np.ndarray) -> np.ndarray:
        right = np.stack([part.argsort(1)[:, -2] for part in self._factors(agent)], 1)
        return (chosen.reshape(right.shape) == right).mean(1, dtype=np.float32)

    def _shown(self, rewards: dict[str, np.ndarray]) -> BatchedStep:
        shown = super()._shown(rewards)
        masks = {agent: self.legal(agent) | ~shown.alive[agent][:, None] for agent in self.agents}
        return replace(shown, masks=masks)


def make(**kwargs: Any) -> Fenced:
    return Fenced(**kwargs)
