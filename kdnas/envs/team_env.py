"""`TeamEnv`: a batched environment seen by group, which is how teachers and students act."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdnas.envs.batched import BatchedEnv, BatchedStep
from kdnas.envs.blame import blame
from kdnas.envs.noise import Noise
from kdnas.envs.spec import EnvSpec, squash_actions
from kdnas.envs.view import View
from kdnas.policies.arrays import Actions, Bools, Floats
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
    """A batch of B copies of an environment together with its group map.

    `views` limit what the students of their groups see; `squash` makes continuous actions squashed ones, which are
    mapped to the bounds by whoever acts, so that the environment sees no difference.

    Raises:
        ConfigError: `squash` for an environment whose actions cannot be squashed.
    """

    def __init__(
        self,
        batched: BatchedEnv,
        groups: Mapping[str, tuple[str, ...]],
        views: Mapping[str, View] | None = None,
        squash: bool = False,
    ) -> None:
        self.spec = EnvSpec(
            name=batched.name,
            agents=squash_actions(batched.agents) if squash else batched.agents,
            groups=groups,
            state_size=batched.state_size,
            views=views or {},
        )
        self._batched = batched
        self._noise: dict[str, Noise] = {}

    def reset(self, seeds: Sequence[int]) -> TeamStep:
        """Start len(seeds) episodes, one of each seed.

        Raises:
            EnvError: the environment's own code raised anything.
        """
        self._noise = {
            group: Noise(seeds, group, (len(self.spec.groups[group]), view.size))
            for group, view in self.spec.views.items()
            if view.noise
        }
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
        alive = {g: np.stack([step.alive[a] for a in agents], 1) for g, agents in groups.items()}
        return TeamStep(
            observations=observations,
            views={g: self._view(g, seen, alive[g]) for g, seen in observations.items()},
            masks={
                g: np.stack([step.masks[a] for a in agents], 1) if self.spec.group_spec(g).masked else None
                for g, agents in groups.items()
            },
            alive=alive,
            rewards={g: np.stack([step.rewards[a] for a in agents], 1) for g, agents in groups.items()},
            state=step.state,
            first=first,
        )

    def _view(self, group: str, observations: Floats, alive: Bools) -> Floats:
        """What a group's students see (B, A, V) of its observations (B, A, O); those (B, A) who have left see zeros."""
        view = self.spec.views.get(group)
        if view is None:
            return observations
        noise = self._noise[group].draw() if group in self._noise else None
        seen = view(observations, noise)
        seen[~alive] = 0.0  # flags and noise too
        return seen
