"""Recurrent networks in C."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdnas.export.c_gates import CURVES, FLOAT_CELL, KNOTS, SEE_SUMS, integer_cell
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
from kdnas.students.activation import RELU
from kdnas.students.gru import Gru, mix
from kdnas.students.integer_gru import IntegerGru


class FloatGruC(Network):
    """Columns of weights in float32; the cell computes some units at a time, so that U h is never whole."""

    libm = True

    def __init__(self, network: Gru) -> None:
        linears: list[Any] = [*network.encoder, network.input, network.state, network.head]
        *layers, self._state, self._head = [
            (linear.weight.detach().numpy(), linear.bias.detach().numpy()) for linear in linears
        ]
        self._reading = layers
        self.units = network.units
        self.kernels = [(RELU.name, FLOAT)] * (len(layers) - 1) + [(OUTPUT, FLOAT)]
        self.parts = (FLOAT_CELL,)
        sizes = [*(weights.shape[1] for weights, _ in layers), 3 * self.units, self.units]
        self.vectors = [Vector(entries=size) for size in sizes]
        self.traced = 4 * sum(sizes)

    def tables(self, name: str) -> list[Table]:
        named = {**{str(index): layer for index, layer in enumerate(self._reading)}}
        named |= {"state": self._state, "head": self._head}
        return [table for index, layer in named.items() for table in dense_tables(name, index, *layer)]

    def calls(self, name: str, vectors: Sequence[str], *, reading: Reading) -> list[str]:
        lines = copy_inputs(vectors[0], self.vectors[0].entries, reading)
        lines.append(f"KDNAS_SEE_FLOATS({vectors[0]}, {self.vectors[0].entries}u);")
        for index, (weights, _) in enumerate(self._reading):
            rows, columns = weights.shape
            tables = f"{name}_weights_{index}, {name}_biases_{index}"
            lines.append(f"kdnas_dense({tables}, {vectors[index]}, {vectors[index + 1]}, {rows}u, {columns}u);")
            if index < len(self._reading) - 1:
                lines.append(f"kdnas_relu({vectors[index + 1]}, {rows}u);")
            lines.append(f"KDNAS_SEE_FLOATS({vectors[index + 1]}, {rows}u);")
        gates, following, outputs = vectors[-3:]
        head = f"{name}_weights_head, {name}_biases_head"
        return [
            *lines,
            f"kdnas_cell({name}_weights_state, {name}_biases_state, {gates}, state->hidden, {following}, "
            f"{self.units}u);",
            f"KDNAS_SEE_FLOATS({following}, {self.units}u);",
            f"memcpy(state->hidden, {following}, sizeof state->hidden);",
            f"kdnas_dense({head}, {following}, {outputs}, {len(self._head[1])}u, {self.units}u);",
        ]

    def begin(self, rows: int) -> Floats:
        return np.zeros((rows, self.units), np.float32)

    def step(self, inputs: Floats, state: NDArray[Any] | None) -> tuple[NDArray[Any], Floats, NDArray[Any]]:
        state, seen = self.begin(len(inputs)) if state is None else state, [inputs]
        for weights, biases in self._reading[:-1]:
            seen.append(np.maximum(seen[-1] @ weights.T + biases, 0))
        weights, biases = self._reading[-1]
        seen.append(seen[-1] @ weights.T + biases)
        recalled = state @ self._state[0].T + self._state[1]
        read, held, own = (torch.from_numpy(np.asarray(each, np.float32)) for each in (seen[-1], state, recalled))
        following: Floats = mix(self.units, read, held, own).numpy()
        return np.concatenate([*seen, following], 1), following @ self._head[0].T + self._head[1], following


class IntegerGruC(Network):
    """Packed integers; the state is bytes, counted from the lowest integer."""

    integer = True
    value = "kdnas_value"

    def __init__(self, integers: IntegerGru) -> None:
        self._integers = integers
        self.units, self.zero = integers.units, 1 << (integers.state_bits - 1)
        self.state_step = 1.0 / self.zero
        self.kernels = [kernel(layer, RELU.name) for layer in (*integers.encoder, integers.head)]
        self.parts = (CURVES, SEE_SUMS, integer_cell(integers.recalling.bits))
        self.shared = (KNOTS,)
        reading = [*integers.encoder, integers.reading]
        sizes = [*(layer.weights.shape[1] for layer in reading), self.units]
        self.vectors = [Vector(entries=size) for size in sizes]
        self.vectors.insert(-1, Vector(entries=3 * self.units, wide=True))
        self.traced = sum(sizes) + 4 * 3 * self.units

    def tables(self, name: str) -> list[Table]:
        integers, signed = self._integers, -self.zero
        layers = [(str(index), layer) for index, layer in enumerate([*integers.encoder, integers.reading])]
        tables = [Table(name=f"{name}_input_steps", kind="float", values=integers.inputs.factors)]
        for index, layer in layers:
            lowest = integers.inputs.limits[0] if index == "0" else 0
            tables += integer_tables(name, index, layer, lowest)
        gates = (self.units,) * 3  # read side by side
        tables += integer_tables(name, "state", integers.recalling, signed, gates)
        return [*tables, *integer_tables(name, "head", integers.head, signed)]

    def calls(self, name: str, vectors: Sequence[str], *, reading: Reading) -> list[str]:
        integers, bits, units = self._integers, self._integers.recalling.bits, self.units
        inputs = self.vectors[0].entries
        lines = quantize_inputs(vectors[0], inputs, f"{name}_input_steps[i]", integers.inputs, reading)
        for index, layer in enumerate([*integers.encoder, integers.reading]):
            kind = RELU.name if index < len(integers.encoder) else "gates"
            lines.append(f"KDNAS_SEE_VALUES({vectors[index]}, {layer.weights.shape[1]}u);")
            ends = f"{vectors[index]}, {vectors[index + 1]}"
            lines.append(layer_call(name, str(index), layer, kind, ends))
        gates, following, outputs = vectors[-3:]
        tables = f"{name}_weights_state, {name}_biases_state, {name}_factors_state, {integers.recalling.shift}u"
        return [
            *lines,
            f"KDNAS_SEE_SUMS({gates}, {3 * units}u);",
            "#if KDNAS_VECTORS",
            f"kdnas_value held[{units}];",
            f"for (size_t i = 0; i < {units}u; i++)",
            "    held[i] = state->hidden[i];",
            "#else",
            "const kdnas_value *const held = state->hidden;",
            "#endif",
            f"kdnas_cell_{bits}({tables}, {integers.state_bits}u, {gates}, held, {following}, {units}u);",
            f"KDNAS_SEE_VALUES({following}, {units}u);",
            f"for (size_t i = 0; i < {units}u; i++)",
            f"    state->hidden[i] = (uint8_t){following}[i];",
            layer_call(name, "head", integers.head, OUTPUT, f"{following}, {outputs}"),
        ]

    def begin(self, rows: int) -> NDArray[np.int32]:
        return self._integers.begin(rows)

    def step(self, inputs: Floats, state: NDArray[Any] | None) -> tuple[NDArray[Any], Floats, NDArray[Any]]:
        state = self.begin(len(inputs)) if state is None else state
        first, *encoded, gates, following, sums = self._integers.vectors(inputs, state)
        sums_seen = np.ascontiguousarray(gates, "<i4").view(np.uint8).reshape(len(inputs), -1)
        small = [first - self._integers.inputs.limits[0], *encoded]
        seen = np.concatenate([*small, sums_seen, following + self.zero], 1).astype(np.uint8)
        return seen, self._integers.head.read(sums), following
