"""A model with the shape and number format of a student, and any weights: what is timed before anything is trained."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.export.graph import make_model
from kdnas.spaces.spec import FLOAT_BITS
from kdnas.students.activation import Activation
from kdnas.students.family import LayerShape

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_SCALE = 0.02
"""Of every quantized tensor; any positive number would do."""


def make_shape_model(
    agent: str, layers: Sequence[LayerShape], spaces: AgentSpec, *, between: Activation, normalised: bool
) -> "ModelProto":
    """The graph that `OnnxExporter` would write for one agent whose network is layers with an activation `between`.

    It takes milliseconds where an export of brevitas takes 0.1 s, and pre-flight times every shape of a space.

    Integers are stored in 8 bits, whatever their own; those of fewer bits are clipped, as in the exported graph.

    Raises:
        StudentError: the layers are not a chain from the features that are read to N outputs.
    """
    features = spaces.inputs.observation_size
    sizes = [layers[0].columns, *(layer.rows for layer in layers)]
    if sizes != [features, *(layer.columns for layer in layers[1:]), spaces.actions.outputs]:
        raise StudentError(
            f"the ONNX target times chains of layers from {features} observation features to "
            f"{spaces.actions.outputs} outputs, but got {[(layer.columns, layer.rows) for layer in layers]}"
        )
    chain = _Chain(f"{agent}.observation")
    if not spaces.reads_all:
        chain.then("Gather", chain.indices(spaces.kept), axis=1)
    if normalised:
        chain.then("Sub", chain.random(features))
        chain.then("Mul", chain.random(features))
    if layers[0].input_bits < FLOAT_BITS:
        chain.then("Mul", chain.random(features))
        chain.quantize(layers[0].input_bits, signed=True)
    for layer in layers[:-1]:
        chain.multiply(layer)
        chain.then(between.operator)
        if layer.output_bits < FLOAT_BITS:
            chain.quantize(layer.output_bits, signed=between.bounded)
    chain.multiply(layers[-1])
    chain.nodes[-1].output[0] = f"{agent}.outputs"
    return make_model({agent: spaces}, chain.nodes, chain.constants)


class _Chain:
    """Nodes each of which reads what the last one wrote."""

    def __init__(self, start: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._value = start
        self._generator = np.random.default_rng(0)

    def then(self, operator: str, *others: str, **attributes: Any) -> None:
        from onnx import helper

        value = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self._value, *others], [value], **attributes))
        self._value = value

    def quantize(self, bits: int, *, signed: bool) -> None:
        """To `bits` bits stored in 8, and back: the pair between which onnxruntime computes on integers."""
        zero = 128 if signed else 0
        scale, zero_point = self._scale(), self._constant(np.array(zero, np.uint8))
        self.then("QuantizeLinear", scale, zero_point)
        if bits < 8:
            half = 2 ** (bits - 1)
            low, high = (zero - half, zero + half - 1) if signed else (0, 2 * half - 1)
            self.then("Clip", *(self._constant(np.array(bound, np.uint8)) for bound in (low, high)))
        self.then("DequantizeLinear", scale, zero_point)

    def multiply(self, layer: LayerShape) -> None:
        weight = self._weight(layer)
        bias = [self._bias(layer)] if layer.bias else []
        self.then("Gemm", weight, *bias, transB=1)

    def indices(self, places: Sequence[int]) -> str:
        return self._constant(np.array(places, np.int64))

    def random(self, *shape: int) -> str:
        return self._constant(self._generator.normal(0.0, 0.1, shape).astype(np.float32))

    def _weight(self, layer: LayerShape) -> str:
        if layer.weight_bits == FLOAT_BITS:
            return self.random(layer.rows, layer.columns)
        half = 2 ** (layer.weight_bits - 1)
        integers = self._generator.integers(128 - half, 128 + half, (layer.rows, layer.columns))
        return self._dequantized(integers.astype(np.uint8), np.array(128, np.uint8), _SCALE)

    def _bias(self, layer: LayerShape) -> str:
        if layer.weight_bits == FLOAT_BITS:
            return self.random(layer.rows)
        integers = self._generator.integers(-100, 100, layer.rows)
        # A bias in 32 bits fuses only at the scale of the products that it is added to.
        return self._dequantized(integers.astype(np.int32), np.array(0, np.int32), _SCALE * _SCALE)

    def _dequantized(self, integers: NDArray[np.generic], zero: NDArray[np.generic], scale: float) -> str:
        from onnx import helper

        inputs = [self._constant(integers), self._scale(scale), self._constant(zero)]
        value = f"dequantized_{inputs[0]}"
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [value]))
        return value

    def _scale(self, scale: float = _SCALE) -> str:
        return self._constant(np.array(scale, np.float32))

    def _constant(self, array: NDArray[np.generic]) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name
