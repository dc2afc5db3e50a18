"""`Episodes`: what was seen, said and earned while somebody acted, in arrays that keep the order of time.

E episodes, T steps, A agents of a group, V features of a view, P distribution parameters, N logits, S state.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdnas.envs.team_env import TeamEnv
from kdnas.policies.arrays import Actions, Bools, Floats
from kdnas.policies.distribution import greedy, sample, to_actions
from kdnas.policies.masks import mask_logits
from kdnas.policies.scene import Scene
from kdnas.teachers.teacher import Teacher

Chooser = Callable[[Scene, Mapping[str, Tensor]], Mapping[str, Actions]]
"""A scene and, by group, the teacher's masked parameters (B, A, P) -> actions (B, A, *shape)."""


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """One group's part of E episodes; steps after an agent has left hold zeros and are not `alive`."""

    views: Floats
    """(E, T, A, V): what students see."""
    parameters: Floats
    """(E, T, A, P): what the teacher says to it, masked actions left in."""
    alive: Bools
    """(E, T, A)."""
    rewards: Floats
    """(E, T, A): of the step that the action led to."""
    masks: Bools | None = None
    """(E, T, A, N) legal actions."""

    @property
    def rows(self) -> "Rows":
        """Every decision of every living agent, in the order of time within each episode."""
        return Rows(
            views=self.views[self.alive],
            parameters=self.parameters[self.alive],
            masks=None if self.masks is None else self.masks[self.alive],
        )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """R decisions of one group's agents: what they saw, and what the teacher says to it."""

    views: Floats
    """(R, V)."""
    parameters: Floats
    """(R, P) of the teacher, unmasked."""
    masks: Bools | None
    """(R, N) legal actions, or None."""


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """E recorded episodes of a whole team."""

    groups: Mapping[str, GroupRecord]
    state: Floats
    """(E, T, S)."""


def teacher_chooser(teacher: Teacher, generator: torch.Generator) -> Chooser:
    """The teacher acts: greedily in the first half of the copies, sampled in the other, which shows more states."""

    def choose(scene: Scene, parameters: Mapping[str, Tensor]) -> dict[str, Actions]:
        actions = {}
        for group, said in parameters.items():
            space, half = teacher.spec.group_spec(group).actions, len(said) // 2
            drawn = to_actions(space, sample(space, said[half:], generator))
            actions[group] = torch.cat([greedy(space, said[:half]), drawn]).numpy()
        return actions

    return choose


@torch.inference_mode()
def record(
    env: TeamEnv, teacher: Teacher, choose: Chooser, seeds: Sequence[int], *, copies: int, max_steps: int
) -> Episodes:
    """Play one episode of each seed with the actions of `choose`, and keep what the teacher says all along.

    T is the length of the longest episode.

    Raises:
        TeacherError: the teacher returns NaN or infinity.
    """
    chunks = [
        _record_together(env, teacher, choose, seeds[start : start + copies], max_steps)
        for start in range(0, len(seeds), copies)
    ]
    longest = max(chunk.state.shape[1] for chunk in chunks)

    def join(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        padded = [np.pad(a, [(0, 0), (0, longest - a.shape[1]), *[(0, 0)] * (a.ndim - 2)]) for a in arrays]
        return np.concatenate(padded)

    groups = {}
    for group, record in chunks[0].groups.items():
        parts = {
            field.name: join([getattr(chunk.groups[group], field.name) for chunk in chunks])
            for field in fields(record)
            if getattr(record, field.name) is not None
        }
        if record.masks is not None:  # a step that never came forbids nothing
            parts["masks"][~parts["alive"]] = True
        groups[group] = GroupRecord(**parts)
    return Episodes(groups=groups, state=join([chunk.state for chunk in chunks]))


def _record_together(env: TeamEnv, teacher: Teacher, choose: Chooser, seeds: Sequence[int], max_steps: int) -> Episodes:
    """One batch of episodes."""
    kept: dict[str, dict[str, list[NDArray[Any]]]] = {
        group: {name: [] for name in ("views", "parameters", "alive", "rewards", "masks")} for group in env.spec.groups
    }
    states: list[Floats] = []
    step = env.reset(seeds)
    for _ in range(max_steps):
        if step.over:
            break
        said, masked = teacher.parameters(step), {}
        for group, parameters in said.items():
            mask = step.masks[group]
            masked[group] = mask_logits(parameters, None if mask is None else torch.from_numpy(mask))
            own = kept[group]
            own["views"].append(step.views[group])
            own["parameters"].append(parameters.numpy())
            own["alive"].append(step.alive[group])
            if mask is not None:
                own["masks"].append(mask)
        states.append(step.state)
        step = env.step(choose(step, masked))
        for group, rewards in step.rewards.items():
            kept[group]["rewards"].append(rewards)
    return Episodes(
        groups={
            group: GroupRecord(**{name: np.stack(arrays, 1) for name, arrays in own.items() if arrays})
            for group, own in kept.items()
        },
        state=np.stack(states, 1),
    )
