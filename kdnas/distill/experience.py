"""`Experience`: what a student lived through when it drew its own actions, and how the reward improves it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdnas.distill.classroom import Classroom
from kdnas.distill.losses import divergence, own_policy
from kdnas.evaluation.seeds import SeedSets
from kdnas.policies.arrays import Actions, Floats
from kdnas.policies.distribution import greedy, log_prob, sample, to_actions
from kdnas.policies.scene import Scene
from kdnas.students.student import Student
from kdnas.teachers.advantages import advantages
from kdnas.teachers.episodes import Episodes, record

CLIP = 0.2
"""Of the ratio between the new and the old policy (PPO, Schulman et al. 2017, arXiv 1707.06347)."""
EPOCHS, MINIBATCH = 4, 2048


@dataclass(frozen=True, kw_only=True)
class Experience:
    """R decisions that a student made itself: tracks of T steps, time last, for recurrent students."""

    views: Tensor
    """(K, T, V)."""
    masks: Tensor | None
    """(K, T, N)."""
    parameters: Tensor
    """(K, T, P) of the teacher."""
    choices: Tensor
    """(K, T, *shape)."""
    advantages: Tensor
    """(K, T)."""
    counted: Tensor
    """(K, T): the student acted here."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """E episodes in which students drew their actions, and greedy teachers filled the other seats."""

    episodes: Episodes
    choices: Mapping[str, Tensor]
    """Group with a student -> what it drew in each of its seats, taken or not: (E, T, A, *shape)."""
    seats: Mapping[str, Tensor]
    """Group with a student -> which of them it took: (E, A)."""
    gained: Mapping[str, Floats]
    """Group -> advantages (E, T, A) of the whole team's behaviour, on the room's critic."""


def play_sampled(
    room: Classroom, students: Mapping[str, Student], seats: Mapping[str, Tensor], generator: torch.Generator
) -> Played:
    """Play one episode for each row of `seats`, group -> (E, A), with the students of these groups in them."""
    spec, count = room.env.spec, len(next(iter(seats.values())))
    hidden = {group: student.begin(count * len(spec.groups[group])) for group, student in students.items()}
    choices: dict[str, list[Tensor]] = {group: [] for group in students}

    def choose(scene: Scene, parameters: Mapping[str, Tensor]) -> dict[str, Actions]:
        actions = {}
        for group, said in parameters.items():
            space = spec.group_spec(group).actions
            chosen = greedy(space, said)
            if group in students:
                rows = torch.from_numpy(np.ascontiguousarray(scene.views[group])).flatten(0, 1)
                outputs, hidden[group] = students[group].step(rows, hidden[group])
                mask = scene.masks[group]
                own = outputs.reshape(*said.shape[:2], -1)
                legal = None if mask is None else torch.from_numpy(mask)
                drawn = sample(space, own_policy(space, own, said, legal), generator)
                choices[group].append(drawn)
                taken = seats[group].reshape(*said.shape[:2], *[1] * len(space.shape))
                chosen = torch.where(taken, to_actions(space, drawn), chosen)
            actions[group] = chosen.numpy()
        return actions

    seeds = SeedSets(int(torch.randint(2**31 - 1, (), generator=generator))).demonstrations(count)
    episodes = record(room.env, room.teacher, choose, seeds, copies=count, max_steps=room.max_steps)
    loss = room.recipe.loss
    assert room.value is not None
    gained = advantages(episodes, room.value, loss.gamma, loss.gae_lambda, spec, room.max_steps)
    drawn = {group: torch.stack(steps, 1) for group, steps in choices.items()}
    return Played(episodes=episodes, choices=drawn, seats=seats, gained=gained)


def experience_of(played: Played, groups: Sequence[str]) -> Experience:
    """The tracks of the student of some groups."""
    columns: dict[str, list[Tensor]] = {}
    for group in groups:
        seen = played.episodes.groups[group]
        arrays = {
            "views": torch.from_numpy(seen.views),
            "parameters": torch.from_numpy(seen.parameters),
            "choices": played.choices[group],
            "advantages": torch.from_numpy(played.gained[group]),
            "counted": torch.from_numpy(seen.alive) & played.seats[group][:, None],
        }
        if seen.masks is not None:
            arrays["masks"] = torch.from_numpy(seen.masks)
        for name, array in arrays.items():  # (E, T, A, ...) -> (E x A, T, ...)
            columns.setdefault(name, []).append(array.transpose(1, 2).flatten(0, 1))
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    return Experience(masks=joined.pop("masks", None), **joined)


def improve(
    student: Student,
    lived: Experience,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    leash: float,
) -> None:
    """Some epochs of the clipped policy gradient on one batch of experience; `leash` weighs the KL to the teacher."""
    actions = student.spaces.actions
    with torch.no_grad():
        old = log_prob(actions, _policy(student, lived, slice(None)), lived.choices)
    gains = lived.advantages[lived.counted]
    advantage = (lived.advantages - gains.mean()) / (gains.std() + 1e-8)
    tracks = max(MINIBATCH // lived.counted.shape[1], 1)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(lived.counted), generator=generator), tracks):
            said = _policy(student, lived, rows)
            ratio = (log_prob(actions, said, lived.choices[rows]) - old[rows]).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            gain = torch.min(ratio * advantage[rows], clipped * advantage[rows])
            outputs, taught = said[..., : actions.outputs].flatten(0, 1), lived.parameters[rows].flatten(0, 1)
            mask = None if lived.masks is None else lived.masks[rows].flatten(0, 1)
            far = divergence(actions, outputs, taught, mask, 1.0)
            weight = lived.counted[rows].to(gain.dtype)
            loss = ((leash * far.reshape(gain.shape) - gain) * weight).sum() / weight.sum().clamp_min(1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
            optimizer.step()


def _policy(student: Student, lived: Experience, rows: Tensor | slice) -> Tensor:
    """Parameters (K, T, P) of the student's policy: its own means with the teacher's deviations, or its own logits."""
    mask = None if lived.masks is None else lived.masks[rows]
    return own_policy(student.spaces.actions, student(lived.views[rows]), lived.parameters[rows], mask)
