"""Student folders: weights, card and artifact of a team, written whole or not at all."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kdnas import plugins
from kdnas.errors import RunError
from kdnas.export.exporter import Artifact
from kdnas.policies.arrays import Floats
from kdnas.profiling.target import Target
from kdnas.students.bundle import group_cards, save_weights, write_card
from kdnas.students.card import ArtifactCard, Hashes, StudentCard, TargetCard
from kdnas.students.card_page import render_card
from kdnas.students.team import Team
from kdnas.study.front import Member
from kdnas.study.run_folder import RunFolder
from kdnas.study.setup import Setup
from kdnas.teachers.demonstrations import Demonstrations

FORMAT = "onnx"
"""The artifact in every student folder; `kdnas export --format` adds others."""

CHECKED_ROWS = 2000
"""Recorded observations of each group on which an artifact is compared with its students."""


def recorded_rows(setup: Setup, demonstrations: Demonstrations) -> dict[str, Floats]:
    """Group -> `CHECKED_ROWS` demonstrated views, spread over all episodes."""
    rows = {}
    for group, record in demonstrations.episodes(list(setup.spec.groups)).groups.items():
        views = record.rows.views
        picks = np.linspace(0, len(views) - 1, min(CHECKED_ROWS, len(views))).astype(np.int64)
        rows[group] = np.ascontiguousarray(views[picks])
    return rows


@dataclass(frozen=True, kw_only=True)
class Export:
    """The weights of a team and what was made of them, in a folder that has no card yet."""

    part: Path
    team: Team
    weights: str
    """Their hash."""
    artifacts: tuple[ArtifactCard, ...]
    device: TargetCard


def export_team(run: RunFolder, trial: int, team: Team, recorded: Mapping[str, Floats], device: TargetCard) -> Export:
    """Write the weights of a team beside its folder: as they are, as ONNX, and as students run on the target.

    Raises:
        RunError: the folder cannot be written.
        StudentError: an artifact does not agree with the students.
    """
    part = run.path / "students" / f"{trial:04d}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        forms = dict.fromkeys((FORMAT, device.exporter))
        artifacts = tuple(export_artifact(form, team, part, recorded) for form in forms)
        return Export(part=part, team=team, weights=save_weights(part, team), artifacts=artifacts, device=device)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise RunError(f"{part}: cannot be written: {error.strerror or error}; make room") from error
        raise


def deliver(setup: Setup, run: RunFolder, member: Member, export: Export, *, seeds: str = "final") -> Member:
    """Make `students/NNNN` of what was exported, with its card, and return the member with its path; `seeds` names
    those of its score. May be repeated when it fails.

    Raises:
        RunError: the folder cannot be written.
    """
    part, folder = export.part, export.part.with_suffix("")
    try:
        card = StudentCard(
            kdnas_version=version("kdnas"),
            environment=setup.spec.name,
            trial=member.trial,
            state_size=setup.spec.state_size,
            groups=group_cards(export.team),
            cost=_cost_json(member),
            score={**member.score.as_json(), "seeds": seeds},
            refinements=member.refinements,
            hindsight=member.hindsight,
            hashes=Hashes(
                teacher={group: setup.teacher.digest(group) for group in setup.spec.groups},
                study=hashlib.sha256(repr(sorted(run.identity.items())).encode()).hexdigest()[:16],
                weights=export.weights,
            ),
            target=export.device,
            artifacts=export.artifacts,
        )
        write_cards(part, card)
        if folder.exists():  # aside in one step: a folder is never seen half removed
            old = folder.with_name(f"{folder.name}.old.part")
            shutil.rmtree(old, ignore_errors=True)
            folder.replace(old)
        part.replace(folder)
        shutil.rmtree(folder.with_name(f"{folder.name}.old.part"), ignore_errors=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror or error}; make room") from error
    return replace(member, path=folder)


def export_artifact(form: str, team: Team, folder: Path, recorded: Mapping[str, Floats]) -> ArtifactCard:
    """Export a team into a folder, and say on a card what came out.

    Raises:
        StudentError: the exporter cannot hold the team, or what it wrote does not agree with it.
    """
    artifact: Artifact = plugins.load("kdnas.exporters", form)().export(team, folder, recorded=recorded)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in artifact.files}
    return ArtifactCard(format=form, hashes=hashes, **asdict(artifact))


def target_card(target: Target) -> TargetCard:
    """What the card of a student says of the target that it was measured on."""
    return TargetCard(
        name=target.name,
        exporter=target.exporter,
        fingerprint=target.fingerprint(),
        note=target.note,
    )


def write_cards(folder: Path, card: StudentCard) -> None:
    """Write `student.json` and the page that is made from it."""
    write_card(folder, card)
    (folder / "README.md").write_text(render_card(card), encoding="utf-8")


def _cost_json(member: Member) -> dict[str, Any]:
    whole = member.as_json()
    groups = {group: entry["cost"] for group, entry in whole["groups"].items()}
    compared = {key: whole[key] for key in ("worst_agent", "teacher")}
    return {**member.cost.team.as_json(), **compared, "groups": groups}
