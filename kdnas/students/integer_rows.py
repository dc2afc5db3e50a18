"""`IntegerRows`: a quantized linear layer in integers, before it is said what its sums become."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kdnas.errors import StudentError
from kdnas.policies.arrays import Floats
from kdnas.spaces.spec import StudentSpec
from kdnas.students.integer import UNIT_BITS, IntegerLayer, fixed_point

MOST_COLUMNS = 1 << 13
"""Inputs of a layer for which no sum of products can leave 32 bits."""

_LARGEST_RATIO = 256.0
"""An accumulator of 1 then reaches the largest activation of 8 bits, as it does at any larger ratio."""

_EXPONENTS = (-32, 31)
"""Of ratios: below, no accumulator reaches half a step; above, one of 1 is where every curve ends."""

_OUTPUT_EXPONENTS = (-126, 127)
"""Of normal float32 numbers."""

_MOST_STEPS = 2.0**30 - 1
"""Steps of an activation that products alone may come to."""


@dataclass(frozen=True, kw_only=True)
class IntegerRows:
    """Rows of integers, and the scales of their sums."""

    weights: NDArray[np.int8]
    """(rows, columns)."""
    bits: int
    """Of a weight."""
    biases: NDArray[np.float64]
    """(rows,), integers."""
    scales: Floats
    """(rows,), what one step of an accumulator is worth."""
    largest: int
    """Largest magnitude of what they read."""
    power_of_two: bool = False
    """All scales are powers of two, those of what is written too."""

    @classmethod
    def of(
        cls, linear: nn.Module, spec: StudentSpec, *, weight_scale: Tensor, input_scale: Tensor, largest: int
    ) -> "IntegerRows":
        """The rows of a linear layer whose weights have scales (rows, 1) and that reads integers of one scale ().

        Raises:
            StudentError: it has more columns than 32 bits can sum up.
        """
        assert isinstance(linear, nn.Linear)
        if (columns := linear.in_features) > MOST_COLUMNS:
            raise StudentError(
                f"student {spec}: sums over {columns:,} inputs of a layer may leave 32 bits; "
                f"{MOST_COLUMNS:,} are the most"
            )
        bits = int(linear.weight_quant.bit_width())  # type: ignore[operator, union-attr]
        limit = 2 ** (bits - 1) - 1
        scales = (weight_scale * input_scale).view(-1)
        # A bias that would take sums of products out of 32 bits decides its row alone, with or without them.
        room = float(2**31 - (columns << 17))
        return cls(
            weights=(linear.weight / weight_scale).round().clamp(-limit, limit).numpy().astype(np.int8),
            bits=bits,
            biases=(linear.bias / scales).round().double().clamp(-room, room).numpy(),
            scales=scales.numpy(),
            largest=largest,
            power_of_two=spec.bits.power_of_two,
        )

    def outputs(self) -> IntegerLayer:
        """They are what the network says."""
        if self.power_of_two:
            exponents = _exponents(self.scales, _OUTPUT_EXPONENTS)
            return self._layer(self.biases, exponents=exponents, scales=np.ldexp(np.float32(1), exponents))
        return self._layer(self.biases, scales=self.scales)

    def relu(self, *, scale: float, limit: int) -> IntegerLayer:
        """They become activations 0 to `limit` of a scale."""
        ratios = self.scales.astype(np.float64) / scale
        if self.power_of_two:
            return self._layer(self.biases, exponents=_exponents(ratios), limit=limit)
        reach = np.abs(self.weights).astype(np.float64).sum(1) * self.largest
        ratios = np.minimum(ratios, np.minimum(_LARGEST_RATIO, _MOST_STEPS / np.maximum(reach, 1)))
        # Nor may rounded products leave 32 bits; what is this large is far beyond the largest activation.
        biases = np.minimum(self.biases, np.floor(4 * _MOST_STEPS / np.maximum(ratios, 2.0**-30) - reach))
        factors, shift = fixed_point(ratios)
        return self._layer(biases, factors=factors, shift=shift, limit=limit)

    def softsign(self, *, limit: int) -> IntegerLayer:
        """They become activations -1 - `limit` to `limit`."""
        return self._curved(1.0, limit=limit, softsign=True)

    def gates(self, *, shares: NDArray[np.float64]) -> IntegerLayer:
        """They become sums of gates, of each row a share (rows,)."""
        return self._curved(shares)

    def _curved(self, shares: Any, **what: Any) -> IntegerLayer:
        ratios = self.scales.astype(np.float64) * shares * 2.0**UNIT_BITS
        if self.power_of_two:
            return self._layer(self.biases, exponents=_exponents(ratios), **what)
        # A step of the accumulator may be worth 64, where every curve has nearly ended; the shift is at least 1 so.
        factors, shift = fixed_point(np.minimum(ratios, 2.0**30 - 1))
        return self._layer(self.biases, factors=factors, shift=shift, **what)

    def _layer(self, biases: NDArray[np.float64], **what: Any) -> IntegerLayer:
        return IntegerLayer(weights=self.weights, bits=self.bits, biases=biases.astype(np.int32), **what)


def _exponents(powers: NDArray[Any], limits: tuple[int, int] = _EXPONENTS) -> NDArray[np.int8]:
    """Exponents (rows,) of powers of two, the nearest ones in their limits."""
    exponents: NDArray[np.int8] = np.clip(np.log2(powers).round(), *limits).astype(np.int8)
    return exponents
