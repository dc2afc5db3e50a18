"""The inner loop: one student learns to answer as its teacher does, on states that it leads to itself."""

from dataclasses import dataclass

import torch

from kdnas.config.study import DistillTable
from kdnas.distill.losses import kl_with_temperature
from kdnas.distill.memory import RowMemory
from kdnas.distill.pool import Pool, student_among_teachers
from kdnas.envs.team_env import TeamEnv
from kdnas.errors import StudentError
from kdnas.evaluation.seeds import SeedSets
from kdnas.students.family import Settling
from kdnas.students.student import Student
from kdnas.teachers.demonstrations import join_rows, record
from kdnas.teachers.teacher import Teacher

SETTLE_EVERY = 50
"""Steps between two calls of a `Settling` network's `settle`."""
CHECK_EVERY = 200
"""Steps between two looks at whether the loss is still finite."""


@dataclass(frozen=True, kw_only=True)
class Classroom:
    """Where students of one pool learn: environment, teacher, recipe, and how on-policy episodes are played."""

    env: TeamEnv
    teacher: Teacher
    pool: Pool
    recipe: DistillTable
    copies: int
    max_steps: int


def train(
    student: Student,
    room: Classroom,
    memory: RowMemory,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> float:
    """Train a student in place for a number of Adam steps; returns the mean loss of the last `CHECK_EVERY`.

    The learning rate falls to 0 by a cosine; gradients are clipped to norm 1. At the start of each of
    `recipe.on_policy_rounds` equal stretches, episodes that the student plays among teachers join `memory`; an
    ancestor, which knows nothing yet, skips the first. A `Settling` network is told of the progress.

    Raises:
        StudentError: the loss is NaN or infinite.
    """
    recipe = room.recipe
    generator = torch.Generator().manual_seed(seed)
    parameters = list(student.parameters())
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1), eta_min=learning_rate * 1e-3)
    student.train()
    rounds = [index * steps // recipe.on_policy_rounds for index in range(recipe.on_policy_rounds)]
    pending = rounds[1:] if student.spec == student.spec.dense else rounds
    recent, counted = torch.zeros(()), 0
    loss_mean = 0.0
    settling = student.network if isinstance(student.network, Settling) and steps else None
    for step in range(steps):
        if settling is not None and step % SETTLE_EVERY == 0:
            settling.settle(step / steps)
        if step in pending:
            play_on_policy(student, room, memory, generator)
            student.train()
        observations, logits, masks = memory.batch(recipe.batch)
        loss = kl_with_temperature(student(observations), logits, masks, recipe.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        recent, counted = recent + loss.detach(), counted + 1
        if counted == CHECK_EVERY or step == steps - 1:
            loss_mean = float(recent) / counted
            recent, counted = torch.zeros(()), 0
            if loss_mean != loss_mean or loss_mean == float("inf"):
                raise StudentError(f"student {student.spec}: the loss became {loss_mean} at step {step + 1} of {steps}")
    if settling is not None:
        settling.settle(1.0)
    student.eval()
    student.check_finite()
    return loss_mean


def play_on_policy(student: Student, room: Classroom, memory: RowMemory, generator: torch.Generator) -> None:
    """Let the student play among teachers, and remember what the teacher says to each state it meets."""
    episodes = room.recipe.on_policy_episodes
    student.eval()
    # Of the demonstrations' kind, so that no student is trained on an episode that it is scored on.
    seeds = SeedSets(int(torch.randint(2**31 - 1, (), generator=generator))).demonstrations(episodes)
    choose = student_among_teachers(room.pool, student, room.env.spec, room.copies, generator)
    rows = record(room.env, room.teacher, choose, seeds, copies=room.copies, max_steps=room.max_steps)
    memory.add(join_rows([rows[group] for group in room.pool.groups]))
