"""`StudentSpec`: everything that decides what one group's student is, as plain frozen data."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kdnas.errors import ConfigError

FLOAT_BITS = 32
"""Bits of an unquantized number."""


Widths: TypeAlias = int | tuple[int, ...]
"""One number of bits for all layers, or one for each."""


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Number formats of a student: 2 to 8 bits each, or all 32 for an unquantized one.

    Weights have one width, or one for each linear layer, the output layer's last; activations one, or one for each
    hidden layer. Where all layers have the same it is a single number, so that equal formats are equal.

    Example: `w8-4-8a8-4i8` are three layers, of which the middle one has 4-bit weights and writes 4-bit activations.
    """

    input: int = FLOAT_BITS
    weight: Widths = FLOAT_BITS
    activation: Widths = FLOAT_BITS
    power_of_two: bool = False
    """Scales of weights and activations are powers of two, so that integers are shifted from one to the other."""

    def __post_init__(self) -> None:
        for name in ("weight", "activation"):
            each = getattr(self, name)
            if isinstance(each, tuple) and len(set(each)) == 1:
                object.__setattr__(self, name, each[0])
        said = (self.input, self.weight, self.activation)
        widths = {self.input, *_all(self.weight), *_all(self.activation)}
        if FLOAT_BITS in widths and widths != {FLOAT_BITS}:
            raise ConfigError(f"bits: input, weight and activation are all {FLOAT_BITS} or all 2 to 8, but got {said}")
        if not all(2 <= width <= 8 for width in widths - {FLOAT_BITS}):
            raise ConfigError(f"bits: each must be 2 to 8, or {FLOAT_BITS} for float, but got {said}")
        if self.power_of_two and FLOAT_BITS in widths:
            raise ConfigError("bits: scales that are powers of two belong to integers, and a float student has none")
        if () in said:
            raise ConfigError(f"bits: weights and activations have at least one width, but got {said}")

    @property
    def quantized(self) -> bool:
        return self.weight != FLOAT_BITS

    @property
    def mixed(self) -> bool:
        """Layers have bits of their own."""
        return isinstance(self.weight, tuple) or isinstance(self.activation, tuple)

    @property
    def narrowest(self) -> int:
        """Fewest bits of a weight or of what a hidden layer writes."""
        return min(self.narrowest_weight, *_all(self.activation))

    @property
    def narrowest_weight(self) -> int:
        """Fewest bits of a weight."""
        return min(_all(self.weight))

    def weights(self, layers: int) -> tuple[int, ...]:
        """Bits of the weights of each of so many linear layers."""
        return self.weight if isinstance(self.weight, tuple) else (self.weight,) * layers

    def activations(self, layers: int) -> tuple[int, ...]:
        """Bits of what each of so many hidden layers writes."""
        return self.activation if isinstance(self.activation, tuple) else (self.activation,) * layers

    def __str__(self) -> str:
        if not self.quantized:
            return "float"
        weight, activation = ("-".join(map(str, _all(each))) for each in (self.weight, self.activation))
        return f"w{weight}a{activation}i{self.input}{'p' * self.power_of_two}"

    def as_json(self) -> dict[str, Any]:
        """What JSON can hold; powers of two are said where they are."""
        said: dict[str, Any] = {"input": self.input}
        for name, each in (("weight", self.weight), ("activation", self.activation)):
            said[name] = list(each) if isinstance(each, tuple) else each
        return said | ({"power_of_two": True} if self.power_of_two else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Bits":
        """Read back what `as_json` wrote.

        Raises:
            ConfigError, KeyError, TypeError: keys or values that are no bits.
        """
        weight, activation = (
            tuple(map(_whole, data[name])) if isinstance(data[name], list) else _whole(data[name])
            for name in ("weight", "activation")
        )
        power_of_two = data.get("power_of_two", False)
        if data.keys() - {"input", "weight", "activation", "power_of_two"} or type(power_of_two) is not bool:
            raise TypeError(f"{dict(data)!r} are no bits")
        return cls(input=_whole(data["input"]), weight=weight, activation=activation, power_of_two=power_of_two)


def _all(widths: Widths) -> tuple[int, ...]:
    return widths if isinstance(widths, tuple) else (widths,)


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
        depth = len(self.hidden)
        have = (len(self.bits.weights(depth + 1)), len(self.bits.activations(depth)))
        if have != (depth + 1, depth):
            raise ConfigError(
                f"spec: bits {self.bits} must have one width, or {depth + 1} of weights and {depth} of activations, "
                f"for hidden {self.hidden}"
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
        widths = {"base": list(self.base), "hidden": list(self.hidden)}
        said = {"family": self.family, **widths, "bits": self.bits.as_json()}
        return said if self.inputs is None else said | {"inputs": self.inputs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "StudentSpec":
        """Read back what `as_json` wrote.

        Raises:
            ConfigError: keys or values that are no spec.
        """
        try:
            bits = Bits.from_json(data["bits"])
            base, hidden = (tuple(_whole(width) for width in data[key]) for key in ("base", "hidden"))
            inputs = _whole(data["inputs"]) if "inputs" in data else None
            return cls(family=str(data["family"]), base=base, hidden=hidden, bits=bits, inputs=inputs)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"spec {data!r} is not a student spec: {error!r}") from error


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value
