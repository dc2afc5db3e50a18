"""What acts: the joint policy of a whole team."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from kdnas.policies.actions import ActionSpace, Box
from kdnas.policies.arrays import Actions, Bools, Floats
from kdnas.policies.scene import Scene


class TeamPolicy(Protocol):
    """Chooses the actions of all groups in B copies of an environment.

    Called once a step with what the environment shows now. What it remembers begins anew at a scene that is `first`:
    an episode can be cut, and copies are independent. A masked action is never chosen.
    """

    def act(self, scene: Scene) -> dict[str, Actions]:
        """Group -> actions (B, A, *shape)."""
        ...


class RandomPolicy:
    """Uniform over the legal actions, or within the bounds: the zero of retention."""

    def __init__(self, actions: Mapping[str, ActionSpace], seed: int) -> None:
        self._actions = dict(actions)
        self._generator = np.random.default_rng(seed)

    def act(self, scene: Scene) -> dict[str, Actions]:
        return {
            group: self._draw(self._actions[group], alive.shape, scene.masks.get(group))
            for group, alive in scene.alive.items()
        }

    def _draw(self, space: ActionSpace, shape: tuple[int, ...], mask: Bools | None) -> Actions:
        if isinstance(space, Box):
            return self._within(space, shape)
        scores = self._generator.random((*shape, space.outputs))
        legal = scores if mask is None else np.where(mask, scores, -1.0)
        factors = np.split(legal, np.cumsum(space.counts)[:-1], axis=-1)
        chosen: Actions = np.stack([factor.argmax(-1) for factor in factors], -1)
        return chosen if space.shape else chosen[..., 0]

    def _within(self, space: Box, shape: tuple[int, ...]) -> Floats:
        """Uniform between finite bounds; a normal number, clipped, where there is none to one side."""
        low, high = np.asarray(space.low), np.asarray(space.high)
        bounded = np.isfinite(low) & np.isfinite(high)
        width = np.where(bounded, high, 1.0) - np.where(bounded, low, 0.0)
        uniform = np.where(bounded, low, 0.0) + width * self._generator.random((*shape, len(low)))
        normal = np.clip(self._generator.standard_normal((*shape, len(low))), low, high)
        return np.where(bounded, uniform, normal).astype(np.float32)
