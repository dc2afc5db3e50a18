"""After imitation, the reward: a short policy-gradient run of a student among teachers, or of a whole team."""

import copy
from collections.abc import Mapping

import torch

from kdnas.compress.quantize import training_twin
from kdnas.config.refine import TeamPolishTable
from kdnas.distill.classroom import Classroom
from kdnas.distill.experience import experience_of, improve, play_sampled
from kdnas.distill.pool import draw_seats
from kdnas.envs.rollouts import play
from kdnas.evaluation.seeds import SeedSets
from kdnas.policies.arrays import Actions
from kdnas.policies.scene import Scene
from kdnas.students.family import Settling, load_family
from kdnas.students.student import Seats, Student


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
        seats = draw_seats(room.pool, room.env.spec, table.episodes, generator)
        played = play_sampled(room, dict.fromkeys(room.pool.groups, student), seats, generator)
        improve(student, experience_of(played, room.pool.groups), optimizer, generator, leash=table.leash)
    if settled is not None:
        settled.settle(1.0)
    student.check_finite()
    if _validate(student, room, seed) > earlier:
        return True
    student.load_state_dict(before)
    return False


def polish_team(
    students: Mapping[str, Student], rooms: Mapping[str, Classroom], table: TeamPolishTable, *, seed: int
) -> None:
    """Train the students of all groups in place by the team's reward, on episodes in which nobody else acts.

    As `polish`, of all students at once: each draws its actions, and learns from what its own seats gained on the
    teacher's critic. Whether the team is the better for it is for the caller to find out.

    Args:
        students: group -> student, each a network of its own.
        rooms: group -> the classroom of its pool, with a critic; all of one environment and one teacher.
        table: how long, and on how many episodes.
        seed: of all that is drawn.

    Raises:
        StudentError: weights became NaN or infinite.
    """
    room = next(iter(rooms.values()))
    generator = torch.Generator().manual_seed(seed)
    pupils = {
        group: training_twin(student, load_family(student.spec.family)).eval() for group, student in students.items()
    }
    held = [pupil.network for pupil in pupils.values() if isinstance(pupil.network, Settling)]
    for network in held:
        network.hold()
    rates, optimizers = {}, {}
    for group, pupil in pupils.items():
        settled = isinstance(pupil.network, Settling)
        rates[group] = room.recipe.qat_learning_rate if settled else table.learning_rate
        optimizers[group] = torch.optim.Adam(pupil.parameters(), lr=rates[group])
    seats = {group: torch.ones(table.episodes, seats, dtype=torch.bool) for group, seats in room.env.spec.seats.items()}
    for index in range(table.rounds):
        played = play_sampled(room, pupils, seats, generator)
        for group, pupil in pupils.items():
            for setting in optimizers[group].param_groups:
                setting["lr"] = rates[group] * (1 - index / table.rounds)
            improve(pupil, experience_of(played, [group]), optimizers[group], generator, leash=table.leash)
    for network in held:
        network.settle(1.0)
    for pupil in pupils.values():
        pupil.check_finite()


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
