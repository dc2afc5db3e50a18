"""The graph that is timed is the graph that is exported, node for node, once onnxruntime has optimised both."""

from pathlib import Path

import onnx
import pytest
import torch

from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.export.graph import make_model, open_session
from kdnas.export.piece import trace
from kdnas.policies.actions import Discrete
from kdnas.profiling.shape_graph import make_shape_model
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import LayerShape, load_family
from kdnas.students.student import Normalisation, Student

SPACES = AgentSpec(observation_size=6, actions=Discrete(4), masked=True)


def _operators(model: onnx.ModelProto, folder: Path) -> list[str]:
    path = folder / "optimised.onnx"
    open_session(model.SerializeToString(), optimised=str(path))
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    ("bits", "normalised", "operators"),
    [
        ("float", False, "FusedGemm FusedGemm Gemm"),
        ("float", True, "Sub Mul FusedGemm FusedGemm Gemm"),
        ("w8a8i8", False, "QuantizeLinear QGemm QGemm QGemm"),
        ("w2a8i8", False, "QuantizeLinear QGemm QGemm QGemm"),
        ("w4a4i8", True, "Sub Mul QuantizeLinear QGemm Clip QGemm Clip QGemm"),
        ("w4a8i4", False, "QuantizeLinear Clip QGemm QGemm QGemm"),
    ],
)
def test_it_is_the_exported_graph(bits: str, normalised: bool, operators: str, tmp_path: Path) -> None:
    spec = StudentSpec(family="mlp", base=(16, 8), hidden=(16, 8), bits=parse_bits(bits))
    family, generator = load_family("mlp"), torch.Generator().manual_seed(0)
    network = family.build(spec, SPACES, generator)
    if spec.bits.quantized:
        network = family.quantize(network, spec).train()
        for _ in range(40):
            network(torch.randn(32, 6, generator=generator))
    normalisation = Normalisation(shift=(0.1,) * 6, scale=(2.0,) * 6) if normalised else None
    piece = trace(Student(spec, SPACES, network, normalisation).eval(), 6, group="g")
    exported = make_model({"a": SPACES}, piece.nodes("a"), piece.weights)

    timed = make_shape_model("a", family.layers(spec, SPACES), SPACES, normalised=normalised)
    want = [*operators.split(), "Where", "ArgMax"]
    assert _operators(timed, tmp_path) == _operators(exported, tmp_path) == want
    assert [port.name for port in timed.graph.input] == [port.name for port in exported.graph.input]


def test_layers_that_are_no_chain_are_refused() -> None:
    layer = LayerShape(rows=8, columns=6, weight_bits=32, input_bits=32, output_bits=32)
    with pytest.raises(StudentError, match=r"from 6 observation features to 4 logits, but got \[\(6, 8\), \(6, 8\)\]"):
        make_shape_model("a", [layer, layer], SPACES, normalised=False)
