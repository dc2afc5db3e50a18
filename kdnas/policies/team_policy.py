"""What acts: the joint policy of a whole team."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from kdnas.policies.arrays import Bools, Floats, Ints


class TeamPolicy(Protocol):
    """Chooses the actions of all groups in B copies of an environment.

    Called once a step with what the environment shows now. It may keep nothing between calls: an episode can be cut,
    and copies are independent. A masked action is never chosen.
    """

    def act(
        self, observations: Mapping[str, Floats], masks: Mapping[str, Bools | None], state: Floats
    ) -> dict[str, Ints]:
        """Observations group -> (B, A, O), masks group -> (B, A, N) or None, state (B, S); returns group -> (B, A)."""
        ...


class RandomPolicy:
    """Uniform over the legal actions: the zero of retention."""

    def __init__(self, action_counts: Mapping[str, int], seed: int) -> None:
        self._counts = dict(action_counts)
        self._generator = np.random.default_rng(seed)

    def act(
        self, observations: Mapping[str, Floats], masks: Mapping[str, Bools | None], state: Floats
    ) -> dict[str, Ints]:
        actions: dict[str, Ints] = {}
        for group, rows in observations.items():
            scores = self._generator.random((*rows.shape[:2], self._counts[group]))
            mask = masks.get(group)
            actions[group] = (scores if mask is None else np.where(mask, scores, -1.0)).argmax(-1)
        return actions
