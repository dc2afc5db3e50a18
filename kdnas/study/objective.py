"""The one place where all stages meet: ask, price, gate, bank, race, play, tell."""

import math
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kdnas.errors import StudentError
from kdnas.evaluation.score import make_score
from kdnas.evaluation.sequential import Outlook, judge, stages
from kdnas.study.asking import Asking
from kdnas.study.attempt import Attempt, Lost, Played, signature
from kdnas.study.drafts import Drafts
from kdnas.study.field import Field
from kdnas.study.front import hypervolume
from kdnas.study.gate import Gate
from kdnas.study.prediction import fit_correction, prediction_error
from kdnas.study.race import Standing
from kdnas.study.returns import ReturnsFolder, team_name
from kdnas.study.schooling import Schooling, is_fatal
from kdnas.study.setup import Setup
from kdnas.study.stopwatch import Stopwatch
from kdnas.study.tasks import play_team
from kdnas.study.teams import Teams
from kdnas.study.watch import Progress
from kdnas.study.workers import Workers, failure_reason, result_of


@dataclass(kw_only=True)
class Objective:
    """Takes trials from `ask` to `tell`; the coordinator calls `ask`, `advance` and `settle` in turn.

    A trial's rungs are its students' recovery, where it is judged by the sum of their losses among teachers, and then
    its own episodes. Whoever wins at a rung (`study/race`) goes on; losers end as PRUNED with what they had reached.
    """

    setup: Setup
    drafts: Drafts
    gate: Gate
    workers: Workers
    schooling: Schooling
    asking: Asking
    kept: ReturnsFolder
    """Returns of teams."""
    started: float = field(default_factory=time.monotonic)
    active: dict[int, Attempt] = field(default_factory=dict)
    """By trial number, in the order in which they were asked."""
    teams: Teams = field(default_factory=Teams)
    counts: dict[str, int] = field(default_factory=lambda: {"done": 0, "rejected": 0, "outraced": 0, "failed": 0})
    before: int = 0
    """Trials that an earlier part of this search ended."""
    storing: Stopwatch = field(default_factory=Stopwatch)
    """Time in the sampler, the proposer and the storage."""

    def __post_init__(self) -> None:
        table = self.setup.config.evaluation
        self.field = Field(reduction=self.setup.config.search.reduction)
        teacher, random = self.schooling.losses.teacher, self.schooling.losses.random
        counts = stages(len(teacher), min(table.first_episodes, len(teacher)))
        # Where rewards are rare, the teacher may be no better than random play in the first episodes.
        self.stages = [count for count in counts if teacher[:count].mean() > random[:count].mean()]

    @property
    def last_rung(self) -> int:
        return len(self.setup.config.distill.rungs) - 1

    def remember(self, played: Played) -> None:
        """Take in a team that was played: in an earlier part of this search, or just now."""
        self.counts["done"] += 1
        if not self.teams.remember(played):
            return
        teams = list(self.teams.played.values())
        predicted = np.array([team.predicted for team in teams])
        scored = np.array([team.score.retention.mean for team in teams])
        correction = fit_correction(predicted, scored)
        self.asking.correction = correction
        self.field.margin = correction.error if correction else prediction_error(predicted, scored)

    def ask(self) -> None:
        """Ask for one candidate, price it, and set every constraint; an infeasible one ends here as PRUNED."""
        from optuna.trial import TrialState

        active = [attempt.candidate for attempt in self.active.values()]
        with self.storing:
            draft = self.asking.next_draft(self.teams.played, active, self.teams.hopeless(self.last_rung))
            candidate = self.setup.space.sample(draft)
        specs = {group: str(spec) for group, spec in candidate.items()}
        try:
            verdict = self.gate.judge(candidate, measure_all=True)
        except StudentError as error:  # the target cannot run it, or was not there
            with self.storing:
                self.drafts.store(draft, {}, {"candidate": specs, "reason": str(error)}, TrialState.FAIL)
            self.teams.failed.append(candidate)
            self.counts["failed"] += 1
            return
        notes: dict[str, Any] = {"candidate": specs, "cost": verdict.price}
        if not verdict.feasible:
            notes |= {"reason": verdict.reason, "ended": "rejected"}
            with self.storing:
                self.drafts.store(draft, verdict.violations, notes, TrialState.PRUNED)
            self.counts["rejected"] += 1
            return
        with self.storing:
            trial = self.drafts.store(draft, verdict.violations, notes)
        rung = min(self.schooling.rung(group, spec) for group, spec in candidate.items())
        attempt = Attempt(draft=draft, trial=trial, candidate=candidate, verdict=verdict, rung=rung)
        if not self._end_known(attempt):
            self.active[attempt.number] = attempt

    def advance(self) -> None:
        """Hand out whatever can be done now, and let those go on that have won their rung."""
        for number in list(self.active):
            attempt = self.active.get(number)
            if attempt is None:
                continue  # one before it has just sent it home
            if attempt.playing is None and not self._end_known(attempt) and not attempt.waits:
                self._school(attempt)
        while self.has_room and (winner := self._winner()) is not None:
            self.field.go_on(winner.rung, winner.number)
            winner.rung, winner.waits = winner.rung + 1, False
            self._school(winner)

    def settle(self) -> None:
        """Wait a moment for a task to end, and take in its result.

        One at a time, and the one that was submitted first: one worker ends its tasks in that order, so that a search
        with one worker goes the same way each time, however many have ended before they are looked at.

        Raises:
            KdnasError: something that no other candidate can escape: a group's last ancestor cannot be trained, the
                bank is damaged, a folder cannot be written, the environment fails the teacher.
        """
        plays = {attempt.playing: attempt for attempt in self.active.values() if attempt.playing is not None}
        under_way = [*self.schooling.futures(), *plays]
        ended = self.workers.wait(under_way) if under_way else []
        if not ended:
            return
        first = ended[0]
        if first in plays:
            self._end_play(plays[first], first)
        else:
            self.schooling.settle(first)

    @property
    def busy(self) -> bool:
        """Some worker is at something."""
        return bool(self.schooling.futures()) or any(item.playing is not None for item in self.active.values())

    @property
    def asked(self) -> int:
        """Trials that ended or are on their way."""
        return sum(self.counts.values()) + len(self.active)

    @property
    def has_room(self) -> bool:
        """Whether fewer trials keep the workers busy than there are, and one to come next."""
        return sum(not attempt.waits for attempt in self.active.values()) <= self.workers.count

    def withdraw(self) -> None:
        """Take back what no worker has begun."""
        self.schooling.withdraw()
        for attempt in self.active.values():
            playing = attempt.playing
            if playing is not None and not playing.running() and not playing.done():
                playing.cancel()
                attempt.playing = None

    def end_race(self) -> None:
        """Nobody else comes: those who wait have lost."""
        for attempt in list(self.active.values()):
            if attempt.waits:
                self._outrace(attempt)

    def abandon(self) -> None:
        """Give up what is not finished: such trials are asked again when the search goes on."""
        from optuna.trial import TrialState

        for attempt in self.active.values():
            attempt.trial.set_user_attr("interrupted", True)
            attempt.note_rungs()
            self.drafts.tell(attempt.draft, attempt.trial, state=TrialState.FAIL)
        self.active = {}

    def progress(self, total: int) -> Progress:
        return Progress(
            total=total,
            before=self.before,
            **self.counts,
            running=len(self.active),
            trainings=self.schooling.trained,
            best_retention=max((point[0] for point in self.teams.points), default=float("nan")),
            hypervolume=hypervolume(self.teams.points, self.gate.pricer.teacher_cost()),
            seconds=time.monotonic() - self.started,
        )

    def _end_known(self, attempt: Attempt) -> bool:
        """End a trial whose team came to its end in another one: played, or lost where this one stands."""
        team = signature(attempt.candidate)
        lost = self.teams.lost.get(team)
        if team in self.teams.played:
            self._tell(attempt, self.teams.played[team])
        elif lost is not None and attempt.rung <= lost.rung:
            self._drop(attempt, lost.reason)
        else:
            return False
        return True

    def _school(self, attempt: Attempt) -> None:
        """Have its students brought to its rung; those that are there already carry it on to theirs."""
        reason = self.schooling.request(attempt.candidate, attempt.rung)
        if reason is not None:
            self._fail(attempt, reason)
            return
        if not self.schooling.ready(attempt.candidate, attempt.rung):
            return
        predicted = self.schooling.predict(attempt.candidate, attempt.rung)
        attempt.predicted[attempt.rung] = predicted
        attempt.judged_at[attempt.rung] = time.time()
        if attempt.rung == self.last_rung:
            self._play(attempt)
            return
        attempt.waits = True
        self.field.enter(attempt.rung, Standing(trial=attempt.number, objectives=attempt.objectives(predicted)))
        for number in self.field.hopeless(attempt.rung):
            if number in self.active and self.active[number].waits:
                self._outrace(self.active[number])

    def _winner(self) -> Attempt | None:
        """The best trial of the highest rung that may go on."""
        for rung in range(self.last_rung - 1, -1, -1):
            for number in self.field.may_go_on(rung):
                if number in self.active and self.active[number].waits:
                    return self.active[number]
        return None

    def _play(self, attempt: Attempt) -> None:
        team = signature(attempt.candidate)
        if any(other.playing is not None and signature(other.candidate) == team for other in self.active.values()):
            return  # the same team plays already, for another trial
        begin = self.stages[attempt.stage - 1] if attempt.stage else 0
        seeds = self.schooling.seeds[begin : self.stages[attempt.stage]]
        players = {group: self.schooling.bank.last(spec) for group, spec in attempt.candidate.items()}
        attempt.playing = self.workers.submit(play_team, players, seeds, False)

    def _end_play(self, attempt: Attempt, future: "Future[Any]") -> None:
        attempt.playing = None
        error = future.exception()
        if error is not None and is_fatal(error):
            result_of(future, "playing a team")
        if error is not None:
            self._fail(attempt, failure_reason(error))
            return
        attempt.parts.append(future.result())
        attempt.stage += 1
        team = attempt.verdict.cost.team
        outlook = judge(attempt.returns, team.flops, team.memory_bytes, self.teams.rivals, looks=len(self.stages))
        if outlook is Outlook.OPEN and attempt.stage < len(self.stages):
            self._play(attempt)
            return
        losses, episodes = self.schooling.losses, len(attempt.returns)
        score = make_score(attempt.returns, losses.teacher[:episodes], losses.random[:episodes])
        objectives = attempt.objectives(score.retention.mean)
        if not all(math.isfinite(value) for value in objectives):
            self._fail(attempt, f"its objectives are {objectives}")
            return
        if outlook is Outlook.DOMINATED and attempt.stage < len(self.stages):
            attempt.trial.set_user_attr("score", score.as_json())
            self._drop(attempt, f"after {episodes} episodes, a team that costs no more plays clearly better")
            return
        self._tell(
            attempt,
            Played(
                candidate=attempt.candidate,
                score=score,
                objectives=objectives,
                returns=attempt.returns,
                predicted=self.schooling.predict(attempt.candidate, self.last_rung, episodes),
            ),
        )

    def _tell(self, attempt: Attempt, played: Played) -> None:
        self.kept.keep(team_name(attempt.number), played.returns)  # of each trial that is told, whoever played them
        with self.storing:
            attempt.trial.set_user_attr("score", played.score.as_json())
            attempt.trial.set_user_attr("predicted", played.predicted)
            attempt.trial.set_user_attr("losses", self.schooling.losses_of(attempt.candidate))
            attempt.note_rungs()
            self.drafts.tell(attempt.draft, attempt.trial, list(played.objectives))
        self.active.pop(attempt.number, None)
        self.remember(played)

    def _outrace(self, attempt: Attempt) -> None:
        others = len(self.field.standings[attempt.rung])
        self._drop(attempt, f"left behind at rung {attempt.rung} by some of {others} trials")

    def _drop(self, attempt: Attempt, reason: str) -> None:
        """End a trial that was outraced as PRUNED, with how far it had come."""
        from optuna.trial import TrialState

        with self.storing:
            attempt.trial.set_user_attr("reason", reason)
            attempt.trial.set_user_attr("ended", "outraced")
            attempt.note_rungs()
            self.drafts.tell(attempt.draft, attempt.trial, state=TrialState.PRUNED)
        self.counts["outraced"] += 1
        self.active.pop(attempt.number, None)
        if attempt.predicted:  # not one that was known to lose
            self.teams.lose(Lost(candidate=attempt.candidate, reason=reason, rung=attempt.rung))

    def _fail(self, attempt: Attempt, reason: str) -> None:
        from optuna.trial import TrialState

        attempt.trial.set_user_attr("reason", reason)
        self.drafts.tell(attempt.draft, attempt.trial, state=TrialState.FAIL)
        self.teams.failed.append(attempt.candidate)
        self.counts["failed"] += 1
        self.active.pop(attempt.number, None)
