"""`IntegerGru`: a quantized recurrent network in integers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdnas.policies.arrays import Floats
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import common_bits
from kdnas.students.integer import (
    ONE,
    UNIT_BITS,
    IntegerInputs,
    IntegerLayer,
    share,
    sigmoid_steps,
    tanh_steps,
)
from kdnas.students.integer_rows import IntegerRows
from kdnas.students.quantizers import learned_scalings

if TYPE_CHECKING:
    from kdnas.students.gru import QuantGru


@dataclass(frozen=True, kw_only=True)
class IntegerGru:
    """Layers with ReLU, the cell of `gru.Recurrent`, and the head that reads its state.

    At each step it is off from the brevitas network, which mixes in float32, by one step in fewer than one of ten
    thousand states, for numbers of any bits; such a step is remembered, and fades as the state itself does.
    """

    inputs: IntegerInputs
    state_bits: int
    encoder: tuple[IntegerLayer, ...]
    reading: IntegerLayer
    """W, whose rows of the gates r and z are halved, as their sigmoids take them."""
    recalling: IntegerLayer
    """U, likewise."""
    head: IntegerLayer

    @property
    def units(self) -> int:
        """H."""
        return int(self.recalling.weights.shape[1])

    def begin(self, rows: int) -> NDArray[np.int32]:
        """Hidden states (rows, H) at the beginning of an episode."""
        return np.zeros((rows, self.units), np.int32)

    def vectors(self, inputs: Floats, hidden: NDArray[np.int32]) -> list[NDArray[np.int32]]:
        """Everything that is computed from inputs (B, O) and hidden states (B, H).

        Integers of inputs, each layer's activations, sums W x of the gates (B, 3H), next states (B, H), accumulators.
        """
        seen = [self.inputs.quantize(inputs)]
        for layer in self.encoder:
            seen.append(layer.activate(layer.accumulate(seen[-1])))
        read = self.reading.measure(self.reading.accumulate(seen[-1]))
        recalled = self.recalling.measure(self.recalling.accumulate(hidden))
        following = self.mix(read, recalled, hidden)
        return [*seen, read.astype(np.int32), following, self.head.accumulate(following)]

    def mix(
        self, read: NDArray[np.int64], recalled: NDArray[np.int64], hidden: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """The next states (B, H) from the sums of both matrices (B, 3H) and the states before (B, H)."""
        (reset, update, new), (own_reset, own_update, own_new) = (np.split(sums, 3, -1) for sums in (read, recalled))
        reset, update = sigmoid_steps(reset + own_reset), sigmoid_steps(update + own_update)
        new = tanh_steps(new + share(reset, own_new))
        drop = UNIT_BITS + 1 - self.state_bits
        mixed = new + share(update, (hidden.astype(np.int64) << drop) - new)
        # Counted from -1, so that no negative number is shifted.
        whole = mixed + ONE + (1 << (drop - 1))
        steps = whole >> drop
        steps -= (whole & ((1 << drop) - 1) == 0) & (steps & 1)  # half to even
        steps = np.minimum(steps, (1 << self.state_bits) - 1)
        return np.asarray(steps - (1 << (self.state_bits - 1)), np.int32)

    def step(self, inputs: Floats, hidden: NDArray[np.int32] | None) -> tuple[Floats, NDArray[np.int32]]:
        """Outputs (B, N), and next states (B, H)."""
        *_, following, sums = self.vectors(inputs, self.begin(len(inputs)) if hidden is None else hidden)
        return self.head.read(sums), following


def gru_integers(network: "QuantGru", spec: StudentSpec) -> IntegerGru:
    """The integers of a calibrated recurrent network.

    Raises:
        StudentError: it is not calibrated, or too wide.
    """
    import torch

    bits, (_, activation), nothing = spec.bits, common_bits(spec), torch.zeros(1)
    learned_scalings(network.relus, unseen=network.unseen)
    scale, largest = network.quantize_input(nothing).scale, 2 ** (bits.input - 1)
    inputs = IntegerInputs(factors=(network.input_factors() / scale).numpy(), limits=(-largest, largest - 1))

    def rows_of(linear: Any, scale: Any, largest: int) -> IntegerRows:
        weight_scale = linear.quant_weight().scale
        return IntegerRows.of(linear, spec, weight_scale=weight_scale, input_scale=scale, largest=largest)

    encoder = []
    for linear, relu in zip(network.encoder, network.relus, strict=True):
        rows = rows_of(linear, scale, largest)
        scale, largest = relu(nothing).scale, 2**activation - 1
        encoder.append(rows.relu(scale=scale.item(), limit=largest))
    shares = np.repeat([0.5, 0.5, 1.0], network.units)
    state = network.quantize_state(nothing).scale, 2 ** (activation - 1)
    return IntegerGru(
        inputs=inputs,
        state_bits=activation,
        encoder=tuple(encoder),
        reading=rows_of(network.input, scale, largest).gates(shares=shares),
        recalling=rows_of(network.state, *state).gates(shares=shares),
        head=rows_of(network.head, *state).outputs(),
    )
