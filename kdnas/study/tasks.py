"""What a worker does: train one student, or play one team. Module-level, so that a spawned process finds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdnas.distill.bank import StudentBank
from kdnas.distill.classroom import Classroom, open_classroom
from kdnas.distill.inheritance import best_start, nearest_relatives
from kdnas.distill.lessons import Lessons
from kdnas.distill.pool import Pool
from kdnas.distill.recipe import make_student
from kdnas.distill.stage import Stage, lineage
from kdnas.envs.rollouts import play
from kdnas.envs.team_env import TeamEnv
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy
from kdnas.students.team import Team
from kdnas.study.run_folder import DEMONSTRATIONS
from kdnas.study.setup import Setup, StudyFile, open_study
from kdnas.teachers.demonstrations import Demonstrations, keep_demonstrations
from kdnas.teachers.episodes import Episodes, record, teacher_chooser

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


def play_demonstrations(setup: Setup) -> Episodes:
    """The study's teacher rollouts."""
    import torch

    config = setup.config
    seeds = setup.seeds.demonstrations(config.distill.demonstration_episodes)
    choose = teacher_chooser(setup.teacher, torch.Generator().manual_seed(config.search.seed))
    copies, max_steps = config.evaluation.copies, config.env.max_steps
    return record(setup.env, setup.teacher, choose, seeds, copies=copies, max_steps=max_steps)


def record_demonstrations(setup: Setup, run: Path) -> Demonstrations:
    """The study's teacher rollouts, recorded once."""
    config = setup.config
    key = {
        "environment": sorted(config.env.model_dump().items()),
        "views": sorted(setup.spec.views.items()),
        "teacher": sorted((group, setup.teacher.digest(group)) for group in setup.spec.groups),
        "seeds": (config.search.seed, config.distill.demonstration_episodes),
    }
    return keep_demonstrations(run / DEMONSTRATIONS, key, lambda: play_demonstrations(setup))


def see_demonstrations(setup: Setup, demonstrations: Demonstrations) -> Setup:
    """The setup for students that do not read what never changes in the demonstrations.

    Raises:
        RunError: the demonstrations are damaged.
    """
    return setup.without_constants(demonstrations.episodes(list(setup.spec.groups)))


def open_room(setup: Setup, pool: Pool, demonstrations: Demonstrations) -> tuple[Classroom, Lessons]:
    """The classroom of a pool, and the demonstrations as its lessons.

    Raises:
        ConfigError: a term of the loss that this teacher or these agents cannot have.
        RunError: the demonstrations are damaged.
    """
    config = setup.config
    episodes = demonstrations.episodes(list(setup.spec.groups))
    room = open_classroom(
        setup.env,
        setup.teacher,
        pool,
        config.distill,
        episodes,
        copies=config.evaluation.copies,
        max_steps=config.env.max_steps,
        seed=config.search.seed,
    )
    return room, room.lessons(episodes)


@dataclass(kw_only=True)
class _Desk:
    """What a worker keeps between tasks."""

    setup: Setup
    bank: StudentBank
    demonstrations: Demonstrations
    rooms: dict[str, tuple[Classroom, Lessons]] = field(default_factory=dict)
    """Pool name -> its classroom and demonstrated lessons."""
    real: TeamEnv | None = None


_DESK: list[_Desk] = []


def sit_down(file: StudyFile, run: Path, demonstrations: Path) -> None:
    """Open the study in this worker."""
    recorded = Demonstrations(demonstrations)
    setup = see_demonstrations(open_study(file), recorded)
    _DESK[:] = [_Desk(setup=setup, bank=make_bank(setup, run), demonstrations=recorded)]


def train_student(group: str, stage: Stage) -> bool:
    """Train a stage for a group's pool and bank it; its parent must be banked already.

    Returns:
        Whether it was trained here: not if it is there, or another process was at it already, which is waited for.

    Raises:
        StudentError: training failed.
    """
    desk = _DESK[0]
    pool = desk.setup.pools[group]
    with desk.bank.claim(pool, stage) as lacking:
        if lacking:
            _train(desk, pool, stage)
    return lacking


def _train(desk: _Desk, pool: Pool, stage: Stage) -> None:
    if pool.name not in desk.rooms:
        desk.rooms[pool.name] = open_room(desk.setup, pool, desk.demonstrations)
    room, lessons = desk.rooms[pool.name]
    bank, line = desk.bank, lineage(stage)
    seed = bank.training_seed(pool, stage)
    ancestry = line[-2] if len(line) > 1 else None
    parent, since = bank.load_progress(pool, ancestry) if ancestry else (None, None)
    begins = ancestry is not None and ancestry.is_ancestor and not stage.spec.bits.quantized
    if parent is not None and begins and bank.recipe.relatives:
        relatives = nearest_relatives(stage.spec, bank.stages(pool), pool, bank.recipe)
        parents = [parent, *(bank.load(pool, relative) for relative in relatives)]
        chosen = best_start(parents, stage.spec, room, lessons, seed=seed + 3) if relatives else 0
        ancestry, parent = [ancestry, *relatives][chosen], parents[chosen]
    goes_on = parent is not None and parent.spec == stage.spec
    student, training = make_student(stage, parent, room, lessons, seed=seed, since=since if goes_on else None)
    ends = stage.is_ancestor or stage.spec.bits.quantized or stage == bank.last(stage.spec)
    progress = None if ends else training.progress
    bank.store(pool, student, stage, steps=training.steps, parent=ancestry, progress=progress)


def play_team(players: Mapping[str, Stage] | str, seeds: list[int], real: bool) -> NDArray[np.float64]:
    """Episode returns (E,), mean over agents, of banked students with teachers in all other groups, or of random play.

    `real` plays the real environment, otherwise the twin where there is one.
    """
    desk = _DESK[0]
    setup = desk.setup
    if real and desk.real is None:
        desk.real = setup.make_real_env()
    env = desk.real if real and desk.real is not None else setup.env
    policy: TeamPolicy
    if isinstance(players, str):
        policy = (
            setup.teacher if players == TEACHER else RandomPolicy(setup.spec.actions, seed=setup.config.search.seed)
        )
    else:
        students = {group: desk.bank.load(setup.pools[group], stage) for group, stage in players.items()}
        policy = Team(setup.spec, students, others=setup.teacher)
    config = setup.config
    copies = min(config.evaluation.copies, REAL_COPIES) if real else config.evaluation.copies
    return play(env, policy, seeds, copies=copies, max_steps=config.env.max_steps).mean
