"""`StudentSpec`: everything that decides what one group's student is, as plain frozen data."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kdnas.errors import ConfigError

FLOAT_BITS = 32
"""Bits of an unquantized number."""


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Number formats of a student: 2 to 8 bits each, or all three 32 for an unquantized one."""

    input: int = FLOAT_BITS
    weight: int = FLOAT_BITS
    activation: int = FLOAT_BITS

    def __post_init__(self) -> None:
        widths = (self.input, self.weight, self.activation)
        if FLOAT_BITS in widths and widths != (FLOAT_BITS,) * 3:
            raise ConfigError(
                f"bits: input, weight and activation are all {FLOAT_BITS} or all 2 to 8, but got {widths}"
            )
        if any(not 2 <= width <= 8 for width in widths if width != FLOAT_BITS):
            raise ConfigError(f"bits: each must be 2 to 8, or {FLOAT_BITS} for float, but got {widths}")

    @property
    def quantized(self) -> bool:
        return self.weight != FLOAT_BITS

    def __str__(self) -> str:
        return f"w{self.weight}a{self.activation}i{self.input}" if self.quantized else "float"


@dataclass(frozen=True, kw_only=True)
class StudentSpec:
    """One group's student as it will be built: realised widths, not the ratios that led to them.

    Two candidates whose realised specs are equal are the same student and are trained once.

    Example: base (64, 64) pruned by 0.625 and 0.75 with 4-bit weights is
    `StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=Bits(input=8, weight=4, activation=8))`.
    """

    family: str
    base: tuple[int, ...]
    """Widths of the dense ancestor from which it is pruned."""
    hidden: tuple[int, ...]
    """Widths of its own hidden layers; none larger than the base's."""
    bits: Bits = Bits()
    inputs: int | None = None
    """How many of the inputs that change it reads, where it is pruned of others; None reads all."""

    def __post_init__(self) -> None:
        if self.inputs is not None and self.inputs < 1:
            raise ConfigError(f"spec: a student reads at least one input, but got inputs {self.inputs}")
        if len(self.base) != len(self.hidden) or any(
            not 1 <= own <= dense for own, dense in zip(self.hidden, self.base, strict=False)
        ):
            raise ConfigError(
                f"spec: hidden {self.hidden} must have the depth of base {self.base}, each width 1 to its"
            )

    @property
    def dense(self) -> "StudentSpec":
        """The unpruned float network that this student descends from."""
        return StudentSpec(family=self.family, base=self.base, hidden=self.base)

    @property
    def floating(self) -> "StudentSpec":
        """The same shape without quantization."""
        return StudentSpec(family=self.family, base=self.base, hidden=self.hidden, inputs=self.inputs)

    @property
    def digest(self) -> str:
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        reading = "" if self.inputs is None else f" on {self.inputs} inputs"
        return f"{self.family} {'x'.join(map(str, self.hidden))} {self.bits}{reading}"

    def as_json(self) -> dict[str, Any]:
        said = asdict(self) | {"base": list(self.base), "hidden": list(self.hidden)}
        return said if self.inputs is not None else {name: value for name, value in said.items() if name != "inputs"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "StudentSpec":
        """Read back what `as_json` wrote.

        Raises:
            ConfigError: keys or values that are no spec.
        """
        try:
            bits = Bits(**{name: _whole(width) for name, width in data["bits"].items()})
            base, hidden = (tuple(_whole(width) for width in data[key]) for key in ("base", "hidden"))
            inputs = _whole(data["inputs"]) if "inputs" in data else None
            return cls(family=str(data["family"]), base=base, hidden=hidden, bits=bits, inputs=inputs)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"spec {data!r} is not a student spec: {error!r}") from error


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value
