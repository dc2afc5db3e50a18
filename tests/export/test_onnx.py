from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from scenes import scene_of
from torch import Tensor, nn

import kdnas.export.onnx as exporter
from kdnas import plugins
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.export import OnnxExporter
from kdnas.export.graph import open_session
from kdnas.export.piece import trace
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.policies.arrays import Floats
from kdnas.spaces.spec import StudentSpec
from kdnas.students.student import Normalisation, Student

from .conftest import MakeStudent, MakeTeam

Observe = Callable[[int, int], Floats]
PAIR = {"pair": ("left", "right")}
FORMATS = ("float", "w8a8i8", "w4a8i8", "w2a4i4", "w8-4-2a8-4i8", "w4a8i8p")


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
    left, right = session.run(["left.outputs", "right.outputs"], one)
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
    clipped = ["Mul", "QuantizeLinear", "Clip", "QGemm", "Clip", "QGemm", "Clip", "QGemm", "ArgMax"]
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
    actions, outputs = session.run(["drones.action", "drones.outputs"], feeds)
    assert mask[np.arange(2000), actions].all()
    pair = np.repeat(others[:, None], 2, 1)
    want = team.act(scene_of({"drones": pair, "scout": rows[:, None]}, {"scout": mask[:, None]}))
    assert (actions == want["scout"][:, 0]).all()
    assert np.allclose(outputs, team.students["scout"].network(torch.from_numpy((rows - 0.5) * 2)).detach(), atol=1e-5)


KINDS: dict[str, ActionSpace] = {
    "factors": MultiDiscrete((5, 10)),
    "clipped": Box((-0.3, -1.0, -float("inf")), (0.3, 0.0, 0.2)),
    "squashed": Box((-0.3, -1.0, 0.0), (0.3, 0.0, 5.0), squashed=True),
}


@pytest.mark.parametrize("bits", ["float", "w8a8i8"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_actions_agree_with_torch(
    kind: str, bits: str, make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    actions = KINDS[kind]
    spaces = AgentSpec(observation_size=6, actions=actions)
    team = make_team({"pair": make_student(bits, spaces)}, PAIR)
    rows = 3 * observe(1000, 6)
    artifact = OnnxExporter().export(team, tmp_path, recorded={"pair": rows})
    assert artifact.checked_rows == 1000
    assert artifact.agreed_rows >= 999
    assert artifact.max_error < (1e-5 if bits == "float" else 0.1)

    session = open_session((tmp_path / "team.onnx").read_bytes())
    names = ["left.action", "right.action", "left.outputs", "right.outputs"]
    left, right, *outputs = session.run(names, {"left.observation": rows, "right.observation": rows[::-1].copy()})
    want = team.act(scene_of({"pair": np.stack([rows, rows[::-1]], 1)}))["pair"]
    assert want.shape == (1000, 2, *actions.shape)
    assert (left.dtype, right.dtype) == (want.dtype, want.dtype)
    same = np.abs(np.stack([left, right], 1) - want).max(-1) < 1e-5
    assert same.mean() >= (1.0 if bits == "float" else 0.999)
    if isinstance(actions, Box):
        assert (left >= np.array(actions.low, np.float32)).all()
        assert (left <= np.array(actions.high, np.float32)).all()
        beyond = np.abs(outputs[0][:, 0]) > 0.4  # what it says before it is clipped to 0.3, or squashed to within
        assert beyond.mean() > 0.2
        assert (np.abs(left[beyond, 0]) == np.float32(0.3)).mean() == (0.0 if actions.squashed else 1.0)
    else:
        # Each factor is chosen within its own choices, and all of them are needed to say so.
        assert (left.min(0).tolist(), left[:, 0].max() <= 4, left[:, 1].max() <= 9) == ([0, 0], True, True)
        assert left[:, 1].max() > 4


def test_masks_of_several_factors_are_obeyed(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    spaces = AgentSpec(observation_size=6, actions=MultiDiscrete((2, 3)), masked=True)
    team = make_team({"solo": make_student("w8a8i8", spaces)}, {"solo": ("a",)})
    rows, generator = observe(2000, 6), np.random.default_rng(1)
    OnnxExporter().export(team, tmp_path, recorded={"solo": rows})
    mask = generator.random((2000, 5)) < 0.5
    mask[np.arange(2000), generator.integers(0, 2, 2000)] = True
    mask[np.arange(2000), 2 + generator.integers(0, 3, 2000)] = True
    session = open_session((tmp_path / "team.onnx").read_bytes())
    (actions,) = session.run(["a.action"], {"a.observation": rows, "a.mask": mask})
    assert mask[np.arange(2000), actions[:, 0]].all()
    assert mask[np.arange(2000), 2 + actions[:, 1]].all()
    want = team.act(scene_of({"solo": rows[:, None]}, {"solo": mask[:, None]}))["solo"][:, 0]
    assert (actions == want).all(1).mean() >= 0.999
    free = session.run(["a.action"], {"a.observation": rows, "a.mask": np.ones_like(mask)})[0]
    assert (actions != free).any(1).mean() > 0.4  # the masks forbid what it would have done


class _Counting(nn.Module):
    """Remembers the sum of what it has seen: h' = h + x, outputs 2 h'."""

    def forward(self, observations: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        following = hidden + observations
        return 2 * following, following


def test_what_is_remembered_goes_from_step_to_step(make_team: MakeTeam, observe: Observe, tmp_path: Path) -> None:
    spec = StudentSpec(family="mlp", base=(3,), hidden=(3,))
    student = Student(spec, AgentSpec(observation_size=3, actions=Discrete(3)), _Counting())
    student.hidden_size = 3  # of a family that is recurrent
    team = make_team({"pair": student}, PAIR)
    artifact = OnnxExporter().export(team, tmp_path, recorded={"pair": observe(100, 3)})
    assert (artifact.checked_rows, artifact.agreed_rows, artifact.max_error) == (100, 100, 0.0)
    session = open_session((tmp_path / "team.onnx").read_bytes())
    hidden = np.zeros((2, 3), np.float32)
    seen = np.array([[[1, 2, 0], [0, 0, 1]], [[0, 0, 9], [5, 0, 0]]], np.float32)
    names, actions = ["left.action", "left.outputs", "left.next_hidden"], []
    for rows in seen:
        feeds = {"left.observation": rows, "left.hidden": hidden, "right.observation": rows, "right.hidden": hidden}
        action, outputs, hidden = session.run(names, feeds)
        actions.append(action.tolist())
    # The first copy has seen (1, 2, 0), then (1, 2, 9) in all; the second (0, 0, 1), then (5, 0, 1).
    assert actions == [[1, 2], [2, 0]]
    assert hidden.tolist() == [[1, 2, 9], [5, 0, 1]]
    assert outputs.tolist() == [[2, 4, 18], [10, 0, 2]]


def test_an_artifact_that_acts_otherwise_is_refused_and_not_left_behind(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, other = make_team({"pair": make_student("w4a8i8")}, PAIR), make_student("w4a8i8", hidden=(12,))
    monkeypatch.setattr(exporter, "trace", lambda student, probe, group: trace(other, probe, group=group))
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


@pytest.mark.parametrize("bits", ["float", "w8a8i8", "w4a4i4"])
def test_inputs_that_never_change_are_fed_and_not_read(
    bits: str, make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    spaces = AgentSpec(observation_size=18, actions=Discrete(5), constant=(0, 15, 17))
    student = make_student(bits, spaces, normalisation=Normalisation(shift=(0.1,) * 15, scale=(1.5,) * 15))
    team, rows = make_team({"pair": student}, PAIR), observe(2000, 18)
    artifact = OnnxExporter().export(team, tmp_path, recorded={"pair": rows})
    assert artifact.agreed_rows >= 1998
    assert artifact.max_error < (1e-5 if bits == "float" else 0.2)
    session = open_session((tmp_path / "team.onnx").read_bytes())
    assert session.get_inputs()[0].shape == ["batch", 18]
    other = rows.copy()
    other[:, [0, 15, 17]] = 1e3
    left, right = session.run(["left.outputs", "right.outputs"], {"left.observation": rows, "right.observation": other})
    assert (left == right).all()
