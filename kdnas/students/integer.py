"""`IntegerMlp`: a quantized perceptron as a device computes it, in NumPy; generated C agrees with it bit for bit.

All rounding is written down here, once:

- An input x becomes the integer nearest to x f, half to even, in float32, as brevitas makes it; NaN the lowest one. The
  factor f, steps that 1 is worth, is the input's own.
- A row's accumulator is exact: int32, bias plus products of integers.
- A hidden activation is (max(accumulator, 0) m + 2^(k-1)) >> k in 64 bits, at most the largest of its bits. The ratio
  of scales s_weights s_inputs / s_outputs is m / 2^k: m is a row's own, 32 bits, and k the layer's, so that a device
  takes one long product and one shift by a constant. Negative numbers never reach the shift.
- A softsign is round(L Z / (U + Z)), half up, with the sign of the accumulator, at most L - 1: L = 2^(bits - 1) stands
  for 1, Z = (|accumulator| m + 2^(k-1)) >> k is the sum in units of 1 / U = 2^-24, at most 2^32 - 1, and m / 2^k the
  ratio s_weights s_inputs U. As integers, the quotient is (2 L Z + U + Z) / (2 (U + Z)), rounded down.
- A logit is float32(accumulator) float32(s_weights s_inputs), one rounded product. Rows have scales of their own, so
  integers of two rows cannot be compared as they are. A float32 product is the same in NumPy and in any C with IEEE
  arithmetic, it is the number that the brevitas network says too, continuous actions need it anyway, and a Cortex-M0+
  pays it once for each output, not for each weight. Among equal logits the lowest index wins.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdnas.errors import StudentError
from kdnas.policies.actions import ActionSpace, Box, Discrete
from kdnas.policies.arrays import Actions, Bools, Floats
from kdnas.policies.distribution import squash_map
from kdnas.policies.masks import ILLEGAL
from kdnas.students.fake_quant import FakeQuantMlp
from kdnas.students.mlp import QuantMlp
from kdnas.students.student import Student

MOST_COLUMNS = 1 << 13
"""Inputs of a layer for which no sum of products can leave 32 bits."""

_LARGEST_RATIO = 256.0
"""An accumulator of 1 then reaches the largest activation of 8 bits, as it does at any larger ratio."""

_MOST_STEPS = 2.0**30 - 1
"""Steps of an activation that products alone may come to."""

UNIT_BITS = 24
"""Softsign reads sums in steps of 2^-24, finer than float32 says them."""


@dataclass(frozen=True, kw_only=True)
class IntegerLayer:
    """One matrix-vector product in integers.

    Example: weights (1, -2), bias 3 and activations (4, 1) make the accumulator 3 + 4 - 2 = 5. With factor 3 * 2^29 and
    shift 31, which is 0.75, it is activation (5 * 3 * 2^29 + 2^30) >> 31 = 4 (3.75 rounded).
    """

    weights: NDArray[np.int8]
    """(rows, columns)."""
    biases: NDArray[np.int32]
    """(rows,), at the scale of the products."""
    factors: NDArray[np.uint32] | None = None
    """(rows,), m of a hidden layer; None in the last one."""
    shift: int = 0
    """k of a hidden layer, 1 to 62."""
    limit: int = 0
    """Largest activation of a hidden layer."""
    softsign: bool = False
    """The hidden layer's activation, instead of ReLU."""
    scales: Floats | None = None
    """(rows,), what one step of an accumulator is worth; in the last layer only."""

    def accumulate(self, inputs: NDArray[np.int32]) -> NDArray[np.int32]:
        """Accumulators (B, rows) of integers (B, columns)."""
        products = inputs.astype(np.float64) @ self.weights.T.astype(np.float64)  # exact, far below 2^53
        return (products + self.biases).astype(np.int32)

    def activate(self, accumulators: NDArray[np.int32]) -> NDArray[np.int32]:
        """Activations (B, rows) of a hidden layer, 0 to `limit`, or -1 - `limit` to `limit` for softsign."""
        assert self.factors is not None
        sizes = np.abs(accumulators.astype(np.int64)) if self.softsign else np.maximum(accumulators, 0)
        products = sizes.astype(np.uint64) * self.factors.astype(np.uint64)
        rounded = (products + np.uint64(1 << (self.shift - 1))) >> np.uint64(self.shift)
        if self.softsign:
            rounded = softsign_steps(rounded, self.limit + 1)
            signed = np.where(accumulators < 0, -rounded.astype(np.int64), np.minimum(rounded, np.uint64(self.limit)))
            return np.asarray(signed, np.int32)
        clipped: NDArray[np.int32] = np.minimum(rounded, np.uint64(self.limit)).astype(np.int32)
        return clipped

    def read(self, accumulators: NDArray[np.int32]) -> Floats:
        """Outputs (B, rows) of the last layer."""
        assert self.scales is not None
        return accumulators.astype(np.float32) * self.scales


@dataclass(frozen=True, kw_only=True)
class IntegerMlp:
    """Layers of integers behind a quantizer of float32 inputs."""

    input_factors: Floats
    """(O,), steps that an input of 1 is worth."""
    input_limits: tuple[int, int]
    """Lowest and highest integer of an input."""
    weight_bits: int
    layers: tuple[IntegerLayer, ...]

    def quantize(self, inputs: Floats) -> NDArray[np.int32]:
        """Integers (B, O) of inputs (B, O)."""
        low, high = (np.float32(limit) for limit in self.input_limits)
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite product is clipped
            ratio = inputs.astype(np.float32) * self.input_factors
        ratio = np.where(ratio > low, ratio, low)  # NaN too
        return np.rint(np.where(ratio < high, ratio, high)).astype(np.int32)

    def vectors(self, inputs: Floats) -> list[NDArray[np.int32]]:
        """Everything that is computed from inputs (B, O): their integers, each layer's activations, accumulators."""
        seen = [self.quantize(inputs)]
        for layer in self.layers[:-1]:
            seen.append(layer.activate(layer.accumulate(seen[-1])))
        return [*seen, self.layers[-1].accumulate(seen[-1])]

    def outputs(self, inputs: Floats) -> Floats:
        """Logits or means (B, N)."""
        return self.layers[-1].read(self.vectors(inputs)[-1])


def softsign_steps(sums: NDArray[np.uint64], one: int) -> NDArray[np.uint64]:
    """Integers 0 to `one` of sums >= 0 in steps of 2^-24: `one` times softsign, rounded half up.

    Example: 2^24 is 1, its softsign a half: with `one` = 128 it is 64.
    """
    unit = np.uint64(1 << UNIT_BITS)
    sums = np.minimum(sums, np.uint64(2**32 - 1))
    whole = unit + sums
    steps: NDArray[np.uint64] = (np.uint64(2 * one) * sums + whole) // (np.uint64(2) * whole)
    return steps


def to_integers(student: Student) -> IntegerMlp:
    """The integers of a quantized perceptron; what comes before its network (normalisation) is not part of them.

    Raises:
        StudentError: another family, a student that was not quantized or not calibrated, NaN weights, or layers too
            wide for 32-bit accumulators.
    """
    network = student.network
    if not isinstance(network, QuantMlp):
        raise StudentError(
            f"student {student.spec}: only quantized perceptrons (mlp, mlp_softsign) have an integer form so far"
        )
    student.check_finite()
    with torch.no_grad():
        twin = FakeQuantMlp(network)
        return IntegerMlp(
            input_factors=((-twin.input_ranges).exp2() / twin.input_scale(0)).numpy(),
            input_limits=twin.input_limits[0],
            weight_bits=network.bits.weight,
            layers=tuple(_layer(twin, index, str(student.spec)) for index in range(len(twin.linears))),
        )


def _layer(twin: FakeQuantMlp, index: int, spec: str) -> IntegerLayer:
    linear: Any = twin.linears[index]
    if (columns := linear.weight.shape[1]) > MOST_COLUMNS:
        raise StudentError(
            f"student {spec}: sums over {columns:,} inputs of a layer may leave 32 bits; {MOST_COLUMNS:,} are the most"
        )
    weight_scale, limit = twin.weight_scale(index), twin.weight_limit
    scales = (weight_scale * twin.input_scale(index)).view(-1)
    weights = (linear.weight / weight_scale).round().clamp(-limit, limit).numpy().astype(np.int8)
    # A bias that would take sums of products out of 32 bits decides its row alone, with or without them.
    room = float(2**31 - (columns << 17))
    biases = (linear.bias / scales).round().double().clamp(-room, room).numpy()
    if index == len(twin.linears) - 1:
        return IntegerLayer(weights=weights, biases=biases.astype(np.int32), scales=scales.numpy())
    limit = twin.input_limits[index + 1][1]
    if twin.activation.bounded:
        # A step of the accumulator may be worth 127, where softsign has nearly ended; the shift is at least 1 so.
        ratios = np.minimum(scales.double().numpy() * 2.0**UNIT_BITS, 2.0**31 - 1)
        factors, shift = fixed_point(ratios)
        return IntegerLayer(
            weights=weights, biases=biases.astype(np.int32), factors=factors, shift=shift, limit=limit, softsign=True
        )
    ratios = scales.double().numpy() / twin.input_scale(index + 1).item()
    reach = np.abs(weights).astype(np.float64).sum(1) * max(map(abs, twin.input_limits[index]))
    ratios = np.minimum(ratios, np.minimum(_LARGEST_RATIO, _MOST_STEPS / np.maximum(reach, 1)))
    # Nor may rounded products leave 32 bits; what is this large is far beyond the largest activation.
    biases = np.minimum(biases, np.floor(4 * _MOST_STEPS / np.maximum(ratios, 2.0**-30) - reach))
    factors, shift = fixed_point(ratios)
    return IntegerLayer(
        weights=weights, biases=biases.astype(np.int32), factors=factors, shift=shift, limit=limit
    )


def fixed_point(ratios: NDArray[np.float64]) -> tuple[NDArray[np.uint32], int]:
    """32-bit factors (rows,) and one shift k with factor / 2^k = ratio, as exact as the largest ratio lets them be.

    Example: 0.75 and 0.5 are 3221225472 and 2147483648 at shift 32.
    """
    exponent = int(np.frexp(ratios.max())[1])  # the largest ratio is below 2^exponent
    shift = min(32 - exponent, 62)
    return np.minimum(np.rint(np.ldexp(ratios, shift)), 2**32 - 1).astype(np.uint32), shift


def decide(space: ActionSpace, outputs: Floats, mask: Bools | None = None) -> Actions:
    """Actions (B, *shape) from outputs (B, N) and legal choices (B, N), as `policies.distribution.greedy` has them."""
    if isinstance(space, Box):
        if space.squashed:
            scale, shift = squash_map(space)
            return np.asarray(shift + scale * np.tanh(outputs), np.float32)
        low, high = (np.asarray(bound, np.float32) for bound in (space.low, space.high))
        return np.clip(outputs, low, high)
    legal = outputs if mask is None else np.where(mask, outputs, np.float32(ILLEGAL))
    parts = np.split(legal, np.cumsum(space.counts)[:-1], axis=-1)
    chosen = np.stack([part.argmax(-1) for part in parts], -1)
    return chosen[..., 0] if isinstance(space, Discrete) else chosen


def student_inputs(student: Student, views: Floats) -> Floats:
    """What the network of a student reads of views (B, V), in float32: `Student.read` in NumPy."""
    features = views[:, student.spaces.kept].astype(np.float32)
    if student.normalisation is None:
        return features
    shift, scale = (np.asarray(each, np.float32) for each in (student.normalisation.shift, student.normalisation.scale))
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is clipped where it is quantized
        return np.asarray((features - shift) * scale, np.float32)
