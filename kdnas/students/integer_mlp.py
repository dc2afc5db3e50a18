"""`IntegerMlp`: a quantized perceptron in integers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kdnas.policies.arrays import Floats
from kdnas.spaces.spec import StudentSpec
from kdnas.students.activation import RELU, Activation
from kdnas.students.fake_quant import FakeQuantMlp
from kdnas.students.integer import IntegerInputs, IntegerLayer
from kdnas.students.integer_rows import IntegerRows

if TYPE_CHECKING:
    from kdnas.students.mlp import QuantMlp


@dataclass(frozen=True, kw_only=True)
class IntegerMlp:
    """Layers of integers, one after the other."""

    inputs: IntegerInputs
    layers: tuple[IntegerLayer, ...]
    activation: Activation = RELU

    def vectors(self, inputs: Floats) -> list[NDArray[np.int32]]:
        """Everything that is computed from inputs (B, O): their integers, each layer's activations, accumulators."""
        seen = [self.inputs.quantize(inputs)]
        for layer in self.layers[:-1]:
            seen.append(layer.activate(layer.accumulate(seen[-1])))
        return [*seen, self.layers[-1].accumulate(seen[-1])]

    def outputs(self, inputs: Floats) -> Floats:
        """Logits or means (B, N)."""
        return self.layers[-1].read(self.vectors(inputs)[-1])

    def begin(self, rows: int) -> None:
        """It remembers nothing."""

    def step(self, inputs: Floats, hidden: NDArray[np.int32] | None) -> tuple[Floats, None]:
        return self.outputs(inputs), None


def mlp_integers(network: "QuantMlp", spec: StudentSpec) -> IntegerMlp:
    """The integers of a calibrated perceptron.

    Raises:
        StudentError: it is not calibrated, or too wide.
    """
    twin = FakeQuantMlp(network)
    layers = []
    for index, linear in enumerate(network.linears):
        scale, (low, high) = twin.input_scale(index), twin.input_limits[index]
        rows = IntegerRows.of(
            linear, spec, weight_scale=twin.weight_scale(index), input_scale=scale, largest=max(-low, high)
        )
        if index == len(network.linears) - 1:
            layers.append(rows.outputs())
        elif twin.activation.bounded:
            layers.append(rows.softsign(limit=twin.input_limits[index + 1][1]))
        else:
            layers.append(rows.relu(scale=twin.input_scale(index + 1).item(), limit=twin.input_limits[index + 1][1]))
    return IntegerMlp(
        inputs=IntegerInputs(
            factors=(network.input_factors() / twin.input_scale(0)).numpy(), limits=twin.input_limits[0]
        ),
        layers=tuple(layers),
        activation=twin.activation,
    )
