import pytest
import torch
from onnx import NodeProto, TensorProto
from torch import Tensor, nn

from kdnas.errors import StudentError
from kdnas.export.piece import trace

from .conftest import MakeStudent


def test_agents_of_a_group_share_weights_and_nothing_else(make_student: MakeStudent) -> None:
    student = make_student()
    piece = trace(student, student.probe(), group="pack")
    weights = {tensor.name for tensor in piece.weights}
    assert all(name.startswith("weights:pack/") for name in weights)
    first, second = (
        {name for node in piece.nodes(agent) for name in (*node.input, *node.output)} for agent in ("a", "b")
    )
    assert first & second == weights
    assert {"a.observation", "a.outputs"} < first


def test_integers_are_stored_unsigned(make_student: MakeStudent) -> None:
    student = make_student("w8a8i8")
    piece = trace(student, student.probe(), group="pack")
    kinds = {tensor.data_type for tensor in piece.weights}
    # Weights and activations, biases, scales; no int8, whose kernel saturates on older x86.
    assert kinds == {TensorProto.UINT8, TensorProto.INT32, TensorProto.FLOAT}


class _Strange(nn.Module):
    def forward(self, observations: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(observations.unsqueeze(-1) * observations.unsqueeze(-2)).sum(-1)


def test_a_network_without_an_onnx_form_is_named() -> None:
    with pytest.raises(StudentError, match="_Strange has no ONNX form"):
        trace(_Strange(), (torch.zeros(1, 4),), group="pack")


class _Counting(nn.Module):
    """h' = h + x, logits 2 h'."""

    def forward(self, observations: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        following = hidden + observations
        return 2 * following, following


def test_a_recurrent_network_has_ports_for_what_it_remembers() -> None:
    piece = trace(_Counting(), (torch.zeros(1, 3), torch.zeros(1, 3)), group="pack")
    nodes = piece.nodes("a")
    read, written = ({name for node in nodes for name in names(node)} for names in (_inputs, _outputs))
    assert {"a.observation", "a.hidden"} <= read
    assert {"a.outputs", "a.next_hidden"} <= written


def _inputs(node: NodeProto) -> list[str]:
    return list(node.input)


def _outputs(node: NodeProto) -> list[str]:
    return list(node.output)
