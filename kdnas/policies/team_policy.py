"""What acts: the joint policy of a whole team."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from kdnas.policies.actions import ActionSpace, Box
from kdnas.policies.arrays import Actions, Bools
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
            group: draw_uniformly(self._actions[group], alive.shape, scene.masks.get(group), self._generator)
            for group, alive in scene.alive.items()
        }


def draw_uniformly(
    space: ActionSpace, shape: tuple[int, ...], mask: Bools | None, generator: np.random.Generator
) -> Actions:
    """Random actions (*shape, *space.shape), uniform over those that the mask (*shape, N) allows.

    Continuous ones are uniform between finite bounds, and normal, clipped, where there is none to one side.
    """
    if isinstance(space, Box):
        low, high = np.asarray(space.low), np.asarray(space.high)
        bounded = np.isfinite(low) & np.isfinite(high)
        start, end = np.where(bounded, low, 0.0), np.where(bounded, high, 1.0)
        uniform = start + (end - start) * generator.random((*shape, len(low)))
        normal = np.clip(generator.standard_normal((*shape, len(low))), low, high)
        return np.where(bounded, uniform, normal).astype(np.float32)
    scores = generator.random((*shape, space.outputs))
    legal = scores if mask is None else np.where(mask, scores, -1.0)
    factors = np.split(legal, np.cumsum(space.counts)[:-1], axis=-1)
    chosen = np.stack([factor.argmax(-1) for factor in factors], -1)
    return chosen if space.shape else chosen[..., 0]
