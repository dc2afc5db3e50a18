"""The integers of quantized students as a device computes them, in NumPy; generated C agrees with them bit for bit.

All rounding is written down here, once:

- An input x becomes the integer nearest to x f, half to even, in float32, as brevitas makes it; NaN the lowest one. The
  factor f, steps that 1 is worth, is the input's own.
- A row's accumulator is exact: int32, bias plus products of integers.
- A hidden activation is (max(accumulator, 0) m + 2^(k-1)) >> k in 64 bits, at most the largest of its bits. The ratio
  of scales s_weights s_inputs / s_outputs is m / 2^k: m is a row's own, 31 bits, and k the layer's, so that a device
  takes one long product and one shift by a constant. Negative numbers never reach the shift.
- Where scales are powers of two so is each row's ratio, 2^e: an activation is max(accumulator, 0) 2^e, rounded half to
  even at e < 0. Halves are frequent then, and brevitas rounds them so. A row stores e, one byte, -32 to 31, and nothing
  is multiplied.
- Functions with a curve read and write steps of U = 2^-24, finer than float32 says them. A sum in these is
  Z = (|accumulator| m + 2^(k-1)) >> k, where m / 2^k is the ratio s_weights s_inputs / U, or |accumulator| 2^e, rounded
  likewise.
- A softsign is round(L Z / (1 / U + Z)), half up, with the sign of the accumulator, at most L - 1: L = 2^(bits - 1)
  stands for 1, and Z is at most 2^32 - 1. As integers, the quotient is (2 L Z + 1 / U + Z) / (2 (1 / U + Z)), rounded
  down.
- A product of two numbers in steps of U is (a b + 2^23) >> 24 in 64 bits, rounded down: half up.
- A tanh is the Taylor polynomial of degree 4 at the nearest multiple of 1/8, up to 8, with tanh there from a table of
  65 numbers; it is off by 4 U at most. A sigmoid is (1 + tanh(x / 2)) / 2.
- The state of a GRU is n + z (h - n) from products of this kind, rounded half to even to its bits: gates without sums,
  z = 1/2 and n = 0, are as exact in float. Its gates' sums are Z with the sign of the accumulator, less than 2^30,
  which is 64.
- A mean of K activations is the integer nearest to their sum over 2 K, half to even, as brevitas makes it of floats
  that say these numbers exactly: positive integers become signed ones of as many bits, in steps twice as wide.
- A logit is float32(accumulator) float32(s_weights s_inputs), one rounded product. Rows have scales of their own, so
  integers of two rows cannot be compared as they are. A float32 product is the same in NumPy and in any C with IEEE
  arithmetic, it is the number that the brevitas network says too, continuous actions need it anyway, and a Cortex-M0+
  pays it once for each output, not for each weight. Powers of two are stored as their exponents here too. Among equal
  logits the lowest index wins.
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
from kdnas.students.family import IntegerForm, IntegerMaker, load_family
from kdnas.students.student import Student

UNIT_BITS = 24
ONE = 1 << UNIT_BITS
"""1 in the steps of functions with a curve."""

GATE_LIMIT = (1 << 30) - 1
"""Largest sum of a gate, 64: its sigmoid and tanh have long ended, and two of them still are 32 bits with a sign."""

KNOT_BITS, KNOTS = 21, 65
"""Tanh is written down at multiples of 2^21 steps, which is 1/8, from 0 to 8."""

TANH = np.rint(np.tanh(np.arange(KNOTS) / 8.0) * ONE).astype(np.int32)

_THIRD, _TWO_THIRDS = round(ONE / 3), round(2 * ONE / 3)


@dataclass(frozen=True, kw_only=True)
class IntegerInputs:
    """What makes integers of float32 inputs."""

    factors: Floats
    """(O,), steps that an input of 1 is worth."""
    limits: tuple[int, int]
    """Lowest and highest integer of an input."""

    def quantize(self, inputs: Floats) -> NDArray[np.int32]:
        """Integers (B, O) of inputs (B, O)."""
        low, high = (np.float32(limit) for limit in self.limits)
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite product is clipped
            ratio = inputs.astype(np.float32) * self.factors
        ratio = np.where(ratio > low, ratio, low)  # NaN too
        return np.rint(np.where(ratio < high, ratio, high)).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class IntegerLayer:
    """One matrix-vector product in integers.

    Example: weights (1, -2), bias 3 and activations (4, 1) make the accumulator 3 + 4 - 2 = 5. With factor 3 * 2^29 and
    shift 31, which is 0.75, it is activation (5 * 3 * 2^29 + 2^30) >> 31 = 4 (3.75 rounded).
    """

    weights: NDArray[np.int8]
    """(rows, columns)."""
    bits: int
    """Of a weight."""
    biases: NDArray[np.int32]
    """(rows,), at the scale of the products."""
    factors: NDArray[np.uint32] | None = None
    """(rows,), m of a layer of activations or gates; None in the last one, and where there are exponents."""
    shift: int = 0
    """k of a hidden layer, 1 to 62."""
    exponents: NDArray[np.int8] | None = None
    """(rows,), e of a layer whose scales are powers of two; in the last layer the scales themselves are 2^e."""
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
        rounded = self._scale(np.abs(accumulators.astype(np.int64)) if self.softsign else np.maximum(accumulators, 0))
        if self.softsign:
            rounded = softsign_steps(rounded, self.limit + 1)
            signed = np.where(accumulators < 0, -rounded.astype(np.int64), np.minimum(rounded, np.uint64(self.limit)))
            return np.asarray(signed, np.int32)
        clipped: NDArray[np.int32] = np.minimum(rounded, np.uint64(self.limit)).astype(np.int32)
        return clipped

    def measure(self, accumulators: NDArray[np.int32]) -> NDArray[np.int64]:
        """Sums of gates (B, rows), in steps of 2^-24."""
        sizes = np.minimum(self._scale(np.abs(accumulators.astype(np.int64))), np.uint64(GATE_LIMIT)).astype(np.int64)
        return np.where(accumulators < 0, -sizes, sizes)

    def _scale(self, sizes: NDArray[Any]) -> NDArray[np.uint64]:
        if self.exponents is not None:
            return _shifted(sizes.astype(np.uint64), self.exponents)
        assert self.factors is not None
        products = sizes.astype(np.uint64) * self.factors.astype(np.uint64)
        scaled: NDArray[np.uint64] = (products + np.uint64(1 << (self.shift - 1))) >> np.uint64(self.shift)
        return scaled

    def read(self, accumulators: NDArray[np.int32]) -> Floats:
        """Outputs (B, rows) of the last layer."""
        assert self.scales is not None
        return accumulators.astype(np.float32) * self.scales


def _shifted(sizes: NDArray[np.uint64], exponents: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Sizes (B, rows) times 2^e (rows,), rounded half to even.

    Example: 5, 6 and 10 at e = -2 are 1 (1.25), 2 (1.5) and 2 (2.5); 5 at e = 1 is 10.
    """
    left, right = (np.maximum(way * exponents.astype(np.int64), 0).astype(np.uint64) for way in (1, -1))
    one, wide = np.uint64(1), sizes << left
    below_half, odd = (one << right) - one >> one, (wide >> right) & one
    shifted: NDArray[np.uint64] = (wide + below_half + odd * (right > 0)) >> right
    return shifted


def softsign_steps(sums: NDArray[np.uint64], one: int) -> NDArray[np.uint64]:
    """Integers 0 to `one` of sums >= 0 in steps of 2^-24: `one` times softsign, rounded half up.

    Example: 2^24 is 1, its softsign a half: with `one` = 128 it is 64.
    """
    unit = np.uint64(1 << UNIT_BITS)
    sums = np.minimum(sums, np.uint64(2**32 - 1))
    whole = unit + sums
    steps: NDArray[np.uint64] = (np.uint64(2 * one) * sums + whole) // (np.uint64(2) * whole)
    return steps


def share(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The product of numbers in steps of 2^-24, in these steps.

    Example: of a half, 2^23, and -3 steps it is -1: (-3 * 2^23 + 2^23) >> 24.
    """
    product: NDArray[np.int64] = (left * right + (ONE >> 1)) >> UNIT_BITS
    return product


def tanh_steps(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tanh of sums, both in steps of 2^-24.

    With t = tanh a, d = x - a and s = 1 - t^2 it is t + s d (1 - t d + (t^2 - 1/3) d^2 + (2/3 t - t^3) d^3).
    """
    sizes = np.minimum(np.abs(sums), 8 * ONE)
    knots = (sizes + (1 << (KNOT_BITS - 1))) >> KNOT_BITS
    known, beyond = TANH.astype(np.int64)[knots], sizes - (knots << KNOT_BITS)
    square = share(known, known)
    slope = square - _THIRD + share(share(known, _TWO_THIRDS - square), beyond)
    slope = ONE + share(share(slope, beyond) - known, beyond)
    values = known + share(share(ONE - square, beyond), slope)
    signed: NDArray[np.int64] = np.where(sums < 0, -values, values)
    return signed


def sigmoid_steps(halves: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sigmoid of twice what is given, both in steps of 2^-24."""
    steps: NDArray[np.int64] = (ONE + 1 + tanh_steps(halves)) >> 1
    return steps


def mean_steps(totals: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Totals >= 0 over twice a count, the nearest integers, half to even.

    Example: 3 over 2 is 2, 5 over 2 is 2, and 4 over 6 is 1.
    """
    steps = (totals + count) // (2 * count)
    nearest: NDArray[np.int64] = steps - ((steps * 2 * count == totals + count) & (steps % 2 == 1))
    return nearest


def to_integers(student: Student) -> IntegerForm:
    """The integers of a quantized student; what comes before its network (normalisation) is not part of them.

    Raises:
        StudentError: a student that was not quantized or not calibrated, a family without an integer form, NaN weights,
            or layers too wide for 32-bit accumulators.
    """
    if not student.spec.bits.quantized:
        raise StudentError(f"student {student.spec}: only quantized students have an integer form")
    family = load_family(student.spec.family)
    if not isinstance(family, IntegerMaker):
        raise StudentError(
            f"student {student.spec}: the family has no integer form; give it `integers`, or export the team as onnx"
        )
    student.check_finite()
    with torch.no_grad():
        return family.integers(student.network, student.spec)


def fixed_point(ratios: NDArray[np.float64]) -> tuple[NDArray[np.uint32], int]:
    """31-bit factors (rows,) and one shift k with factor / 2^k = ratio, as exact as the largest ratio lets them be.

    Example: 0.75 and 0.5 are 1610612736 and 1073741824 at shift 31.
    """
    exponent = int(np.frexp(ratios.max())[1])  # the largest ratio is below 2^exponent
    shift = min(31 - exponent, 62)
    return np.minimum(np.rint(np.ldexp(ratios, shift)), 2**31 - 1).astype(np.uint32), shift


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
