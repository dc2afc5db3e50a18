"""`Schooling`: the students that trials ask for, each trained once and then played alone among teachers."""

from collections.abc import Iterable, Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kdnas.config.study import DistillTable
from kdnas.distill.bank import StudentBank
from kdnas.distill.pool import Pool
from kdnas.distill.stage import Stage, lineage
from kdnas.errors import KdnasError, StudentError
from kdnas.spaces.spec import StudentSpec
from kdnas.study.gate import Gate
from kdnas.study.prediction import MarginalLosses
from kdnas.study.returns import ReturnsFolder, short_name
from kdnas.study.setup import Setup
from kdnas.study.tasks import play_team, train_student
from kdnas.study.workers import Workers, failure_reason, result_of

Key = tuple[str, Stage]
"""Of a training: pool and stage; of a play among teachers: group and stage."""


FAITHFUL_BITS = 8
"""Integers that keep what their float student does: see `distill.stage.quantization_steps`."""


@dataclass(kw_only=True)
class Schooling:
    """Trains stages and measures what each student costs its group, whoever asks first, and remembers both.

    A student that is complete is played in every group that may have it, for proposals choose among those: a team of G
    groups, each with S students to choose from, takes G x S plays among teachers and, where groups share a pool, S
    trainings: not S^G of either.
    """

    setup: Setup
    bank: StudentBank
    gate: Gate
    workers: Workers
    seeds: list[int]
    """Search episodes."""
    losses: MarginalLosses
    kept: ReturnsFolder
    """Returns among teachers, which are played only once."""
    training: "dict[Key, Future[Any]]" = field(default_factory=dict)
    playing: "dict[Key, Future[Any]]" = field(default_factory=dict)
    broken: dict[Key, str] = field(default_factory=dict)
    """Stages that cannot be had, and why."""
    offered: list[Key] = field(default_factory=list)
    """Groups and complete students that may play there, behind whatever trials wait for."""
    foreseen: set[Key] = field(default_factory=set)
    """Trainings that no trial has asked for yet."""
    trained: int = 0

    def __post_init__(self) -> None:
        self._ancestors = {
            group: dict.fromkeys(
                (self.setup.pools[group].name, Stage(spec=spec.dense))
                for spec in own.parameters
                if self.gate.allows(group, spec, measure=False)
            )
            for group, own in self.setup.space.groups.items()
        }
        """Group -> those that its students may come of, in the order of the space."""
        self._unforeseen = list(dict.fromkeys(key for own in self._ancestors.values() for key in own))

    def rung(self, group: str, spec: StudentSpec) -> int:
        """The rung that a student has reached for sure: the lowest where nothing is known of it."""
        top = len(self.bank.recipe.rungs) - 1
        return next((rung for rung in range(top, 0, -1) if self.has(group, self.stage(spec, rung))), 0)

    def has(self, group: str, stage: Stage) -> bool:
        """Whether the bank has a stage whose training is not under way.

        A worker's file is there before its task has ended here: what the coordinator does must not hang on which of the
        two it sees.
        """
        pool = self.setup.pools[group]
        return (pool.name, stage) not in self.training and self.bank.has(pool, stage)

    def stage(self, spec: StudentSpec, rung: int) -> Stage:
        """The stage in which a student is judged at a rung of a race."""
        return stage_at(spec, rung, self.bank.recipe)

    def request(self, candidate: Mapping[str, StudentSpec], rung: int) -> str | None:
        """Have the workers do what the students of a team lack to be judged at a rung.

        Returns:
            Why they cannot be had, if so.
        """
        for group, spec in candidate.items():
            pool, stage = self.setup.pools[group], self.stage(spec, rung)
            if not self.has(group, stage):
                lacking = next(one for one in lineage(stage) if not self.has(group, one))
                if (reason := self.broken.get((pool.name, lacking))) is not None:
                    return reason
                self.foreseen.discard((pool.name, lacking))
                if (pool.name, lacking) not in self.training:
                    self.training[pool.name, lacking] = self.workers.submit(train_student, pool.name, lacking)
            elif (reason := self.broken.get((group, stage))) is not None:
                return reason
            else:
                self._play(group, stage)
        return None

    def foresee(self) -> None:
        """Do what trials to come will ask for: play what was offered and, where a worker has nothing to do, distil the
        next ancestor of the space.

        The first candidates wait for one and the same ancestor, on one worker. With one worker in all none is idle for
        long, and when it is hangs on the clock.
        """
        for group, stage in self.offered:
            if (group, stage) not in self.broken:
                self._play(group, stage)
        self.offered.clear()
        while self._unforeseen and self.workers.count > 1 and self.workers.some_idle:
            name, ancestor = key = self._unforeseen.pop(0)
            if key not in self.training and not self.bank.has(self.setup.pools[name], ancestor):
                self.foreseen.add(key)
                self.training[key] = self.workers.submit(train_student, name, ancestor)

    def take_up(self) -> None:
        """Remember what the complete students of the bank cost their groups, and offer those that were not played."""
        for pool in {pool.name: pool for pool in self.setup.pools.values()}.values():
            for stage in self.bank.stages(pool):
                self._offer(pool, stage)

    def ready(self, candidate: Mapping[str, StudentSpec], rung: int) -> bool:
        """Whether each student of a team was trained and played at a rung."""
        return all(self._remembers(group, self.stage(spec, rung)) for group, spec in candidate.items())

    def restore(self, candidates: Iterable[Mapping[str, StudentSpec]]) -> None:
        """Train the complete students of some teams again that were deleted from the bank.

        Raises:
            KdnasError: one cannot be trained.
        """
        for group, spec in ((group, spec) for candidate in candidates for group, spec in candidate.items()):
            pool, stage = self.setup.pools[group], self.bank.last(spec)
            for one in [] if self.bank.has(pool, stage) else lineage(stage):  # those that are there are found there
                result_of(self.workers.submit(train_student, pool.name, one), f"training {one}")

    def predict(self, candidate: Mapping[str, StudentSpec], rung: int, episodes: int | None = None) -> float:
        """The retention of a team that is ready at a rung, in all or the first episodes, if losses add up."""
        stages = {group: self.stage(spec, rung) for group, spec in candidate.items()}
        specs = {group: stage.spec for group, stage in stages.items()}
        return self.losses.predict(specs, {group: stage.rung for group, stage in stages.items()}, episodes).retention

    def losses_of(self, candidate: Mapping[str, StudentSpec]) -> dict[str, Any]:
        """Group -> what its complete student loses alone among teachers, with its interval, as JSON."""
        stages = {group: self.bank.last(spec) for group, spec in candidate.items()}
        known = {group: stage for group, stage in stages.items() if self._remembers(group, stage)}
        return {group: self.losses.loss(group, stage.spec, stage.rung).as_json() for group, stage in known.items()}

    def futures(self) -> "list[Future[Any]]":
        """What is under way, the oldest of each kind first."""
        return [*self.training.values(), *self.playing.values()]

    def settle(self, ended: "Future[Any]") -> None:
        """Take in the result of a task.

        Raises:
            KdnasError: something that no other candidate can escape.
        """
        for tasks, end in ((self.training, self._end_training), (self.playing, self._end_play)):
            for key, future in tasks.items():
                if future is ended:
                    del tasks[key]
                    end(key, future)
                    return

    def withdraw(self) -> None:
        """Take back what no worker has begun."""
        for tasks in (self.training, self.playing):
            for key, future in list(tasks.items()):
                if not future.running() and not future.done():
                    future.cancel()
                    del tasks[key]

    def _end_training(self, key: Key, future: "Future[Any]") -> None:
        error, (name, stage) = future.exception(), key
        foreseen = key in self.foreseen
        self.foreseen.discard(key)
        if error is None:
            self.trained += 1
            self._offer(self.setup.pools[name], stage)
            return
        if foreseen and not is_fatal(error):  # who asks for it hears of it
            return
        if is_fatal(error):
            result_of(future, f"training {stage}")
        said = failure_reason(error)  # a student's own error names it already
        self.broken[key] = said if isinstance(error, StudentError) else f"training {stage}: {said}"
        ended = any(key in own and own.keys() <= self.broken.keys() for own in self._ancestors.values())
        if isinstance(error, KdnasError) and ended:  # some group can have no student at all
            raise error

    def _end_play(self, key: Key, future: "Future[Any]") -> None:
        group, stage = key
        error = future.exception()
        if error is None and not np.isfinite(future.result()).all():
            self.broken[key] = f"playing {stage} among teachers: its returns are not finite"
            return
        if error is None:
            returns = future.result()
            self.kept.keep(self._name(group, stage), returns)
            self.losses.record(group, stage.spec, stage.rung, returns)
            return
        if is_fatal(error):
            result_of(future, f"playing {stage} among teachers")
        self.broken[key] = f"playing {stage} among teachers: {failure_reason(error)}"

    def _play(self, group: str, stage: Stage) -> None:
        """Have a student played among teachers, unless it was or is being."""
        if not self._remembers(group, stage) and (group, stage) not in self.playing:
            self.playing[group, stage] = self.workers.submit(play_team, {group: stage}, self.seeds, False)

    def _offer(self, pool: Pool, stage: Stage) -> None:
        """Offer a student that is complete to each group of its pool whose space and budget have it."""
        if stage != self.bank.last(stage.spec) or not self.setup.config.search.propose:
            return
        self.offered += [
            (group, stage)
            for group in pool.groups
            if stage.spec in self.setup.space.groups[group].parameters
            and self.gate.allows(group, stage.spec)
            and not self._remembers(group, stage)
        ]

    def _remembers(self, group: str, stage: Stage) -> bool:
        """Whether a student was played among teachers, now or in an earlier part of this search."""
        if (group, stage.spec, stage.rung) in self.losses.returns:
            return True
        name = self._name(group, stage)
        if not self.kept.has(name) or not self.has(group, stage):
            return False
        self.losses.record(group, stage.spec, stage.rung, self.kept.load(name))
        return True

    def _name(self, group: str, stage: Stage) -> str:
        return alone_name(self.bank, self.setup.pools[group], group, stage)


def alone_name(bank: StudentBank, pool: Pool, group: str, stage: Stage) -> str:
    """What the returns of a student that plays in a group of its pool, alone among teachers, are kept as."""
    return short_name(group, bank.address(pool, stage))


def stage_at(spec: StudentSpec, rung: int, recipe: DistillTable) -> Stage:
    """The stage in which a student is judged at a rung of a race; ancestors are complete at the first.

    Integers of 8 bits lose next to nothing, so that until the last rung the float student stands for one that has them:
    it is quantized once. What fewer bits lose, or scales that are powers of two, is seen from the first rung on.
    """
    bits = spec.bits
    if rung < len(recipe.rungs) - 1 and bits.quantized and bits.narrowest >= FAITHFUL_BITS and not bits.power_of_two:
        spec = spec.floating
    return Stage(spec=spec, rung=rung)


def is_fatal(error: BaseException) -> bool:
    """Whether no other candidate would fare better: not a student's own failure, and not a crash."""
    return isinstance(error, KdnasError | BrokenExecutor) and not isinstance(error, StudentError)
