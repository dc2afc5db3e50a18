"""After imitation, the reward: a short policy-gradient run of a student among teachers."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdnas.distill.classroom import Classroom
from kdnas.distill.losses import divergence, own_policy
from kdnas.distill.pool import draw_seats
from kdnas.envs.rollouts import play
from kdnas.evaluation.seeds import SeedSets
from kdnas.policies.arrays import Actions
from kdnas.policies.distribution import greedy, log_prob, sample, to_actions
from kdnas.policies.scene import Scene
from kdnas.students.family import Settling
from kdnas.students.student import Seats, Student
from kdnas.teachers.advantages import advantages
from kdnas.teachers.episodes import Episodes, record

CLIP = 0.2
"""Of the ratio between the new and the old policy (PPO, Schulman et al. 2017, arXiv 1707.06347)."""
EPOCHS, MINIBATCH = 4, 2048


def polish(student: Student, room: Classroom, *, seed: int) -> bool:
    """Improve a student in place by the team's reward, on episodes that it plays among teachers.

    Policy gradients without a critic of the student's own: advantages are those of the teacher's critic, by GAE, and a
    KL to the teacher (`recipe.polish.leash`) keeps the student from what the critic does not know. Afterwards the
    student is kept as it was, unless it returns more in all seats of its pool on the validation seeds.

    Where weights are integers already (`Settling`), scales and biases alone are trained, at the rate of quantization:
    through the rounding, a gradient as noisy as this one would throw the integers about.

    Returns:
        Whether the polished student is the better one.

    Raises:
        StudentError: its weights became NaN or infinite.
    """
    table = room.recipe.polish
    before = copy.deepcopy(student.state_dict())
    earlier = _validate(student, room, seed)
    generator = torch.Generator().manual_seed(seed)
    settled = student.network if isinstance(student.network, Settling) else None
    learning_rate = table.learning_rate
    if settled is not None:
        settled.hold()
        learning_rate = room.recipe.qat_learning_rate
    optimizer = torch.optim.Adam(student.parameters(), lr=learning_rate)
    for index in range(table.rounds):
        for setting in optimizer.param_groups:
            setting["lr"] = learning_rate * (1 - index / table.rounds)
        _improve(student, room, _play(student, room, generator), optimizer, generator)
    if settled is not None:
        settled.settle(1.0)
    student.check_finite()
    if _validate(student, room, seed) > earlier:
        return True
    student.load_state_dict(before)
    return False


@dataclass(frozen=True, kw_only=True)
class _Experience:
    """R decisions that the student made itself: tracks of T steps, time last, for recurrent students."""

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


def _improve(
    student: Student,
    room: Classroom,
    lived: _Experience,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Some epochs on one batch of experience."""
    leash, actions = room.recipe.polish.leash, student.spaces.actions
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


def _policy(student: Student, lived: _Experience, rows: Tensor | slice) -> Tensor:
    """Parameters (K, T, P) of the student's policy: its own means with the teacher's deviations, or its own logits."""
    mask = None if lived.masks is None else lived.masks[rows]
    return own_policy(student.spaces.actions, student(lived.views[rows]), lived.parameters[rows], mask)


def _play(student: Student, room: Classroom, generator: torch.Generator) -> _Experience:
    """Episodes in which the student draws its actions, in seats of its pool, among greedy teachers."""
    spec, pool = room.env.spec, room.pool
    count = room.recipe.polish.episodes
    taken = draw_seats(pool, spec, count, generator)
    hidden = {group: student.begin(count * len(spec.groups[group])) for group in pool.groups}
    choices: dict[str, list[Tensor]] = {group: [] for group in pool.groups}

    def choose(scene: Scene, parameters: Mapping[str, Tensor]) -> dict[str, Actions]:
        actions = {}
        for group, said in parameters.items():
            space = spec.group_spec(group).actions
            chosen = greedy(space, said)
            if group in choices:
                rows = torch.from_numpy(np.ascontiguousarray(scene.views[group])).flatten(0, 1)
                outputs, hidden[group] = student.step(rows, hidden[group])
                mask = scene.masks[group]
                own = outputs.reshape(*said.shape[:2], -1)
                legal = None if mask is None else torch.from_numpy(mask)
                drawn = sample(space, own_policy(space, own, said, legal), generator)
                choices[group].append(drawn)
                seats = taken[group].reshape(*said.shape[:2], *[1] * len(space.shape))
                chosen = torch.where(seats, to_actions(space, drawn), chosen)
            actions[group] = chosen.numpy()
        return actions

    seeds = SeedSets(int(torch.randint(2**31 - 1, (), generator=generator))).demonstrations(count)
    episodes = record(room.env, room.teacher, choose, seeds, copies=count, max_steps=room.max_steps)
    return _experience(episodes, room, choices, taken)


def _experience(
    episodes: Episodes, room: Classroom, choices: Mapping[str, list[Tensor]], taken: Mapping[str, Tensor]
) -> _Experience:
    """The student's tracks of recorded episodes."""
    loss = room.recipe.loss
    assert room.value is not None
    gained = advantages(episodes, room.value, loss.gamma, loss.gae_lambda, room.env.spec, room.max_steps)
    columns: dict[str, list[Tensor]] = {}
    for group in room.pool.groups:
        seen = episodes.groups[group]
        arrays = {
            "views": torch.from_numpy(seen.views),
            "parameters": torch.from_numpy(seen.parameters),
            "choices": torch.stack(choices[group], 1),
            "advantages": torch.from_numpy(gained[group]),
            "counted": torch.from_numpy(seen.alive) & taken[group][:, None],
        }
        if seen.masks is not None:
            arrays["masks"] = torch.from_numpy(seen.masks)
        for name, array in arrays.items():  # (E, T, A, ...) -> (E x A, T, ...)
            columns.setdefault(name, []).append(array.transpose(1, 2).flatten(0, 1))
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    return _Experience(masks=joined.pop("masks", None), **joined)


def _validate(student: Student, room: Classroom, seed: int) -> float:
    """Mean return with the student in all seats of its pool and teachers in the others, on the validation seeds."""
    seeds = SeedSets(seed).validation(room.recipe.polish.validation_episodes)
    policy = _Mixed(student, room)
    return float(play(room.env, policy, seeds, copies=room.copies, max_steps=room.max_steps).mean.mean())


class _Mixed:
    """A student in all seats of its pool, teachers in the others, all greedy."""

    def __init__(self, student: Student, room: Classroom) -> None:
        self._teacher = room.teacher
        self._seats = {group: Seats(student) for group in room.pool.groups}

    def act(self, scene: Scene) -> dict[str, Actions]:
        actions = self._teacher.act(scene)
        for group, seats in self._seats.items():
            actions[group] = seats.act(scene.views[group], scene.masks[group], first=scene.first).numpy()
        return actions
