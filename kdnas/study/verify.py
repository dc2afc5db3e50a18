"""Whether an exported artifact is what its card says: it is run itself, in the environment and where it is to run."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdnas import plugins
from kdnas.errors import KdnasError, RunError, StudentError
from kdnas.evaluation.score import Interval, bootstrap
from kdnas.export.exporter import AGREEMENT, SAME_ACTION, Opener
from kdnas.policies.arrays import Actions, Floats
from kdnas.policies.scene import Scene
from kdnas.policies.team_policy import TeamPolicy
from kdnas.profiling.memory import memory_bytes
from kdnas.profiling.target import Measurement
from kdnas.students.bundle import load_student
from kdnas.students.card import ArtifactCard, StudentCard
from kdnas.students.family import load_family, read_features
from kdnas.students.team import Team
from kdnas.study.evaluate import check_fits, played, study_of
from kdnas.study.remeasure import measure_student
from kdnas.study.setup import Setup, make_target
from kdnas.units import format_quantity

TIME_APART = 0.25
"""Share by which times may differ, after scaling with the reference kernel."""

REPEATS, ATTEMPTS = 5, 3
"""Measurements of a student, of which the median is compared as a multiple of the reference kernel's time beside it;
and how often it is repeated before times are said to differ, for another process disturbs one and not the other."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that a card says, and what was found."""

    what: str
    said: str
    found: str
    verdict: str
    """`agrees`, `differs`, or why it was not checked."""

    @property
    def differs(self) -> bool:
        return self.verdict == "differs"


def verify(
    path: Path, *, form: str | None = None, episodes: int | None = None, study: str | None = None
) -> list[Check]:
    """Check an artifact of a student folder against the card.

    Its files by their hashes, and nothing else where these differ; its actions against those of `load_student(path)`
    on the way; its return on the episodes of the card's score; its bytes; its time, scaled by the reference kernel.

    Args:
        path: a student folder.
        form: of the artifact; that of the target on which the students were measured, unless told otherwise.
        episodes: as many as the card's, unless told otherwise.
        study: for a folder outside its run.

    Raises:
        KdnasError: the folder cannot be read, does not fit the study, or holds no artifact of this form.
    """
    loaded = load_student(path)
    card, team = loaded.card, loaded.team
    setup = study_of(path, study)
    check_fits(str(path), team, setup)
    form = form or card.target.exporter
    artifact = next((each for each in card.artifacts if each.format == form), None)
    if artifact is None:
        held = ", ".join(each.format for each in card.artifacts) or "none"
        raise RunError(f"{path}: holds no {form!r} (but {held}); add it with kdnas export --format {form}")
    exporter = plugins.load("kdnas.exporters", form)()
    if not isinstance(exporter, Opener):
        raise RunError(f"{path}: the exporter {form!r} has no way to run what it wrote")
    files = _check_files(path, artifact)
    if files.differs:
        return [files]  # what is not the artifact of the card is not run
    acting = _Compared(exporter.open(path, team), team)
    score = Interval.from_json(card.score["return"])
    with played(setup, _seeds(setup, card, episodes or score.episodes)) as returns:
        found = bootstrap(returns(acting))
    return [
        files,
        _check_actions(acting),
        check_return(score, found),
        _check_memory(card, team),
        *_check_target(setup, card, team, acting.seen, path, form),
    ]


class _Compared:
    """A policy that plays, beside the students that it should act as."""

    def __init__(self, artifact: TeamPolicy, team: Team) -> None:
        self._artifact, self._team = artifact, team
        self.decisions, self.same = 0, 0
        self.seen: dict[str, Floats] = {}
        """Group -> views (rows, V) of the first step of the first episodes."""

    def act(self, scene: Scene) -> dict[str, Actions]:
        got, want = self._artifact.act(scene), self._team.act(scene)
        for group, alive in scene.alive.items():
            off = np.abs(got[group].astype(np.float64) - want[group]).reshape(*alive.shape, -1).max(-1)
            self.decisions += int(alive.sum())
            self.same += int((alive & (off <= SAME_ACTION)).sum())
            views = scene.views[group]
            self.seen.setdefault(group, np.asarray(views, np.float32).reshape(-1, views.shape[-1]))
        return got


def _seeds(setup: Setup, card: StudentCard, episodes: int) -> list[int]:
    """The first of the episodes that the card's score was taken on."""
    if card.score["seeds"] == "search":
        return setup.seeds.search(episodes)
    return setup.seeds.final(episodes)


def _check_files(path: Path, artifact: ArtifactCard) -> Check:
    changed = []
    for name, digest in artifact.hashes.items():
        try:
            same = hashlib.sha256((path / name).read_bytes()).hexdigest() == digest
        except OSError:
            same = False
        changed += [] if same else [name]
    found = f"changed: {', '.join(changed)}" if changed else "the same bytes"
    return _judge("files", ", ".join(artifact.files), found, not changed)


def _check_actions(acting: _Compared) -> Check:
    share = acting.same / max(acting.decisions, 1)
    said = f"those of the students, {AGREEMENT:.1%} or more"
    return _judge("actions", said, f"{acting.same:,} of {acting.decisions:,} ({share:.2%})", share >= AGREEMENT)


def check_return(said: Interval, found: Interval) -> Check:
    """Whether returns that were found may be those of a card."""
    # A few episodes may all return the same: each is as uncertain as one of the card's.
    half = (said.high - said.low) / 2 * math.sqrt(said.episodes / found.episodes)
    low, high = min(found.low, found.mean - half), max(found.high, found.mean + half)
    overlap = low <= said.high and said.low <= high
    return _judge("return", _interval(said), _interval(found), overlap)


def _check_memory(card: StudentCard, team: Team) -> Check:
    found = 0
    for group, student in team.students.items():
        inputs = student.spaces.inputs
        family = load_family(student.spec.family)
        features = read_features(family, inputs) if student.normalisation is not None else 0
        found += memory_bytes(family.layers(student.spec, inputs), features) * len(team.spec.groups[group])
    said = int(card.cost["memory_bytes"])
    return _judge("memory of the team", f"{said:,} B", f"{found:,} B", said == found)


def _check_target(
    setup: Setup, card: StudentCard, team: Team, seen: Mapping[str, Floats], path: Path, form: str
) -> Iterator[Check]:
    """What depends on the target: time, flash, RAM, and the artifact's own tests."""
    where = f"on {card.target.name}"
    try:
        target = make_target(setup.config.target.name, setup.config.target.kwargs)
        reason = target.missing()
        if target.name != card.target.name:
            reason = f"the study's target is {target.name}"
    except KdnasError as error:
        target, reason = None, str(error)
    if form != card.target.exporter:
        reason = f"{card.target.name} runs {card.target.exporter}"
    if target is None or reason:
        yield Check(what=f"time {where}", said="", found="", verdict=f"not checked: {reason}")
        return
    try:
        said, right = target.run_tests(path), True
    except StudentError as error:
        said, right = str(error), False
    if said:
        yield _judge(f"tests {where}", "no row is wrong", said, right)
    for group, student in team.students.items():
        said_s, reference_s = (card.cost["groups"][group]["latency_s"][name] for name in ("p50", "reference"))
        for _ in range(ATTEMPTS):
            measured = measure_student(target, student, seen[group], REPEATS)
            busy = measured.reference_s / reference_s if reference_s else math.inf
            if agrees := said_s > 0 and abs(measured.p50_s / busy / said_s - 1) <= TIME_APART:
                break
        found = f"{format_quantity(measured.p50_s, 'time')}, the reference kernel {busy:.2f} times as long"
        yield _judge(f"time of {group} {where}", f"{format_quantity(said_s, 'time')} (median)", found, agrees)
        if "flash" in target.metrics:
            yield from _check_sizes(card, group, measured)


def _check_sizes(card: StudentCard, group: str, measured: Measurement) -> Iterator[Check]:
    for name, found in (("flash", measured.flash_bytes), ("ram", measured.ram_bytes)):
        said = card.cost["groups"][group][f"{name}_bytes"]
        yield _judge(f"{name} of {group}", f"{said:,} B", f"{found:,} B", said == found)


def _judge(what: str, said: str, found: str, agrees: bool) -> Check:
    return Check(what=what, said=said, found=found, verdict="agrees" if agrees else "differs")


def _interval(interval: Any) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}], {interval.episodes} episodes"
