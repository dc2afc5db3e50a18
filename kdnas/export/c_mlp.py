"""Perceptrons in C."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdnas.export.c_kernels import FLOAT, OUTPUT
from kdnas.export.c_network import (
    Network,
    Reading,
    Table,
    Vector,
    copy_inputs,
    dense_tables,
    integer_tables,
    kernel,
    layer_call,
    quantize_inputs,
)
from kdnas.policies.arrays import Floats
from kdnas.students.integer_mlp import IntegerMlp
from kdnas.students.mlp import Mlp


class FloatMlpC(Network):
    """Columns of weights in float32."""

    def __init__(self, network: Mlp) -> None:
        linears: list[Any] = list(network.linears)
        self.activation = network.activation
        self._layers = [(linear.weight.detach().numpy(), linear.bias.detach().numpy()) for linear in linears]
        self.kernels = [(self.activation.name, FLOAT)] * (len(linears) - 1) + [(OUTPUT, FLOAT)]
        self.vectors = [Vector(entries=weights.shape[1]) for weights, _ in self._layers]
        self.traced = 4 * sum(vector.entries for vector in self.vectors)

    def tables(self, name: str) -> list[Table]:
        return [
            table
            for index, (weights, biases) in enumerate(self._layers)
            for table in dense_tables(name, str(index), weights, biases)
        ]

    def calls(self, name: str, vectors: Sequence[str], *, reading: Reading) -> list[str]:
        inputs = self.vectors[0].entries
        lines = [*copy_inputs(vectors[0], inputs, reading), f"KDNAS_SEE_FLOATS({vectors[0]}, {inputs}u);"]
        for index, (weights, _) in enumerate(self._layers):
            rows, columns = weights.shape
            tables = f"{name}_weights_{index}, {name}_biases_{index}"
            lines.append(f"kdnas_dense({tables}, {vectors[index]}, {vectors[index + 1]}, {rows}u, {columns}u);")
            if index < len(self._layers) - 1:
                lines.append(f"kdnas_{self.activation.name}({vectors[index + 1]}, {rows}u);")
                lines.append(f"KDNAS_SEE_FLOATS({vectors[index + 1]}, {rows}u);")
        return lines

    def step(self, inputs: Floats, state: NDArray[Any] | None) -> tuple[NDArray[Any], Floats, None]:
        seen = [inputs]
        for weights, biases in self._layers[:-1]:
            seen.append(self.activation.apply(torch.from_numpy(seen[-1] @ weights.T + biases)).numpy())
        weights, biases = self._layers[-1]
        return np.concatenate(seen, 1), seen[-1] @ weights.T + biases, None


class IntegerMlpC(Network):
    """Packed integers; vectors of either sign are counted from their lowest integer, so that every one is unsigned."""

    integer = True
    value = "kdnas_value"

    def __init__(self, integers: IntegerMlp) -> None:
        self._integers = integers
        self.kernels = [kernel(layer, integers.activation.name) for layer in integers.layers]
        self.vectors = [Vector(entries=layer.weights.shape[1]) for layer in integers.layers]
        self.traced = sum(vector.entries for vector in self.vectors)

    def tables(self, name: str) -> list[Table]:
        steps = Table(name=f"{name}_input_steps", kind="float", values=self._integers.inputs.factors)
        return [steps] + [
            table
            for index, (layer, lowest) in enumerate(zip(self._integers.layers, self._lowest, strict=True))
            for table in integer_tables(name, str(index), layer, lowest)
        ]

    def calls(self, name: str, vectors: Sequence[str], *, reading: Reading) -> list[str]:
        inputs, kind = self.vectors[0].entries, self._integers.activation.name
        lines = quantize_inputs(vectors[0], inputs, f"{name}_input_steps[i]", self._integers.inputs, reading)
        for index, layer in enumerate(self._integers.layers):
            lines.append(f"KDNAS_SEE_VALUES({vectors[index]}, {layer.weights.shape[1]}u);")
            ends = f"{vectors[index]}, {vectors[index + 1]}"
            lines.append(layer_call(name, str(index), layer, kind, ends))
        return lines

    def step(self, inputs: Floats, state: NDArray[Any] | None) -> tuple[NDArray[Any], Floats, None]:
        *read, sums = self._integers.vectors(inputs)
        vectors = [vector - lowest for vector, lowest in zip(read, self._lowest, strict=True)]
        return np.concatenate(vectors, 1).astype(np.uint8), self._integers.layers[-1].read(sums), None

    @property
    def _lowest(self) -> list[int]:
        """The lowest integer of what each layer reads."""
        hidden = [-1 - layer.limit if layer.softsign else 0 for layer in self._integers.layers[:-1]]
        return [self._integers.inputs.limits[0], *hidden]
