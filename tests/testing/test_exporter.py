"""The contract of exporters passes on every built-in, and fails on those that break it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kdnas
from kdnas import plugins
from kdnas.errors import StudentError
from kdnas.export.exporter import Artifact
from kdnas.export.onnx import OnnxExporter
from kdnas.policies.arrays import Floats
from kdnas.students.team import Team
from kdnas.testing import check_exporter


@pytest.mark.parametrize("name", sorted(plugins.installed("kdnas.exporters")))
def test_built_in_exporters(name, tmp_path):
    check_exporter(plugins.load("kdnas.exporters", name)(), tmp_path)


class Good(OnnxExporter):
    """`change` sees what a good export has returned."""

    def export(self, team: Team, folder: Path, *, recorded: Mapping[str, Floats]) -> Artifact:
        return self.change(super().export(team, folder, recorded=recorded), team, folder)

    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        return artifact


class Absent(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        return replace(artifact, files=("team.bin",))


class Untidy(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        (folder / "team.part").write_text("half")
        return artifact


class Outside(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        (folder / "team.onnx").replace(folder.parent / "team.onnx")
        return replace(artifact, files=("../team.onnx",))


class Unchecked(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        return replace(artifact, checked_rows=1, agreed_rows=1)


class Disagreeing(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        return replace(artifact, agreed_rows=artifact.agreed_rows // 2)


class Unmeasured(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        return replace(artifact, max_error=float("nan"))


class Empty(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        (folder / "team.onnx").write_bytes(b"the same for all")
        return artifact


class Training(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        team.students["scout"].train()
        return artifact


class Nudging(Good):
    def change(self, artifact: Artifact, team: Team, folder: Path) -> Artifact:
        with torch.no_grad():
            next(team.students["base"].parameters()).add_(1e-6)
        return artifact


class Litter(OnnxExporter):
    """Fails on integers, half-way."""

    def export(self, team: Team, folder: Path, *, recorded: Mapping[str, Floats]) -> Artifact:
        if any(student.spec.bits.quantized for student in team.students.values()):
            folder.mkdir()
            (folder / "team.onnx").write_text("half")
            raise StudentError("no integers here")
        return super().export(team, folder, recorded=recorded)


class Refusing(OnnxExporter):
    def export(self, team: Team, folder: Path, *, recorded: Mapping[str, Floats]) -> Artifact:
        raise StudentError("nothing can be held")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Absent, "the artifact names 'team.bin', but no such file was written"),
        (Untidy, "team.part was written, but the artifact does not name it"),
        (Outside, "'../team.onnx' lies outside the folder"),
        (Unchecked, "320 rows were recorded, and it was checked on 1"),
        (Disagreeing, "it acts as its students on 160 of 320 rows; 99% are needed"),
        (Unmeasured, "the largest difference of a logit is nan"),
        (Empty, "teams of other weights have the same files"),
        (Training, "exporting left the student of group 'scout' in training mode"),
        (Nudging, "exporting changed the student of group 'base'"),
        (Litter, "a team that it refuses leaves team.onnx behind"),
        (Refusing, "nothing can be held"),
    ],
)
def test_an_exporter_that_breaks_the_contract(said_by, tmp_path, kind, said):
    assert said in said_by(check_exporter, kind(), tmp_path)


def test_nothing_here_needs_pytest():
    folder = Path(kdnas.__file__).parent / "testing"
    assert [file.name for file in folder.glob("*.py") if "import pytest" in file.read_text(encoding="utf-8")] == []
