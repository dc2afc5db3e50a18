"""`Network`: what stands between an observation and the outputs of one group, as C tables and statements."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kdnas.export.c_kernels import OUTPUT
from kdnas.export.c_pack import pack
from kdnas.export.c_round import SHIFT
from kdnas.policies.arrays import Floats
from kdnas.students.integer import IntegerInputs, IntegerLayer

Reading: TypeAlias = Callable[[str], str]
"""The C expression of an index -> that of the input there."""


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


@dataclass(frozen=True, kw_only=True)
class Vector:
    """What one layer hands to the next."""

    entries: int
    wide: bool = False
    """Sums of 32 bits in a network whose other vectors are bytes; such a one, and outputs, never are neighbours."""


class Network(ABC):
    """A network of one family, in float or in integers."""

    integer: bool = False
    value: str = "float"
    """C type of what layers hand on."""
    kernels: Sequence[tuple[str, int]]
    """Kind and bits of each layer, see `c_kernels.kernels`."""
    parts: Sequence[str] = ()
    """C text that networks of its kind share besides `kernels`."""
    shared: "Sequence[Table]" = ()
    """Tables of that text."""
    libm: bool = False
    """It calls the mathematical library."""
    units: int = 0
    """Numbers of the state that it keeps from step to step."""
    zero: int = 0
    """What stands for 0 in the state of C."""
    state_step: float = 1.0
    """What 1 in a state is worth."""
    index: Sequence[int] | None = None
    """Which of its inputs it reads; None for all."""
    vectors: Sequence[Vector]
    """All but the outputs, in their order: each is read by what writes the next."""
    traced: int
    """Bytes that a trace shows."""

    @abstractmethod
    def tables(self, name: str) -> list[Table]:
        """Constants of a group whose names begin with `name`."""

    @abstractmethod
    def calls(self, name: str, vectors: Sequence[str], *, reading: Reading) -> list[str]:
        """Statements from the inputs to the last of the vectors, which are the outputs."""

    @abstractmethod
    def step(self, inputs: Floats, state: NDArray[Any] | None) -> tuple[NDArray[Any], Floats, NDArray[Any] | None]:
        """What C computes of inputs (B, O) and states (B, H) or None.

        What a trace shows of each row, as it is stored; outputs (B, N); next states.
        """

    def begin(self, rows: int) -> NDArray[Any] | None:
        """States (B, H) at the beginning of an episode."""
        return None


def dense_tables(name: str, index: str, weights: Floats, biases: Floats) -> list[Table]:
    """Of a float layer (rows, columns), column after column."""
    return [
        Table(name=f"{name}_weights_{index}", kind="float", values=weights.T),
        Table(name=f"{name}_biases_{index}", kind="float", values=biases),
    ]


def integer_tables(
    name: str, index: str, layer: IntegerLayer, lowest: int, parts: Sequence[int] | None = None
) -> list[Table]:
    """Of a layer that reads integers counted from the lowest one, so that all are unsigned; `parts` as in `pack`."""
    # They are too large by -lowest, which the biases take off again.
    shift = lowest * layer.weights.astype(np.int64).sum(1)
    biases = (layer.biases.astype(np.int64) + shift).astype(np.int32)
    tables = [
        Table(name=f"{name}_weights_{index}", kind="uint8_t", values=pack(layer.weights, layer.bits, parts)),
        Table(name=f"{name}_biases_{index}", kind="int32_t", values=biases),
    ]
    if layer.exponents is not None:  # of the scales too
        return [*tables, Table(name=f"{name}_exponents_{index}", kind="int8_t", values=layer.exponents)]
    if layer.factors is not None:
        tables.append(Table(name=f"{name}_factors_{index}", kind="uint32_t", values=layer.factors))
    if layer.scales is not None:
        tables.append(Table(name=f"{name}_scales_{index}", kind="float", values=layer.scales))
    return tables


def copy_inputs(into: str, count: int, reading: Reading, begin: int = 0) -> list[str]:
    """Statements that write `count` inputs, from one on, to a vector of floats."""
    return [f"for (size_t i = 0; i < {count}u; i++)", f"    {into}[i] = {reading(offset(begin))};"]


def quantize_inputs(
    into: str, count: int, steps: str, inputs: IntegerInputs, reading: Reading, begin: int = 0
) -> list[str]:
    """Statements that write the integers of `count` inputs, from one on, to a vector."""
    low, high = (literal(float(limit)) for limit in inputs.limits)
    ratio = f"{reading(offset(begin))} * {steps}"
    return [
        "#if KDNAS_VECTORS",
        "{",
        f"    float ratios[{count}];",
        f"    for (size_t i = 0; i < {count}u; i++)",
        f"        ratios[i] = {ratio};",
        f"    kdnas_quantize_all(ratios, {count}u, {low}, {high}, {into});",
        "}",
        "#else",
        f"for (size_t i = 0; i < {count}u; i++)",
        f"    {into}[i] = kdnas_quantize({ratio}, {low}, {high});",
        "#endif",
    ]


def offset(begin: int) -> str:
    """An index i, counted from somewhere."""
    return f"{begin}u + i" if begin else "i"


def kernel(layer: IntegerLayer, kind: str) -> tuple[str, int]:
    """Kind and bits of an integer layer; `kind` is its activation, if it has one."""
    plain = kind if layer.scales is None else OUTPUT
    return plain + SHIFT * (layer.exponents is not None), layer.bits


def layer_call(name: str, index: str, layer: IntegerLayer, kind: str, ends: str) -> str:
    """The statement of one integer layer; `ends`: what it reads and what it writes."""
    rows, columns = layer.weights.shape
    tables = f"{name}_weights_{index}, {name}_biases_{index}"
    limit = f", {layer.limit}u" if layer.limit else ""
    if layer.exponents is not None:
        rounding = f"{name}_exponents_{index}{limit}"
    elif layer.factors is not None:
        rounding = f"{name}_factors_{index}, {layer.shift}u{limit}"
    else:
        rounding = f"{name}_scales_{index}"
    what, bits = kernel(layer, kind)
    return f"kdnas_{what}_{bits}({tables}, {rounding}, {ends}, {rows}u, {columns}u);"
