"""What a worker does: train one student, or play one team. Module-level, so that a spawned process finds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdnas.distill.bank import StudentBank
from kdnas.distill.lessons import make_lessons
from kdnas.distill.recipe import lineage, make_student
from kdnas.distill.trainer import Classroom
from kdnas.envs.rollouts import play
from kdnas.envs.team_env import TeamEnv
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy
from kdnas.spaces.spec import StudentSpec
from kdnas.study.setup import Setup, StudyFile, open_study
from kdnas.teachers.demonstrations import Demonstrations, keep_demonstrations
from kdnas.teachers.episodes import record, teacher_chooser

TEACHER, RANDOM = "teacher", "random"
"""Policies that are played by name: the one and the zero of retention."""

REAL_COPIES = 64
"""Copies of a real environment in final plays: each is a Python object of megabytes, and more of them win no time."""


def make_bank(setup: Setup, run: Path) -> StudentBank:
    """The bank of a run."""
    return StudentBank(
        folder=run / "bank",
        environment=repr(sorted(setup.config.env.model_dump().items())),
        recipe=setup.config.distill,
        seed=setup.config.search.seed,
    )


def record_demonstrations(setup: Setup, run: Path) -> Demonstrations:
    """The study's teacher rollouts, recorded once."""
    import torch

    config = setup.config
    seeds = setup.seeds.demonstrations(config.distill.demonstration_episodes)
    choose = teacher_chooser(setup.teacher, torch.Generator().manual_seed(config.search.seed))
    key = {
        "environment": sorted(config.env.model_dump().items()),
        "teacher": sorted((group, setup.teacher.digest(group)) for group in setup.spec.groups),
        "seeds": (config.search.seed, len(seeds)),
    }
    return keep_demonstrations(
        run / "demonstrations",
        key,
        lambda: record(
            setup.env,
            setup.teacher,
            choose,
            seeds,
            copies=config.evaluation.copies,
            max_steps=config.env.max_steps,
        ),
    )


@dataclass(kw_only=True)
class _Desk:
    """What a worker keeps between tasks."""

    setup: Setup
    bank: StudentBank
    demonstrations: Demonstrations
    real: TeamEnv | None = None


_DESK: list[_Desk] = []


def sit_down(file: StudyFile, run: Path, demonstrations: Path) -> None:
    """Open the study in this worker."""
    setup = open_study(file)
    _DESK[:] = [_Desk(setup=setup, bank=make_bank(setup, run), demonstrations=Demonstrations(demonstrations))]


def train_student(group: str, spec: StudentSpec) -> None:
    """Train a spec for a group's pool and bank it; its parent must be banked already.

    Raises:
        StudentError: training failed.
    """
    desk = _DESK[0]
    setup = desk.setup
    pool, config = setup.pools[group], setup.config
    room = Classroom(
        env=setup.env,
        teacher=setup.teacher,
        pool=pool,
        recipe=config.distill,
        copies=config.evaluation.copies,
        max_steps=config.env.max_steps,
    )
    ancestors = lineage(spec)
    parent = desk.bank.load(pool, ancestors[-2]) if len(ancestors) > 1 else None
    lessons = make_lessons(desk.demonstrations.episodes(pool.groups), pool)
    desk.bank.store(pool, make_student(spec, parent, room, lessons, seed=desk.bank.training_seed(pool, spec)))


def play_team(candidate: Mapping[str, StudentSpec] | str, seeds: list[int], real: bool) -> NDArray[np.float64]:
    """Episode returns (E,), mean over agents, of banked students, the teacher or random play.

    `real` plays the real environment, otherwise the twin where there is one.
    """
    desk = _DESK[0]
    setup = desk.setup
    if real and desk.real is None:
        desk.real = setup.make_real_env()
    env = desk.real if real and desk.real is not None else setup.env
    policy: TeamPolicy
    if candidate == TEACHER:
        policy = setup.teacher
    elif isinstance(candidate, str):
        policy = RandomPolicy(setup.spec.actions, seed=setup.config.search.seed)
    else:
        policy = desk.bank.team(setup.spec, setup.pools, candidate)
    config = setup.config
    copies = min(config.evaluation.copies, REAL_COPIES) if real else config.evaluation.copies
    return play(env, policy, seeds, copies=copies, max_steps=config.env.max_steps).mean
