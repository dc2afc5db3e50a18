"""The one place where all stages meet: ask, price, gate, bank, score, tell."""

import math
import time
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdnas.distill.bank import StudentBank
from kdnas.distill.pool import Pool
from kdnas.distill.recipe import lineage
from kdnas.errors import KdnasError, StudentError
from kdnas.evaluation.score import Score, make_score
from kdnas.spaces.spec import StudentSpec
from kdnas.study.front import Objectives, hypervolume
from kdnas.study.gate import Gate, Verdict
from kdnas.study.setup import Setup
from kdnas.study.tasks import play_team, train_student
from kdnas.study.watch import Progress
from kdnas.study.workers import Workers, failure_reason, result_of

if TYPE_CHECKING:
    import optuna

Key = tuple[str, StudentSpec]
"""Pool name and spec: one entry of the bank."""


@dataclass(kw_only=True)
class Attempt:
    """A feasible trial on its way: its students are trained, then the team is played."""

    trial: "optuna.Trial"
    candidate: dict[str, StudentSpec]
    verdict: Verdict
    playing: "Future[Any] | None" = None


@dataclass(kw_only=True)
class Objective:
    """Takes trials from `ask` to `tell`; the coordinator calls `ask`, `advance` and `settle` in turn."""

    setup: Setup
    study: "optuna.Study"
    gate: Gate
    bank: StudentBank
    workers: Workers
    search_seeds: list[int]
    teacher_returns: NDArray[np.float64]
    random_returns: NDArray[np.float64]
    started: float = field(default_factory=time.monotonic)
    active: list[Attempt] = field(default_factory=list)
    training: "dict[Key, Future[Any]]" = field(default_factory=dict)
    broken: dict[Key, str] = field(default_factory=dict)
    """Students that cannot be had, and why."""
    played: dict[tuple[tuple[str, str], ...], Score] = field(default_factory=dict)
    points: list[Objectives] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"done": 0, "rejected": 0, "failed": 0})
    trained: int = 0

    def remember(self, candidate: Mapping[str, StudentSpec], score: Score, objectives: Objectives) -> None:
        """Take in a team that was played before: in an earlier part of this search, or just now."""
        self.played[_signature(candidate)] = score
        self.points.append(objectives)
        self.counts["done"] += 1

    def ask(self) -> None:
        """Ask for one candidate, price it, and set every constraint; an infeasible one ends here as PRUNED."""
        from optuna.trial import TrialState

        trial = self.study.ask()
        candidate = self.setup.space.sample(trial)
        verdict = self.gate.judge(candidate, measure_all=True)
        for name, violation in verdict.violations.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr("candidate", {group: str(spec) for group, spec in candidate.items()})
        trial.set_user_attr("cost", verdict.cost.team.as_json())
        if not verdict.feasible:
            worst = max(verdict.violations, key=lambda name: verdict.violations[name])
            trial.set_user_attr("reason", f"breaks {worst} by {100 * verdict.violations[worst]:.3g} %")
            self.study.tell(trial, state=TrialState.PRUNED)
            self.counts["rejected"] += 1
            return
        self.active.append(Attempt(trial=trial, candidate=candidate, verdict=verdict))

    def advance(self) -> None:
        """Hand out whatever can be done now: teams whose students are all there, and students whose parent is."""
        for attempt in list(self.active):
            if attempt.playing is not None:
                continue
            missing = self._missing(attempt)
            broken = [self.broken[key] for key in missing if key in self.broken]
            if broken:
                self._fail(attempt, broken[0])
            elif missing:
                for pool_name, spec in missing:
                    if (pool_name, spec) not in self.training:
                        self.training[pool_name, spec] = self.workers.submit(train_student, pool_name, spec)
            elif _signature(attempt.candidate) in self.played:
                self._tell(attempt, self.played[_signature(attempt.candidate)])
            else:
                attempt.playing = self.workers.submit(play_team, attempt.candidate, self.search_seeds, False)

    def settle(self) -> None:
        """Wait a moment for tasks to end, and take in their results.

        Raises:
            KdnasError: something that no other candidate can escape: an ancestor that cannot be trained, a damaged
                bank, a folder that cannot be written.
        """
        futures = [*self.training.values(), *(item.playing for item in self.active if item.playing is not None)]
        ended = set(self.workers.wait(futures)) if futures else set()
        for key, future in list(self.training.items()):
            if future in ended:
                del self.training[key]
                error = future.exception()
                if error is None:
                    self.trained += 1
                    continue
                if _is_fatal(error) or (isinstance(error, KdnasError) and key[1] == key[1].dense):
                    result_of(future, f"training {key[1]}")
                said = failure_reason(error)  # a student's own error names it already
                self.broken[key] = said if isinstance(error, StudentError) else f"training {key[1]}: {said}"
        for attempt in [item for item in self.active if item.playing in ended]:
            assert attempt.playing is not None
            error = attempt.playing.exception()
            if error is not None and _is_fatal(error):
                result_of(attempt.playing, "playing a team")
            if error is not None:
                self._fail(attempt, failure_reason(error))
            else:
                self._tell(attempt, make_score(attempt.playing.result(), self.teacher_returns, self.random_returns))

    @property
    def busy(self) -> bool:
        """Some worker is at something."""
        return bool(self.training) or any(attempt.playing is not None for attempt in self.active)

    def withdraw(self) -> None:
        """Take back what no worker has begun."""
        for key, future in list(self.training.items()):
            if not future.running() and not future.done():
                future.cancel()
                del self.training[key]
        for attempt in self.active:
            if attempt.playing is not None and not attempt.playing.running() and not attempt.playing.done():
                attempt.playing.cancel()
                attempt.playing = None

    def abandon(self) -> None:
        """Give up what is not finished: such trials are asked again when the search goes on."""
        from optuna.trial import TrialState

        for attempt in self.active:
            attempt.trial.set_user_attr("interrupted", True)
            self.study.tell(attempt.trial, state=TrialState.FAIL)
        self.active = []

    def progress(self, total: int) -> Progress:
        return Progress(
            total=total,
            done=self.counts["done"],
            rejected=self.counts["rejected"],
            failed=self.counts["failed"],
            running=len(self.active),
            students=self.trained,
            best_retention=max((point[0] for point in self.points), default=float("nan")),
            hypervolume=hypervolume(self.points, self.gate.pricer.teacher_cost()),
            seconds=time.monotonic() - self.started,
        )

    def _missing(self, attempt: Attempt) -> list[Key]:
        """The next student to train for each group that is not ready: the eldest of its lineage that the bank lacks."""
        missing: dict[Key, None] = {}
        for group, spec in attempt.candidate.items():
            pool: Pool = self.setup.pools[group]
            lacking = [member for member in lineage(spec) if not self.bank.has(pool, member)]
            if lacking:
                missing[pool.name, lacking[0]] = None
        return list(missing)

    def _tell(self, attempt: Attempt, score: Score) -> None:
        team = attempt.verdict.cost.team
        objectives = (score.retention.mean, float(team.flops), float(team.memory_bytes))
        if not all(math.isfinite(value) for value in objectives):
            self._fail(attempt, f"its objectives are {objectives}")
            return
        attempt.trial.set_user_attr("score", score.as_json())
        self.study.tell(attempt.trial, list(objectives))
        self.remember(attempt.candidate, score, objectives)
        self.active.remove(attempt)

    def _fail(self, attempt: Attempt, reason: str) -> None:
        from optuna.trial import TrialState

        attempt.trial.set_user_attr("reason", reason)
        self.study.tell(attempt.trial, state=TrialState.FAIL)
        self.counts["failed"] += 1
        self.active.remove(attempt)


def _signature(candidate: Mapping[str, StudentSpec]) -> tuple[tuple[str, str], ...]:
    return tuple((group, spec.digest) for group, spec in sorted(candidate.items()))


def _is_fatal(error: BaseException) -> bool:
    """Whether no other candidate would fare better: not a student's own failure, and not a crash."""
    return isinstance(error, KdnasError | BrokenExecutor) and not isinstance(error, StudentError)
