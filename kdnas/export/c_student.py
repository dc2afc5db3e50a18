"""`CStudent`: one group's student as C tables and the body of a function, and what that function computes, in NumPy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from kdnas.errors import StudentError
from kdnas.export.c_kernels import FLOAT
from kdnas.export.c_pack import pack
from kdnas.policies.actions import Box
from kdnas.policies.arrays import Floats
from kdnas.policies.distribution import squash_map
from kdnas.students.activation import Activation
from kdnas.students.integer import IntegerMlp, student_inputs, to_integers
from kdnas.students.mlp import Mlp, QuantMlp
from kdnas.students.student import Student


@dataclass(frozen=True, kw_only=True)
class Table:
    """A constant array."""

    name: str
    kind: str
    """C type of an entry."""
    values: NDArray[Any]

    @property
    def text(self) -> str:
        entries = [literal(value) for value in self.values.reshape(-1)]
        lines: list[str] = []
        line = ""
        for entry in entries:
            if len(line) + len(entry) > 112:
                lines, line = [*lines, line.rstrip()], ""
            line += f"{entry}, "
        body = "\n    ".join([*lines, line.rstrip(", ")])
        return f"static const {self.kind} {self.name}[{len(entries)}] = {{\n    {body}\n}};\n"


def literal(value: Any) -> str:
    """A number as C says it, exactly."""
    if isinstance(value, np.floating | float):
        return re.sub(r"\.?0*p", "p", float(value).hex()) + "f"
    if isinstance(value, np.uint32):
        return f"{int(value)}u"
    # The literal of the lowest number would be one beyond the highest, negated.
    return str(int(value)) if int(value) > -(2**31) else "INT32_MIN"


class Network(Protocol):
    """What stands between an observation and the outputs: tables, and calls that turn the one into the other."""

    widths: list[int]
    """Of every vector, from the inputs to the outputs."""
    weight_bits: int
    value: str
    """C type of what layers hand on."""
    activation: Activation

    def tables(self, name: str) -> list[Table]: ...

    def calls(self, name: str, vectors: Sequence[str], *, reading: str) -> list[str]:
        """Statements from `reading`, the i-th input, to the last of the vectors."""
        ...

    def layers(self, inputs: Floats) -> tuple[NDArray[Any], Floats]:
        """What a trace shows of inputs (B, O), (B, all vectors but the outputs) as it stores them; outputs (B, N)."""
        ...


class FloatNetwork:
    """Columns of weights in float32."""

    weight_bits = FLOAT
    value = "float"

    def __init__(self, network: Mlp) -> None:
        linears: list[Any] = list(network.linears)
        self.activation = network.activation
        self._weights: list[Floats] = [linear.weight.detach().numpy() for linear in linears]
        self._biases: list[Floats] = [linear.bias.detach().numpy() for linear in linears]
        self.widths = [self._weights[0].shape[1], *(len(biases) for biases in self._biases)]

    def tables(self, name: str) -> list[Table]:
        return [
            Table(name=f"{name}_{what}_{index}", kind="float", values=values)
            for index, (weights, biases) in enumerate(zip(self._weights, self._biases, strict=True))
            for what, values in (("weights", weights.T), ("biases", biases))
        ]

    def calls(self, name: str, vectors: Sequence[str], *, reading: str) -> list[str]:
        lines = [
            f"for (size_t i = 0; i < {self.widths[0]}u; i++)",
            f"    {vectors[0]}[i] = {reading};",
            f"KDNAS_SEE_FLOATS({vectors[0]}, {self.widths[0]}u);",
        ]
        for index, (columns, rows) in enumerate(pairwise(self.widths)):
            tables = f"{name}_weights_{index}, {name}_biases_{index}"
            lines.append(f"kdnas_dense({tables}, {vectors[index]}, {vectors[index + 1]}, {rows}u, {columns}u);")
            if index < len(self.widths) - 2:
                lines.append(f"kdnas_{self.activation.name}({vectors[index + 1]}, {rows}u);")
                lines.append(f"KDNAS_SEE_FLOATS({vectors[index + 1]}, {rows}u);")
        return lines

    def layers(self, inputs: Floats) -> tuple[NDArray[Any], Floats]:
        seen = [inputs]
        for weights, biases in zip(self._weights[:-1], self._biases[:-1], strict=True):
            sums = seen[-1] @ weights.T + biases
            seen.append(self.activation.apply(torch.from_numpy(sums)).numpy())
        return np.concatenate(seen, 1), seen[-1] @ self._weights[-1].T + self._biases[-1]


class IntegerNetwork:
    """Packed integers; vectors of either sign are counted from their lowest integer, so that every one is unsigned."""

    value = "kdnas_value"

    def __init__(self, integers: IntegerMlp, activation: Activation) -> None:
        self._integers, self.activation = integers, activation
        self.weight_bits = integers.weight_bits
        self.widths = [integers.layers[0].weights.shape[1], *(len(layer.weights) for layer in integers.layers)]

    def tables(self, name: str) -> list[Table]:
        tables = [Table(name=f"{name}_input_steps", kind="float", values=self._integers.input_factors)]
        for index, (layer, lowest) in enumerate(zip(self._integers.layers, self._lowest, strict=True)):
            # Unsigned inputs are too large by -lowest, which the biases of the layer that reads them take off again.
            shift = lowest * layer.weights.astype(np.int64).sum(1)
            biases = (layer.biases.astype(np.int64) + shift).astype(np.int32)
            tables.append(Table(name=f"{name}_weights_{index}", kind="uint8_t",
                                values=pack(layer.weights, self.weight_bits)))  # fmt: skip
            tables.append(Table(name=f"{name}_biases_{index}", kind="int32_t", values=biases))
            if layer.factors is not None:
                tables.append(Table(name=f"{name}_factors_{index}", kind="uint32_t", values=layer.factors))
            if layer.scales is not None:
                tables.append(Table(name=f"{name}_scales_{index}", kind="float", values=layer.scales))
        return tables

    def calls(self, name: str, vectors: Sequence[str], *, reading: str) -> list[str]:
        low, high = (literal(float(limit)) for limit in self._integers.input_limits)
        lines = [
            f"for (size_t i = 0; i < {self.widths[0]}u; i++) {{",
            f"    const float input = {reading};",
            f"    {vectors[0]}[i] = kdnas_quantize(input * {name}_input_steps[i], {low}, {high});",
            "}",
            f"KDNAS_SEE_VALUES({vectors[0]}, {self.widths[0]}u);",
        ]
        for index, layer in enumerate(self._integers.layers):
            columns, rows = self.widths[index : index + 2]
            tables = f"{name}_weights_{index}, {name}_biases_{index}"
            ends = f"{vectors[index]}, {vectors[index + 1]}, {rows}u, {columns}u"
            if layer.factors is not None:
                rounding = f"{name}_factors_{index}, {layer.shift}u, {layer.limit}u"
                lines.append(f"kdnas_{self.activation.name}_{self.weight_bits}({tables}, {rounding}, {ends});")
                lines.append(f"KDNAS_SEE_VALUES({vectors[index + 1]}, {rows}u);")
            else:
                lines.append(f"kdnas_output_{self.weight_bits}({tables}, {name}_scales_{index}, {ends});")
        return lines

    def layers(self, inputs: Floats) -> tuple[NDArray[Any], Floats]:
        *read, sums = self._integers.vectors(inputs)
        vectors = [vector - lowest for vector, lowest in zip(read, self._lowest, strict=True)]
        return np.concatenate(vectors, 1).astype(np.uint8), self._integers.layers[-1].read(sums)

    @property
    def _lowest(self) -> list[int]:
        """The lowest integer of what each layer reads."""
        hidden = [-1 - layer.limit if layer.softsign else 0 for layer in self._integers.layers[:-1]]
        return [self._integers.input_limits[0], *hidden]


class CStudent:
    """The C of one group: it reads an observation and writes outputs.

    Its vectors lie in one array in turns at its two ends, so that it is as long as the largest pair of neighbours.

    Raises:
        StudentError: a student of a family that has no C form yet, or with NaN weights.
    """

    def __init__(self, student: Student, name: str) -> None:
        student.check_finite()
        self.student, self.name = student, name
        self.network: Network
        if isinstance(student.network, Mlp):
            self.network = FloatNetwork(student.network)
        elif isinstance(student.network, QuantMlp):
            self.network = IntegerNetwork(to_integers(student), student.network.activation)
        else:
            raise StudentError(
                f"the C exporter writes perceptrons (mlp, mlp_softsign), and no {student.spec} yet; export it as onnx"
            )
        self.read = np.array(student.spaces.kept)
        """Indices of the observation that the network reads."""

    @property
    def integer(self) -> bool:
        return self.network.weight_bits != FLOAT

    @property
    def tables(self) -> list[Table]:
        own = self.network.tables(self.name)
        if (normalisation := self.student.normalisation) is not None:
            for what, values in (("shifts", normalisation.shift), ("factors", normalisation.scale)):
                own.append(Table(name=f"{self.name}_input_{what}", kind="float", values=np.asarray(values, np.float32)))
        if not self._reads_all:
            own.append(Table(name=f"{self.name}_read", kind="uint16_t", values=self.read))
        if isinstance(self.student.spaces.actions, Box):
            own += self._bounds(self.student.spaces.actions)
        return own

    @property
    def body(self) -> list[str]:
        """Statements from `observation` to `live.outputs`."""
        widths, last = self.network.widths, len(self.network.widths) - 1
        ends = [f"live.values + {self.live - width}" if width < self.live else "live.values" for width in widths]
        vectors = [("live.values" if (last - index) % 2 == 0 else ends[index]) for index in range(last)]
        names = [f"layer_{index}" for index in range(last)]
        lines = [f"{self.network.value} *const {name} = {place};" for name, place in zip(names, vectors, strict=True)]
        seen = "observation[i]" if self._reads_all else f"observation[{self.name}_read[i]]"
        if self.student.normalisation is not None:
            seen = f"({seen} - {self.name}_input_shifts[i]) * {self.name}_input_factors[i]"
        return lines + self.network.calls(self.name, [*names, "live.outputs"], reading=seen)

    @property
    def live(self) -> int:
        """Entries of the array: those of the largest pair of vectors, an output of integers being as long as 4."""
        sizes = [*self.network.widths[:-1], self.network.widths[-1] * (4 if self.integer else 1)]
        return max(first + second for first, second in pairwise(sizes))

    @property
    def traced(self) -> int:
        """Bytes that a trace writes."""
        return sum(self.network.widths[:-1]) * (1 if self.integer else 4)

    def answer(self, views: Floats) -> tuple[NDArray[Any], Floats]:
        """What C computes of views (B, V): its vectors side by side, and its outputs (B, N)."""
        return self.network.layers(student_inputs(self.student, views))

    @torch.inference_mode()
    def outputs_in_torch(self, views: Floats) -> Floats:
        """What the student itself says."""
        said: Floats = self.student(torch.from_numpy(views.astype(np.float32))).numpy()
        return said

    @property
    def _reads_all(self) -> bool:
        return len(self.read) == self.student.spaces.observation_size

    def _bounds(self, actions: Box) -> list[Table]:
        if actions.squashed:
            bounds = dict(zip(("reach", "middle"), squash_map(actions), strict=True))
        else:
            most = np.finfo(np.float32).max  # no outputs are beyond, so that it is no bound
            bounds = {
                what: np.clip(np.asarray(bound, np.float32), -most, most)
                for what, bound in (("low", actions.low), ("high", actions.high))
            }
        return [Table(name=f"{self.name}_{what}", kind="float", values=values) for what, values in bounds.items()]
