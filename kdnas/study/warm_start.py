"""`WarmStart`: what a search can take over from an earlier run, which is only read."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdnas.distill.bank import StudentBank
from kdnas.distill.pool import Pool
from kdnas.distill.stage import Stage
from kdnas.errors import RunError
from kdnas.profiling.target import Measurement, Target
from kdnas.spaces.space import Candidate, make_space
from kdnas.spaces.spec import StudentSpec
from kdnas.study.device_profile import known_measurements
from kdnas.study.drafts import Drafts
from kdnas.study.front import non_dominated, read_front
from kdnas.study.gate import Gate
from kdnas.study.returns import Returns, ReturnsFolder
from kdnas.study.run_folder import STORAGE_FILE, differences, identify, read_run, reopen_study
from kdnas.study.schooling import alone_name
from kdnas.study.setup import Setup
from kdnas.study.storage import read_trials
from kdnas.study.tasks import make_bank


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What an earlier run has that a new search names in the same way."""

    run: Path
    bank: StudentBank
    """The run's, addressed as the new search does."""
    students: tuple[tuple[Pool, Stage], ...]
    """Ancestors among them."""
    returns: Mapping[str, Returns]
    """Name -> returns of a student among teachers."""
    measured: Mapping[str, Measurement]
    teams: tuple[Candidate, ...]
    """Of its front, the highest retention first."""

    def hand_over(self, bank: StudentBank, returns: ReturnsFolder) -> "list[tuple[Pool, Stage]]":
        """Copy students and returns that the new run lacks; gives the students.

        Raises:
            RunError: the new run cannot be written.
        """
        lacking = [(pool, stage) for pool, stage in self.students if not bank.has(pool, stage)]
        for pool, stage in lacking:
            bank.copy_from(self.bank, pool, stage)
        for name, kept in self.returns.items():
            if not returns.has(name):
                returns.keep(name, kept)
        return lacking

    def enqueue(self, drafts: Drafts, setup: Setup, gate: Gate) -> int:
        """Have those teams asked that are in the space and budget, and that were not tried; says how many."""
        teams = [team for team in self.teams if is_in_space(team, setup) and gate.judge(team).feasible]
        return drafts.enqueue_new([setup.space.parameters(team) for team in teams])

    def describe(self, students: "list[tuple[Pool, Stage]]", teams: int) -> str:
        """One sentence on what was taken over: a student counts once, however many of its rungs there are."""
        shapes = {(pool.name, stage.spec, stage.is_ancestor) for pool, stage in students}
        ancestors = sum(is_ancestor for _, _, is_ancestor in shapes)
        counts = {
            "ancestor": ancestors,
            "student": len(shapes) - ancestors,
            "measurement": len(self.measured),
            "team": teams,
        }
        if not any(counts.values()):
            return f"warm start from {self.run}: everything is here already"
        told = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())
        return f"warm start from {self.run}: {told}"


def find_warm_start(run: Path, setup: Setup, target: Target) -> WarmStart:
    """Look through an earlier run for what a setup, its constant features known, can use.

    Students must be of the same environment, teacher, view, recipe and seed, as their addresses say, and what the
    setup's space names or comes of that; returns among teachers also of the same search episodes; measurements of the
    same target on the same device.

    Raises:
        RunError: it is no run, is damaged, or has nothing that can be used.
    """
    was, now = read_run(run)["identity"], identify(setup)
    bank = make_bank(setup, run)
    students = [
        (pool, stage)
        for pool in {pool.name: pool for pool in setup.pools.values()}.values()
        for stage in _named(setup, pool, bank.stages(pool))
        if _is_whole(bank, pool, stage)
    ]
    changed = differences(was, now, ("env.", "observe.", "teacher", "distill.", "seed"))
    if changed and not students:
        raise RunError(f"{run}: nothing of it can be used here ({'; '.join(changed)}); leave out --warm-start")
    alike = not differences(was, now, ("teacher", "seed", "evaluation.search_episodes"))
    warm = WarmStart(
        run=run,
        bank=bank,
        students=tuple(students),
        returns=_returns(run, setup, bank, students) if alike else {},
        measured=known_measurements(run, target).measured,
        teams=_front(run, setup),
    )
    if not students and not warm.measured and not any(is_in_space(team, setup) for team in warm.teams):
        raise RunError(f"{run}: nothing of it can be used here, where students are others; leave out --warm-start")
    return warm


def is_in_space(team: Candidate, setup: Setup) -> bool:
    """Whether a team is a candidate of a setup's space."""
    groups = setup.space.groups
    return team.keys() == groups.keys() and all(spec in groups[group].parameters for group, spec in team.items())


def _named(setup: Setup, pool: Pool, stages: list[Stage]) -> list[Stage]:
    """Those of a pool's stages that a space has, that its students come of, or, where relatives count, that may be."""
    own = {spec for group in pool.groups for spec in setup.space.groups[group].parameters}
    named = own | {spec.floating for spec in own} | {spec.dense for spec in own}
    related = setup.config.distill.relatives

    def is_related(spec: StudentSpec) -> bool:
        return related and not spec.bits.quantized and spec.dense in named

    return [stage for stage in stages if stage.spec in named or is_related(stage.spec)]


def _is_whole(bank: StudentBank, pool: Pool, stage: Stage) -> bool:
    try:
        bank.load_snapshot(pool, stage)
    except RunError:  # it is trained anew
        return False
    return True


def _returns(run: Path, setup: Setup, bank: StudentBank, students: list[tuple[Pool, Stage]]) -> dict[str, Returns]:
    """Name -> returns of students among teachers; damaged ones are passed over, and played anew."""
    kept, found = ReturnsFolder(run / "returns"), {}
    for name in (alone_name(bank, pool, group, stage) for pool, stage in students for group in pool.groups):
        if kept.has(name):
            with suppress(RunError):
                found[name] = kept.load(name)
    whole = (setup.config.evaluation.search_episodes,)
    return {name: returns for name, returns in found.items() if returns.shape == whole and np.isfinite(returns).all()}


def _front(run: Path, setup: Setup) -> tuple[Candidate, ...]:
    """The teams of a run's front; of one that has not ended, of its trials so far.

    Raises:
        RunError: the front or the study of the run is damaged.
    """
    if (run / "front.json").exists():
        return tuple(member.candidate for member in read_front(run / "front.json"))
    import optuna

    space = make_space(reopen_study(run).space, list(setup.spec.groups))
    space = space.seeing({group: own.features for group, own in setup.space.groups.items()})
    complete = [trial for trial in _trials(run) if trial.values]
    best = [complete[place] for place in non_dominated([tuple(trial.values) for trial in complete])]
    return tuple(
        space.sample(optuna.trial.FixedTrial(trial.params))
        for trial in sorted(best, key=lambda trial: (-trial.values[0], trial.number))
    )


def _trials(run: Path) -> list[Any]:
    """The trials of a run; its own SQLite file is copied first, since whoever opens such a file may write to it."""
    card = read_run(run)
    name = f"kdnas-{card['run_id']}"
    with tempfile.TemporaryDirectory() as folder:
        for path in (run / STORAGE_FILE, run / f"{STORAGE_FILE}-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(path, folder)
        own = f"sqlite:///{run.resolve() / STORAGE_FILE}"
        url = f"sqlite:///{Path(folder) / STORAGE_FILE}" if card["storage"] == own else card["storage"]
        try:
            return read_trials(url, name)
        except RunError:  # its students are worth a warm start without its front
            return []
