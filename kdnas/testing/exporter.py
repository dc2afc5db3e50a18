"""The contract of an exporter: see `kdnas.export.exporter.Exporter`."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from kdnas.compress.quantize import quantize
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import StudentError
from kdnas.export.exporter import Artifact, Exporter
from kdnas.policies.actions import Discrete
from kdnas.policies.arrays import Floats
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.student import Normalisation, Student
from kdnas.students.team import Team
from kdnas.testing.contract import contract, weights_of

SPEC = EnvSpec(
    name="check_exporter",
    agents={
        "scout_0": AgentSpec(observation_size=6, actions=Discrete(4)),
        "scout_1": AgentSpec(observation_size=6, actions=Discrete(4)),
        "base": AgentSpec(observation_size=3, actions=Discrete(3), masked=True),
    },
    groups={"scout": ("scout_0", "scout_1"), "base": ("base",)},
    state_size=15,
)
ROWS = {"scout": 200, "base": 120}
AGREEMENT = 0.99
"""Least share of the recorded rows on which an artifact acts as its students."""


def check_exporter(exporter: Exporter, folder: Path, *, family: str = "mlp") -> None:
    """Export small teams with two agents in one group and a masked one in another, in float and in integers.

    Args:
        exporter: an object of the class that is registered under `kdnas.exporters`.
        folder: an empty folder for the artifacts.
        family: the students that the teams are made of.

    Raises:
        AssertionError: students that were changed, files that are not where or not all that the artifact says, rows
            that were not compared, an artifact that acts differently or does not hold the weights, or something left
            behind by an export that failed. A team that the form cannot hold may end in StudentError, but not a plain
            one: float, without normalisation, and reading all that it sees.
    """
    with contract(f"exporter {getattr(exporter, 'name', type(exporter).__name__)!r}"):
        assert isinstance(exporter.name, str), f"its name is {type(exporter.name).__name__} and no text"
        contents = [
            _export(exporter, _team(family, seed=seed), folder / f"float-{seed}", must=True) for seed in range(2)
        ]
        assert contents[0] != contents[1], "teams of other weights have the same files; the weights are not in them"
        again = {path.name: path.read_bytes() for path in (folder / "float-0").iterdir() if path.is_file()}
        assert contents[0].items() <= again.items(), "exporting a second team changed the files of the first"
        normalised = Normalisation(shift=(0.5, -1.0, 0.0), scale=(2.0, 1.0, 0.5))
        _export(exporter, _team(family, normalisation=normalised), folder / "normalised")
        _export(exporter, _team(family, spec=replace(SPEC, constant={"scout": (0, 4)})), folder / "partial")
        _export(exporter, _team(family, bits="w8a8i8"), folder / "integers")


def _export(exporter: Exporter, team: Team, folder: Path, *, must: bool = False) -> dict[str, bytes]:
    """Export a team and check what comes out; the artifact's files and their content."""
    before = {group: weights_of(student) for group, student in team.students.items()}
    recorded = _recorded()
    try:
        artifact = exporter.export(team, folder, recorded=recorded)
    except StudentError:
        left = _files(folder)
        assert not left, f"a team that it refuses leaves {', '.join(left)} behind in {folder}"
        if must:
            raise
        return {}
    finally:
        for group, student in team.students.items():
            assert weights_of(student) == before[group], f"exporting changed the student of group {group!r}"
            modes = {module.training for module in student.modules()}
            assert modes == {False}, f"exporting left the student of group {group!r} in training mode"
    _check_artifact(artifact, folder, recorded)
    return {name: (folder / name).read_bytes() for name in artifact.files}


def _check_artifact(artifact: Artifact, folder: Path, recorded: Mapping[str, Floats]) -> None:
    assert isinstance(artifact, Artifact), f"export() returned {type(artifact).__name__} and not Artifact"
    assert artifact.files, "the artifact has no files"
    for name in artifact.files:
        path = folder / name
        assert not Path(name).is_absolute(), f"{name!r} is not relative to the folder"
        assert path.resolve().is_relative_to(folder.resolve()), f"{name!r} lies outside the folder"
        assert path.is_file(), f"the artifact names {name!r}, but no such file was written"
        assert path.stat().st_size, f"{name!r} is empty"
    unnamed = sorted(set(_files(folder)) - {Path(name).as_posix() for name in artifact.files})
    assert not unnamed, f"{', '.join(unnamed)} was written, but the artifact does not name it"
    rows = sum(len(observations) for observations in recorded.values())
    assert artifact.checked_rows == rows, f"{rows} rows were recorded, and it was checked on {artifact.checked_rows}"
    assert AGREEMENT * rows <= artifact.agreed_rows <= rows, (
        f"it acts as its students on {artifact.agreed_rows} of {rows} rows; {AGREEMENT:.0%} are needed"
    )
    error = artifact.max_error
    assert math.isfinite(error), f"the largest difference of a logit is {error}"
    assert error >= 0, f"the largest difference of a logit is {error}"


def _team(
    family: str,
    *,
    seed: int = 0,
    bits: str = "float",
    normalisation: Normalisation | None = None,
    spec: EnvSpec = SPEC,
) -> Team:
    """Fresh students; only the second group is normalised."""
    students = {}
    for group in spec.groups:
        spaces, generator = spec.student_spec(group), torch.Generator().manual_seed(seed)
        shape = StudentSpec(family=family, base=(12, 8), hidden=(12, 8), bits=parse_bits(bits))
        network = load_family(family).build(shape.floating, spaces.inputs, generator)
        student = Student(shape.floating, spaces, network, normalisation if group == "base" else None)
        if shape.bits.quantized:
            student = quantize(student, shape, load_family(family), [torch.from_numpy(_recorded()[group])])
        students[group] = student.eval()
    return Team(spec, students)


def _recorded() -> dict[str, Floats]:
    generator = np.random.default_rng(0)
    return {
        group: generator.standard_normal((rows, SPEC.student_spec(group).observation_size), dtype=np.float32)
        for group, rows in ROWS.items()
    }


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
