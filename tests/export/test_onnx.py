from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import kdnas.export.onnx as exporter
from kdnas import plugins
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.export import OnnxExporter
from kdnas.export.graph import open_session
from kdnas.export.piece import trace
from kdnas.policies.actions import Discrete
from kdnas.policies.arrays import Floats
from kdnas.students.student import Normalisation

from .conftest import MakeStudent, MakeTeam

Observe = Callable[[int, int], Floats]
PAIR = {"pair": ("left", "right")}
FORMATS = ("float", "w8a8i8", "w4a8i8", "w2a4i4")


@pytest.mark.parametrize("bits", FORMATS)
def test_the_artifact_acts_as_its_students(
    bits: str, make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    team = make_team({"pair": make_student(bits)}, PAIR)
    rows = observe(3000, 18)
    artifact = OnnxExporter().export(team, tmp_path / "new", recorded={"pair": rows})
    assert artifact.files == ("team.onnx",)
    assert artifact.checked_rows == 3000
    assert artifact.agreed_rows >= 2999  # a hidden unit may be rounded the other way
    assert artifact.max_error < (1e-5 if bits == "float" else 0.1)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["team.onnx"]

    session = open_session((tmp_path / "new" / "team.onnx").read_bytes())
    one = {"left.observation": rows[:1], "right.observation": rows[1:2]}
    left, right = session.run(["left.logits", "right.logits"], one)
    want = team.students["pair"](torch.from_numpy(rows[:2])).detach().numpy()
    assert np.allclose(np.concatenate([left, right]), want, atol=1e-5)


@pytest.mark.parametrize("bits", FORMATS)
def test_exporting_leaves_the_student_as_it_was(
    bits: str, make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    student, rows = make_student(bits), observe(500, 18)
    before, states = student(torch.from_numpy(rows)).detach(), {k: v.clone() for k, v in student.state_dict().items()}
    OnnxExporter().export(make_team({"pair": student}, PAIR), tmp_path, recorded={"pair": rows})
    assert torch.equal(student(torch.from_numpy(rows)), before)
    assert all(torch.equal(value, states[name]) for name, value in student.state_dict().items())
    assert not any(getattr(module, "export_mode", False) for module in student.modules())
    student.train()(torch.from_numpy(rows)).sum().backward()  # it can still be trained
    assert all(weight.grad is not None for weight in student.parameters())


@pytest.mark.parametrize("bits", ["w8a8i8", "w4a4i4"])
def test_onnxruntime_computes_on_integers(
    bits: str, make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    team = make_team({"solo": make_student(bits)}, {"solo": ("agent",)})
    OnnxExporter().export(team, tmp_path, recorded={"solo": observe(100, 18)})
    open_session((tmp_path / "team.onnx").read_bytes(), optimised=str(tmp_path / "optimised.onnx"))
    operators = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    clipped = ["QuantizeLinear", "Clip", "QGemm", "Clip", "QGemm", "Clip", "QGemm", "ArgMax"]
    assert operators == [name for name in clipped if bits == "w4a4i4" or name != "Clip"]


def test_large_integers_do_not_saturate(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    student = make_student("w8a8i8")
    with torch.no_grad():  # all weights at the end of their range: sums of two products reach 2 * 127 * 255 = 64,770
        for linear in student.network.linears:
            linear.weight.copy_(linear.weight.sign() * 0.3)
    rows = np.abs(observe(2000, 18)) * 2
    artifact = OnnxExporter().export(make_team({"pair": student}, PAIR), tmp_path, recorded={"pair": rows})
    assert artifact.agreed_rows >= 1998


def test_agents_of_a_group_share_one_copy_of_the_weights(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    student, sizes = make_student(hidden=(64, 64)), []
    for agents in (("a",), ("a", "b", "c")):
        team = make_team({"herd": student}, {"herd": agents})
        OnnxExporter().export(team, tmp_path, recorded={"herd": observe(10, 18)})
        sizes.append((tmp_path / "team.onnx").stat().st_size)
    # Weights are 4 * (18*64 + 64*64 + 64*5) = 22,272 bytes; two more agents add nodes and names, not 44,544 bytes.
    assert sizes[0] > 22_272
    assert sizes[1] - sizes[0] < 4_000


def test_a_mixed_team_with_masks_and_normalisation(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    masked = AgentSpec(observation_size=6, actions=Discrete(4), masked=True)
    normalisation = Normalisation(shift=(0.5,) * 6, scale=(2.0,) * 6)
    team = make_team(
        {"drones": make_student("w4a8i8"), "scout": make_student("float", masked, (8,), normalisation)},
        # Agents named like the other's group: their values must not meet in the one graph.
        {"drones": ("scout", "b"), "scout": ("drones",)},
    )
    artifact = OnnxExporter().export(team, tmp_path, recorded={"drones": observe(300, 18), "scout": observe(200, 6)})
    assert (artifact.checked_rows, artifact.agreed_rows) == (500, 500)

    session = open_session((tmp_path / "team.onnx").read_bytes())
    rows, generator = observe(2000, 6), np.random.default_rng(1)
    mask = generator.random((2000, 4)) < 0.5
    mask[np.arange(2000), generator.integers(0, 4, 2000)] = True
    others = observe(2000, 18)
    feeds = {"scout.observation": others, "b.observation": others, "drones.observation": rows, "drones.mask": mask}
    actions, logits = session.run(["drones.action", "drones.logits"], feeds)
    assert mask[np.arange(2000), actions].all()
    batch = {"drones": others[:, None], "scout": rows[:, None]}
    want = team.act(batch, {"drones": None, "scout": mask[:, None]}, np.zeros((2000, 1), np.float32))
    assert (actions == want["scout"][:, 0]).all()
    assert np.allclose(logits, team.students["scout"].network(torch.from_numpy((rows - 0.5) * 2)).detach(), atol=1e-5)


def test_an_artifact_that_acts_otherwise_is_refused_and_not_left_behind(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, other = make_team({"pair": make_student("w4a8i8")}, PAIR), make_student("w4a8i8", hidden=(12,))
    monkeypatch.setattr(exporter, "trace", lambda student, size, group: trace(other, size, group=group))
    with pytest.raises(StudentError, match=r"on \d+ of 1000 recorded rows, 99.9% are needed"):
        OnnxExporter().export(team, tmp_path, recorded={"pair": observe(1000, 18)})
    assert list(tmp_path.iterdir()) == []


def test_recorded_observations_are_needed_for_every_group(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    team = make_team({"pair": make_student()}, PAIR)
    for recorded in ({}, {"pair": observe(0, 18)}, {"pair": observe(5, 17)}):
        with pytest.raises(StudentError, match=r"group 'pair' needs recorded observations \(rows, 18\)"):
            OnnxExporter().export(team, tmp_path, recorded=recorded)


def test_it_is_registered() -> None:
    assert plugins.load("kdnas.exporters", "onnx") is OnnxExporter
    assert OnnxExporter().name == "onnx"
