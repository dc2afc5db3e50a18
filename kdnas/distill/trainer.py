"""The inner loop: one student learns to answer as its teacher does, on states that it leads to itself."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdnas.distill.classroom import Classroom
from kdnas.distill.lessons import Lessons
from kdnas.distill.memory import LessonMemory
from kdnas.distill.pool import draw_seats, student_among_teachers
from kdnas.distill.snapshot import Snapshot
from kdnas.distill.teaching import Teaching
from kdnas.distill.thresholds import Plateau
from kdnas.errors import StudentError
from kdnas.evaluation.seeds import SeedSets
from kdnas.students.family import Settling
from kdnas.students.student import Student
from kdnas.teachers.episodes import record

SETTLE_EVERY = 50
"""Steps between two calls of a `Settling` network's `settle`."""
CHECK_EVERY = 200
"""Steps between two looks at whether the loss is still finite."""

COOL_DOWN = 0.3
"""Share of the planned steps over which the learning rate falls to 0."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training took, and where it ended."""

    steps: int
    """Those of an earlier part that it went on from included."""
    loss: float
    """Mean of the last `CHECK_EVERY` steps; 0 where there were none."""
    snapshot: Snapshot | None = None
    """Where it stood before it cooled down; None where it had not begun."""


def train(
    student: Student,
    room: Classroom,
    memory: LessonMemory,
    teaching: Teaching,
    *,
    steps: int,
    on_policy_rounds: int,
    learning_rate: float,
    seed: int,
    held_out: Lessons | None = None,
    since: Snapshot | None = None,
) -> Training:
    """Train a student in place for at most so many Adam steps, those before `since` included.

    It is trained on `recipe.device`, and is on the CPU afterwards. Gradients are clipped to norm 1. At the start of
    each of `on_policy_rounds` equal stretches, episodes that the student plays among teachers join `memory`; an
    ancestor, which knows nothing yet, skips the first. A `Settling` network is told of the progress. Who goes on plays
    the episodes of earlier stretches again, as it plays now.

    The learning rate stays where it is, and falls to 0 in a straight line over the last steps (Haegele et al. 2024,
    arXiv 2405.18392); with held-out rows, as soon as the divergence on them has stopped falling (`recipe.adaptive`).

    Raises:
        StudentError: the loss is NaN or infinite.
    """
    recipe, adaptive = room.recipe, room.recipe.adaptive
    generator = torch.Generator().manual_seed(seed)
    device = torch.device(recipe.device)
    student.to(device)
    teaching.to(device)
    parameters = [*student.parameters(), *teaching.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    gradient = join_gradients(parameters)
    student.train()
    rounds = [index * steps // on_policy_rounds for index in range(on_policy_rounds)]
    pending = rounds[1:] if student.spec == student.spec.dense else rounds
    step, snapshot = 0, since
    if since is not None:
        since.restore(parameters, optimizer)
        step = since.step
        for _ in range(sum(begins < step for begins in pending)):
            play_on_policy(student, room, memory, generator)
        student.train()
    plateau = Plateau(adaptive.patience, adaptive.tolerance)
    cooling = max(int(COOL_DOWN * steps), 1)
    falls_from, last = steps - cooling, steps
    recent, counted = torch.zeros((), device=device), 0
    loss_mean = 0.0
    settling = student.network if isinstance(student.network, Settling) and steps else None
    while step < last:
        if settling is not None and step % SETTLE_EVERY == 0:
            settling.settle(step / last)
        if step in pending:
            play_on_policy(student, room, memory, generator)
            student.train()
        if held_out is not None and step < falls_from and step % adaptive.check_every == 0:
            student.eval()
            if plateau.should_stop(teaching.held_out(held_out)):
                falls_from, last = step, step + cooling
            student.train()
        if step == falls_from and step:
            snapshot = Snapshot.of(step, parameters, optimizer)
        left = min((last - step) / cooling, 1.0)
        for setting in optimizer.param_groups:
            setting["lr"] = learning_rate * left
        loss = teaching.loss(memory, recipe.batch)
        gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        gradient.mul_((1 / gradient.norm()).clamp_max(1.0))
        optimizer.step()
        step += 1
        recent, counted = recent + loss.detach(), counted + 1
        if counted == CHECK_EVERY or step == last:
            loss_mean = float(recent) / counted
            recent, counted = torch.zeros((), device=device), 0
            if not math.isfinite(loss_mean):
                raise StudentError(f"student {student.spec}: the loss became {loss_mean} at step {step} of {steps}")
    if settling is not None:
        settling.settle(1.0)
    student.eval().to("cpu")
    student.check_finite()
    return Training(steps=step, loss=loss_mean, snapshot=snapshot)


def join_gradients(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Make the gradients of parameters parts of one vector, so that one operation clears or clips them all."""
    gradient = torch.zeros(sum(parameter.numel() for parameter in parameters), device=parameters[0].device)
    for parameter, part in zip(parameters, torch.split(gradient, [p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
    return gradient


def play_on_policy(student: Student, room: Classroom, memory: LessonMemory, generator: torch.Generator) -> None:
    """Let the student play among teachers, and remember what the teacher says to each state it meets.

    A student with a memory of its own learns from its own tracks alone from here on. On a teacher's track, the past
    tells what the teacher saw and where it wants to go; who learns to read that takes his own past for a teacher's, and
    persists in his errors (Ortega et al. 2021, arXiv 2110.10819).
    """
    count = room.recipe.on_policy_episodes
    student.eval()
    if student.device.type != "cpu":
        student = copy.deepcopy(student).to("cpu")  # environments and teachers are there
    # Of the demonstrations' kind, so that no student is trained on an episode that it is scored on.
    seeds = SeedSets(int(torch.randint(2**31 - 1, (), generator=generator))).demonstrations(count)
    seats = draw_seats(room.pool, room.env.spec, room.copies, generator)
    choose = student_among_teachers(room.pool, student, room.env.spec, seats)
    episodes = record(room.env, room.teacher, choose, seeds, copies=room.copies, max_steps=room.max_steps)
    if student.hidden_size:
        memory.forget_demonstrations()
        memory.add(room.lessons(episodes, seats))
    else:
        memory.add(room.lessons(episodes))
