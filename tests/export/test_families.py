"""Students that are no chains of layers act in onnxruntime as they do in torch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdnas.compress.quantize import quantize
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.export import OnnxExporter
from kdnas.export.graph import open_session
from kdnas.policies.actions import Discrete
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.student import Normalisation, Student
from kdnas.students.team import Team

from .conftest import MakeTeam

ENTITIES = Entities(
    own=(0, 1, 2, 3),
    sets=(
        EntitySet(name="landmarks", members=((4, 5), (6, 7), (8, 9))),
        EntitySet(name="others", members=((10, 11), (12, 13))),
    ),
)
SPACES = AgentSpec(observation_size=18, actions=Discrete(5), entities=ENTITIES, masked=True)
TRACKS = torch.randn(32, 10, 18, generator=torch.Generator().manual_seed(1))
FORMATS = ["float", "w8a8i8", "w4a4i4"]


def make(family: str, bits: str, spaces: AgentSpec = SPACES) -> Student:
    known, widths, inputs = load_family(family), (16, 12), len(spaces.kept) if spaces.pruned else None
    spec = StudentSpec(family=family, base=widths, hidden=widths, bits=parse_bits(bits), inputs=inputs)
    network = known.build(spec.floating, spaces.inputs, torch.Generator().manual_seed(0))
    features = len(spaces.kept)
    normalisation = Normalisation(shift=(0.1,) * features, scale=(1.5,) * features)
    student = Student(spec.floating, spaces, network, normalisation)
    return (quantize(student, spec, known, [TRACKS]) if spec.bits.quantized else student).eval()


@pytest.mark.parametrize("family", ["deepset", "gru"])
@pytest.mark.parametrize("bits", FORMATS)
@pytest.mark.parametrize("constant", [(), (1, 14, 15, 17)])
def test_the_artifact_acts_as_its_students(
    family: str, bits: str, constant: tuple[int, ...], make_team: MakeTeam, tmp_path: Path
) -> None:
    team = make_team({"pair": make(family, bits, replace(SPACES, constant=constant))}, {"pair": ("left", "right")})
    rows = TRACKS.flatten(0, 1).numpy()
    artifact = OnnxExporter().export(team, tmp_path, recorded={"pair": rows})
    assert artifact.checked_rows == 320
    assert artifact.agreed_rows >= 319  # a number halfway between two integers may be rounded the other way
    assert artifact.max_error < (1e-5 if bits == "float" else 0.5)


@pytest.mark.parametrize("family", ["mlp", "mlp_softsign", "gru"])
@pytest.mark.parametrize("bits", FORMATS)
def test_inputs_that_students_were_pruned_of_are_fed_and_not_read(
    family: str, bits: str, make_team: MakeTeam, tmp_path: Path
) -> None:
    spaces = replace(SPACES, constant=(14, 15), pruned=(0, 4, 9, 16), masked=False)
    team = make_team({"pair": make(family, bits, spaces)}, {"pair": ("left", "right")})
    rows = TRACKS.flatten(0, 1).numpy()
    artifact = OnnxExporter().export(team, tmp_path, recorded={"pair": rows})
    assert artifact.agreed_rows >= 319
    assert artifact.max_error < (1e-5 if bits == "float" else 0.5)
    session = open_session((tmp_path / "team.onnx").read_bytes())
    assert session.get_inputs()[0].shape == ["batch", 18]
    other = rows.copy()
    other[:, [0, 4, 9, 14, 15, 16]] = 1e3
    feeds = {"left.observation": rows, "right.observation": other}
    if family == "gru":
        feeds |= dict.fromkeys(("left.hidden", "right.hidden"), np.zeros((320, 12), np.float32))
    left, right = session.run(["left.outputs", "right.outputs"], feeds)
    assert (left == right).all()


@torch.no_grad()
@pytest.mark.parametrize("bits", FORMATS)
def test_a_gru_acts_through_whole_episodes(bits: str, make_team: MakeTeam, tmp_path: Path) -> None:
    """Its own hidden states, and not the student's, go from step to step."""
    student = make("gru", bits)
    team: Team = make_team({"solo": student}, {"solo": ("a",)})
    OnnxExporter().export(team, tmp_path, recorded={"solo": TRACKS[:, 0].numpy()})
    session = open_session((tmp_path / "team.onnx").read_bytes())
    hidden, agreed = np.zeros((32, 12), np.float32), []
    actions = student(TRACKS).argmax(-1)
    for step, seen in enumerate(TRACKS.unbind(1)):
        feeds = {"a.observation": seen.numpy(), "a.hidden": hidden, "a.mask": np.ones((32, 5), np.bool_)}
        action, hidden = session.run(["a.action", "a.next_hidden"], feeds)
        agreed.append(action == actions[:, step].numpy())
    assert np.mean(agreed) >= 0.99  # one state that is rounded otherwise is remembered


def test_a_quantized_gru_multiplies_integers(make_team: MakeTeam, tmp_path: Path) -> None:
    import onnx

    team = make_team({"solo": make("gru", "w8a8i8")}, {"solo": ("a",)})
    OnnxExporter().export(team, tmp_path, recorded={"solo": TRACKS[:, 0].numpy()})
    open_session((tmp_path / "team.onnx").read_bytes(), optimised=str(tmp_path / "optimised.onnx"))
    operators = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    # Encoder, both matrices of the cell, head; gates in float, each split once.
    assert (operators.count("QGemm"), operators.count("Gemm"), operators.count("Split")) == (4, 0, 3)
    assert (operators.count("Sigmoid"), operators.count("Tanh"), operators.count("Slice")) == (1, 1, 0)
