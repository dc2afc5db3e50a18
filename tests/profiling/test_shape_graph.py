"""The graph that is timed is the graph that is exported, node for node, once onnxruntime has optimised both."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.export.graph import make_model, open_session
from kdnas.export.piece import trace
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.profiling.shape_graph import make_shape_model
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.activation import RELU
from kdnas.students.family import LayerShape, load_family
from kdnas.students.student import Normalisation, Student

SPACES = AgentSpec(observation_size=6, actions=Discrete(4), masked=True)


def _operators(model: onnx.ModelProto, folder: Path) -> list[str]:
    path = folder / "optimised.onnx"
    open_session(model.SerializeToString(), optimised=str(path))
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    ("kind", "bits", "normalised", "operators"),
    [
        ("mlp_softsign", "float", False, "FusedGemm FusedGemm Gemm"),
        ("mlp_softsign", "w8a8i8", False, "Mul QuantizeLinear" + 2 * " QGemm Softsign QuantizeLinear" + " QGemm"),
        ("mlp", "float", False, "FusedGemm FusedGemm Gemm"),
        ("mlp", "float", True, "Sub Mul FusedGemm FusedGemm Gemm"),
        ("mlp", "w8a8i8", False, "Mul QuantizeLinear QGemm QGemm QGemm"),
        ("mlp", "w2a8i8", False, "Mul QuantizeLinear QGemm QGemm QGemm"),
        ("mlp", "w4a4i8", True, "Sub Mul Mul QuantizeLinear QGemm Clip QGemm Clip QGemm"),
        ("mlp", "w4a8i4", False, "Mul QuantizeLinear Clip QGemm QGemm QGemm"),
        ("mlp", "w8-4-2a8-4i8", False, "Mul QuantizeLinear QGemm QGemm Clip QGemm"),
        ("mlp", "w4a8i8p", False, "Mul QuantizeLinear QGemm QGemm QGemm"),
        ("mlp_softsign", "w4a8i8p", False, "Mul QuantizeLinear" + 2 * " QGemm Softsign QuantizeLinear" + " QGemm"),
    ],
)
@pytest.mark.parametrize(("constant", "pruned"), [((), ()), ((0, 3), ()), ((4, 5), ()), ((), (1,)), ((5,), (0, 2))])
def test_it_is_the_exported_graph(
    kind: str,
    bits: str,
    normalised: bool,
    operators: str,
    constant: tuple[int, ...],
    pruned: tuple[int, ...],
    tmp_path: Path,
) -> None:
    spaces = replace(SPACES, constant=constant, pruned=pruned)
    inputs, features = spaces.inputs, 6 - len(constant) - len(pruned)
    spec = StudentSpec(family=kind, base=(16, 8), hidden=(16, 8), bits=parse_bits(bits))
    family, generator = load_family(kind), torch.Generator().manual_seed(0)
    network = family.build(spec, inputs, generator)
    if spec.bits.quantized:
        network = family.quantize(network, spec).train()
        for _ in range(40):
            network(torch.randn(32, features, generator=generator))
    normalisation = Normalisation(shift=(0.1,) * features, scale=(2.0,) * features) if normalised else None
    student = Student(spec, spaces, network, normalisation).eval()
    piece = trace(student, student.probe(), group="g")
    exported = make_model({"a": spaces}, piece.nodes("a"), piece.weights)

    timed = make_shape_model("a", family.layers(spec, inputs), spaces, between=family.chain, normalised=normalised)
    want = [*["Gather"] * bool(constant or pruned), *operators.split(), "Where", "ArgMax"]
    assert _operators(timed, tmp_path) == _operators(exported, tmp_path) == want
    assert [port.name for port in timed.graph.input] == [port.name for port in exported.graph.input]


@pytest.mark.parametrize(
    ("actions", "decision"),
    [
        (MultiDiscrete((3, 2)), ["Split", "ArgMax", "ArgMax", "Concat"]),
        (Box((-1.0, 0.0), (1.0, 2.0)), ["Max", "Min"]),
        (Box((-1.0, 0.0), (1.0, 2.0), squashed=True), ["Tanh", "Mul", "Add"]),
    ],
)
def test_other_actions_end_in_the_same_decision(actions: ActionSpace, decision: list[str], tmp_path: Path) -> None:
    spec, spaces = StudentSpec(family="mlp", base=(8,), hidden=(8,)), replace(SPACES, actions=actions, masked=False)
    family = load_family("mlp")
    student = Student(spec, spaces, family.build(spec, spaces, torch.Generator().manual_seed(0))).eval()
    piece = trace(student, student.probe(), group="g")
    exported = make_model({"a": spaces}, piece.nodes("a"), piece.weights)
    timed = make_shape_model("a", family.layers(spec, spaces), spaces, between=RELU, normalised=False)
    assert _operators(timed, tmp_path) == _operators(exported, tmp_path) == ["FusedGemm", "Gemm", *decision]


def test_layers_that_are_no_chain_are_refused() -> None:
    layer = LayerShape(rows=8, columns=6, weight_bits=32, input_bits=32, output_bits=32)
    with pytest.raises(StudentError, match=r"from 6 observation features to 4 outputs, but got \[\(6, 8\), \(6, 8\)\]"):
        make_shape_model("a", [layer, layer], SPACES, between=RELU, normalised=False)
