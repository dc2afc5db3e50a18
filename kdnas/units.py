"""Units, in one place: inside the house every number is in base units, and its name says so (`_s`, `_bytes`).

A quantity is `NUMBER[UNIT]`: `2ms`, `4KiB`, `2k`, `5%`. Units are case-sensitive, except that time must not be
mistaken for mega: `ms` is milliseconds, `M` is a million.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from kdnas.errors import BudgetError, name_nearest

Dimension = Literal["time", "memory", "count", "ratio", "frequency"]

FACTORS: dict[Dimension, dict[str, float]] = {
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9},
    "memory": {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3},
    "count": {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    "ratio": {},
    "frequency": {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
}
"""Dimension -> unit -> size of one unit in base units (seconds, bytes, 1, hertz)."""

_QUANTITY = re.compile(r"^\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>\S*)\s*$")


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number in base units, or a share of a reference (`5%` is `value=0.05, relative=True`)."""

    value: float
    relative: bool = False


def parse_quantity(text: str, dimension: Dimension) -> Quantity:
    """Read `NUMBER[UNIT]` of a dimension.

    A time needs a unit (is `2` two seconds or two milliseconds?); bytes and counts may stand bare.

    Raises:
        BudgetError: not a number, an unknown unit, or a time without one.
    """
    match = _QUANTITY.match(text)
    if match is None:
        raise BudgetError(f"{text.strip()!r} is not NUMBER[UNIT]; write for example {_example(dimension)}")
    number = float(match["number"])
    unit = match["unit"].replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}")  # two keyboards, one letter
    if unit == "%":
        return Quantity(value=number / 100, relative=True)
    if not unit:
        if dimension in ("time", "frequency"):
            raise BudgetError(f"{text.strip()!r} needs a unit of {dimension}; write for example {_example(dimension)}")
        return Quantity(value=number)
    factors = FACTORS[dimension]
    if unit not in factors:
        other = next((other for other, units in FACTORS.items() if unit in units), None)
        nearest = name_nearest(unit if other is None else "", [*factors, "%"])
        raise BudgetError(f"{unit!r} is {f'a unit of {other}, ' if other else ''}not a unit of {dimension}: {nearest}")
    return Quantity(value=number * factors[unit])


def format_quantity(value: float, dimension: Dimension) -> str:
    """Write a base-unit number for people: `0.0021, "time"` -> `2.1 ms`; `3712, "memory"` -> `3.625 KiB`."""
    if dimension == "ratio":
        return f"{100 * value:.3g} %"
    scales = _SCALES[dimension]
    base_unit = {"time": " s", "memory": " B", "count": "", "frequency": " Hz"}[dimension]
    if value == 0 or not math.isfinite(value):
        return f"{value:g}{base_unit}"
    for size, smallest, unit in scales:
        # Compared as it will be printed, so that 0.99999 ms is written 1 ms and not 1000 us.
        number = f"{value / size:.4g}"
        if abs(float(number)) >= smallest:
            return f"{number}{unit}"
    size, _, unit = scales[-1]
    return f"{value / size:.3g}{unit}"


_SCALES: dict[Dimension, list[tuple[float, float, str]]] = {
    "time": [(1.0, 1, " s"), (1e-3, 1, " ms"), (1e-6, 1, " us"), (1e-9, 1, " ns")],
    "memory": [(1024.0**3, 1, " GiB"), (1024.0**2, 1, " MiB"), (1024.0, 1, " KiB"), (1.0, 1, " B")],
    # Counts become thousands only at ten of them, so that 1,128 MACs stay readable to the last one.
    "count": [(1e9, 1, " G"), (1e6, 1, " M"), (1e3, 10, " k"), (1.0, 1, "")],
    "frequency": [(1e9, 1, " GHz"), (1e6, 1, " MHz"), (1e3, 1, " kHz"), (1.0, 1, " Hz")],
}
"""Dimension -> (size of one unit in base units, smallest number written in it, unit), from large to small."""


def _example(dimension: Dimension) -> str:
    return {"time": "2ms", "memory": "4KiB", "count": "2k", "ratio": "95%", "frequency": "168MHz"}[dimension]
