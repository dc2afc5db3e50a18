"""`Piece`: the network of one group as an ONNX graph, placed once for each of its agents in the graph of the team."""

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdnas.errors import StudentError
from kdnas.export.graph import OPSET
from kdnas.export.scratch import lacks_place, scratch_folder
from kdnas.students.student import Student

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

_PORTS = ("observation", "hidden", "outputs", "next_hidden")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A graph from `observation` (B, O) to `outputs` (B, N); a recurrent one also from `hidden` to `next_hidden`.

    Example: the piece of group `agent`, placed for `agent_0`, reads `agent_0.observation`, writes `agent_0.outputs` and
    calls its hidden values `agent_0/...`; its weights are `weights:agent/...`, whichever agent uses them.
    """

    group: str
    graph: "GraphProto"

    @property
    def weights(self) -> list["TensorProto"]:
        """The constants, once for all agents of the group."""
        tensors = []
        for tensor in self.graph.initializer:
            shared = copy.deepcopy(tensor)
            shared.name = self._shared(tensor.name)
            tensors.append(shared)
        return tensors

    def nodes(self, agent: str) -> list["NodeProto"]:
        """The nodes of one agent."""
        ports = {"": "", **{port: f"{agent}.{port}" for port in _PORTS}}
        names = ports | {tensor.name: self._shared(tensor.name) for tensor in self.graph.initializer}
        placed = []
        for node in self.graph.node:
            own = copy.deepcopy(node)
            own.name = f"{agent}/{node.name}"
            own.input[:] = [names.get(name, f"{agent}/{name}") for name in node.input]
            own.output[:] = [names.get(name, f"{agent}/{name}") for name in node.output]
            placed.append(own)
        return placed

    def _shared(self, name: str) -> str:
        return f"weights:{self.group}/{name}"


def trace(network: nn.Module, probe: tuple[Tensor, ...], *, group: str) -> Piece:
    """Export a network (rows, O) -> (rows, N), or a recurrent one, as the piece of a group; `probe` is what it takes.

    It is copied first, because export modes leave marks on a module.

    Students may be quantized by brevitas; every other module is exported as it is.

    Raises:
        StudentError: it holds something that has no ONNX form.
        ScratchError: there is no room for a temporary file.
    """
    import onnx

    own = copy.deepcopy(network).eval()
    quantized = isinstance(own, Student) and own.spec.bits.quantized
    with scratch_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's news of its own successor
        path = folder / "piece.onnx"
        try:
            _export(_Rows(own) if isinstance(own, Student) else own, probe, path, quantized=quantized)
        except Exception as error:  # a plugin's network may raise anything
            if lacks_place(error):
                raise
            raise StudentError(
                f"{own.spec if isinstance(own, Student) else type(own).__name__} has no ONNX form: {error}; "
                "use layers that torch.onnx can export"
            ) from error
        graph = onnx.load(path).graph
    if quantized:
        _store_unsigned(graph)
    return Piece(group=group, graph=graph)


class _Rows(nn.Module):
    """A student on rows (B, V) only: its own forward pass would leave two reshapes in the graph."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, views: Tensor, *hidden: Tensor) -> Any:
        return self.student.network(self.student.read(views), *hidden)


def _export(network: nn.Module, probe: tuple[Tensor, ...], path: Path, *, quantized: bool) -> None:
    names = (_PORTS[: len(probe)], _PORTS[2 : 2 + len(probe)])
    options: dict[str, Any] = {
        "input_names": list(names[0]),
        "output_names": list(names[1]),
        "dynamic_axes": {name: {0: "batch"} for name in (*names[0], *names[1])},
        "opset_version": OPSET,
        "dynamo": False,
    }
    if quantized:
        from brevitas.export import export_onnx_qcdq

        # Initializers that are inputs too are no constants, and nothing would fuse.
        export_onnx_qcdq(network, args=probe, export_path=str(path), keep_initializers_as_inputs=False, **options)
    else:
        torch.onnx.export(network, probe, str(path), **options)


def _store_unsigned(graph: "GraphProto") -> None:
    """Turn every int8 constant q into the uint8 constant q + 128: weights, zero points and clip bounds alike.

    The numbers that they stand for, scale * (q - zero point), stay the same. onnxruntime needs it twice: on x86
    without VNNI its int8-weight kernel adds pairs of products in 16 bits and saturates (127 * 255 * 2 = 64,770 >
    32,767; 82 of 10,000 rows were wrong at w8a8), and it does not fuse a first layer whose int8 input is clipped.
    """
    import numpy as np
    from onnx import TensorProto, numpy_helper

    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.INT8:
            shifted = numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(numpy_helper.from_array(shifted.astype(np.uint8), tensor.name))
