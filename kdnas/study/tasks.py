"""What a worker does: train a student, play a team, or refine one. Module-level, so that a spawned process finds it."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kdnas.distill.bank import StudentBank
from kdnas.distill.classroom import Classroom, open_classroom
from kdnas.distill.inheritance import best_start, nearest_relatives
from kdnas.distill.lessons import Lessons
from kdnas.distill.pool import Pool
from kdnas.distill.recipe import make_student
from kdnas.distill.refine import refine
from kdnas.distill.refined import RefinedTeams
from kdnas.distill.stage import Stage, lineage
from kdnas.envs.rollouts import play
from kdnas.envs.team_env import TeamEnv
from kdnas.errors import EnvError, RewardError, StudentError, TeacherError
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy
from kdnas.spaces.spec import StudentSpec
from kdnas.students.team import Team
from kdnas.study.run_folder import DEMONSTRATIONS
from kdnas.study.setup import Setup, StudyFile, open_study
from kdnas.study.worker import sendable
from kdnas.teachers.advantages import fit_value
from kdnas.teachers.demonstrations import Demonstrations, keep_demonstrations
from kdnas.teachers.episodes import Episodes, record, teacher_chooser

Result = TypeVar("Result")

TEACHER, RANDOM = "teacher", "random"
"""Policies that are played by name: the one and the zero of retention."""

REAL_COPIES = 64
"""Copies of a real environment in final plays: each is a Python object of megabytes, and more of them win no time."""


def make_bank(setup: Setup, run: Path) -> StudentBank:
    """The bank of a run; where the recipe asks the critic, other critics make other students."""
    recipe = setup.config.distill
    critic = setup.teacher.value_digest if recipe.loss.advantage_beta or recipe.polish.rounds else ""
    return StudentBank(
        folder=run / "bank",
        environment=repr(sorted(setup.config.env.model_dump().items())) + critic,
        recipe=recipe,
        seed=setup.config.search.seed,
    )


def make_refined(setup: Setup, run: Path) -> RefinedTeams:
    """The refined teams of a run."""
    return RefinedTeams(
        folder=run / "refined",
        bank=make_bank(setup, run),
        spec=setup.spec,
        pools=setup.pools,
        table=setup.config.refine,
    )


def play_demonstrations(setup: Setup) -> Episodes:
    """The study's teacher rollouts."""
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
    value: nn.Module | None = None

    def room(self, pool: Pool) -> tuple[Classroom, Lessons]:
        """The classroom of a pool and its lessons, opened when they are first needed."""
        if pool.name not in self.rooms:
            self.rooms[pool.name] = open_room(self.setup, pool, self.demonstrations)
        return self.rooms[pool.name]

    def rooms_of_all(self) -> dict[str, Classroom]:
        """Group -> the classroom of its pool, as refinement needs it: with a critic where there is a polish."""
        rooms = {group: self.room(pool)[0] for group, pool in self.setup.pools.items()}
        if not self.setup.config.refine.polish.rounds:
            return rooms
        return {group: replace(room, value=self.critic()) for group, room in rooms.items()}

    def critic(self) -> nn.Module:
        """The teacher's critic, or one that is fitted to the demonstrations when it is first needed."""
        if self.value is None:
            config, loss = self.setup.config, self.setup.config.distill.loss
            self.value = self.setup.teacher.value or fit_value(
                self.demonstrations.episodes(list(self.setup.spec.groups)),
                self.setup.spec,
                loss.gamma,
                loss.gae_lambda,
                config.env.max_steps,
                torch.Generator().manual_seed(config.search.seed),
            )
        return self.value


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
        StudentError: training failed, or the environment fails this student, and not its teacher.
    """
    desk = _DESK[0]
    pool = desk.setup.pools[group]
    with desk.bank.claim(pool, stage) as lacking:
        if lacking:
            desk.room(pool)  # what it lacks no student is to blame for
            _for_students(lambda: _train(_DESK[0], pool, stage), who=f"training {stage}: ")
    return lacking


def _train(desk: _Desk, pool: Pool, stage: Stage) -> None:
    room, lessons = desk.room(pool)
    bank, line = desk.bank, lineage(stage)
    seed = bank.training_seed(pool, stage)
    ancestry = line[-2] if len(line) > 1 else None
    parent, since = bank.load_snapshot(pool, ancestry) if ancestry else (None, None)
    begins = ancestry is not None and ancestry.is_ancestor and not stage.spec.bits.quantized
    if parent is not None and begins and bank.recipe.relatives:
        relatives = nearest_relatives(stage.spec, bank.stages(pool), pool, bank.recipe)
        parents = [parent, *(bank.load(pool, relative) for relative in relatives)]
        chosen = best_start(parents, stage.spec, room, lessons, seed=seed + 3) if relatives else 0
        ancestry, parent = [ancestry, *relatives][chosen], parents[chosen]
    goes_on = parent is not None and parent.spec == stage.spec
    student, training = make_student(stage, parent, room, lessons, seed=seed, since=since if goes_on else None)
    ends = stage.is_ancestor or stage.spec.bits.quantized or stage == bank.last(stage.spec)
    snapshot = None if ends else training.snapshot
    bank.store(pool, student, stage, steps=training.steps, parent=ancestry, snapshot=snapshot)


def play_team(players: Mapping[str, Stage] | str, seeds: list[int], real: bool) -> NDArray[np.float64]:
    """Episode returns (E,), mean over agents, of banked students with teachers in all other groups, or of random play.

    `real` plays the real environment, otherwise the twin where there is one.

    Raises:
        StudentError: the environment fails these students, and not their teacher.
    """
    desk = _DESK[0]
    setup = desk.setup
    if players == TEACHER:
        return _play(setup.teacher, seeds, real)
    if isinstance(players, str):
        return _play(RandomPolicy(setup.spec.actions, seed=setup.config.search.seed), seeds, real)
    students = {group: desk.bank.load(setup.pools[group], stage) for group, stage in players.items()}
    team = Team(setup.spec, students, others=setup.teacher)
    return _for_students(lambda: _play(team, seeds, real), real=real)


def play_refined(candidate: Mapping[str, StudentSpec], seeds: list[int]) -> NDArray[np.float64]:
    """Episode returns (E,) of a refined team in the real environment.

    Raises:
        StudentError: the environment fails these students, and not their teacher.
    """
    team = _refined().follow(candidate)[0]
    return _for_students(lambda: _play(team, seeds, True), real=True)


def refine_team(
    candidate: Mapping[str, StudentSpec], teacher: NDArray[np.float64], random: NDArray[np.float64]
) -> None:
    """Put a team of banked students through the stages that it lacks, each of which is stored when it has ended.

    Args:
        candidate: group -> spec.
        teacher: its returns (E,) on the validation episodes.
        random: those of random play.

    Raises:
        StudentError: the environment fails these students, and not their teacher.
    """
    _DESK[0].rooms_of_all()  # what they lack no student is to blame for
    _for_students(lambda: _refine(candidate, teacher, random))


def _refine(candidate: Mapping[str, StudentSpec], teacher: NDArray[np.float64], random: NDArray[np.float64]) -> None:
    desk, refined = _DESK[0], _refined()
    rooms, seeds = desk.rooms_of_all(), desk.setup.seeds.validation(desk.setup.config.refine.validation_episodes)
    team, done = refined.follow(candidate)
    for stage in refined.stages[len(done) :]:
        record, students = refine(
            stage, team, rooms, lambda own: _play(own, seeds, False), (teacher, random), seed=refined.seed(stage, team)
        )
        refined.store(stage, team, record, students)
        team, _ = refined.follow(candidate)


def _refined() -> RefinedTeams:
    desk = _DESK[0]
    return make_refined(desk.setup, desk.bank.folder.parent)


def _play(policy: TeamPolicy, seeds: list[int], real: bool) -> NDArray[np.float64]:
    desk = _DESK[0]
    if real and desk.real is None:
        desk.real = desk.setup.make_real_env()
    env = desk.real if real and desk.real is not None else desk.setup.env
    config = desk.setup.config
    copies = min(config.evaluation.copies, REAL_COPIES) if real else config.evaluation.copies
    try:
        return play(env, policy, seeds, copies=copies, max_steps=config.env.max_steps).mean
    except RewardError as error:
        if not isinstance(policy, Team):
            raise
        raise StudentError(str(error)) from error


def _for_students(act: Callable[[], Result], *, real: bool = False, who: str = "") -> Result:
    """Do what students act in the environment for; `who` begins the complaint.

    Where the environment fails, it is made anew, for nobody knows in what state it was left; if the teacher can be
    played then, with as many copies, the students have a second try, and it is their fault if that fails too.

    Raises:
        StudentError: the environment fails the students, or pays them rewards that are NaN or infinite.
        KdnasError: it fails the teacher too, in episodes that the demonstrations have; or memory or a disk is full.
    """
    try:
        return act()
    except (EnvError, TeacherError) as error:
        if sendable(error) is not error:  # memory or a disk is full
            raise
    desk = _DESK[0]
    for env in [desk.setup.env] if desk.real is None else [desk.setup.env, desk.real]:
        with suppress(Exception):  # what failed may fail to close
            env.close()
    sit_down(desk.setup.file, desk.bank.folder.parent, desk.demonstrations.folder)
    setup = _DESK[0].setup
    copies = min(setup.config.evaluation.copies, setup.config.distill.demonstration_episodes)
    _play(setup.teacher, setup.seeds.demonstrations(copies), real)
    try:
        return act()
    except (EnvError, TeacherError) as error:
        if sendable(error) is not error:
            raise
        raise StudentError(f"{who}{error}; only where students act, for their teacher can be played") from error
