"""`IntegerDeepSet`: a quantized network over sets of entities in integers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdnas.policies.arrays import Floats
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import common_bits
from kdnas.students.integer import IntegerInputs, IntegerLayer, mean_steps
from kdnas.students.integer_rows import IntegerRows
from kdnas.students.quantizers import learned_scalings

if TYPE_CHECKING:
    from kdnas.students.deepset import QuantDeepSet


@dataclass(frozen=True, kw_only=True)
class IntegerSet:
    """The members of one set, and the encoder that they share."""

    members: int
    inputs: IntegerInputs
    """Of one member."""
    encoder: IntegerLayer

    def mean(self, features: NDArray[np.int32], limit: int) -> NDArray[np.int32]:
        """Means (B, E), at most `limit`, over the members' features (B, K * d)."""
        encoder, rows = self.encoder, features.reshape(-1, self.encoder.weights.shape[1])
        encoded = encoder.activate(encoder.accumulate(rows)).astype(np.int64)
        totals = encoded.reshape(len(features), self.members, -1).sum(1)
        return np.minimum(mean_steps(totals, self.members), limit).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class IntegerDeepSet:
    """Own features and the mean of each set, then layers."""

    index: tuple[int, ...]
    """Of the declared features (F,), own ones first and then set by set and member by member, in what it reads."""
    own: IntegerInputs
    sets: tuple[IntegerSet, ...]
    layers: tuple[IntegerLayer, ...]

    def vectors(self, inputs: Floats) -> list[NDArray[np.int32]]:
        """Everything that is computed from inputs (B, O).

        Integers of each set (B, K * d), own features and means (B, F0 + S * E), each layer's activations, accumulators.
        """
        features, begin = inputs[:, list(self.index)], len(self.own.factors)
        pooled, seen = [self.own.quantize(features[:, :begin])], []
        for each in self.sets:
            width = len(each.inputs.factors)
            members = features[:, begin : begin + each.members * width]
            begin += each.members * width
            seen.append(each.inputs.quantize(members.reshape(-1, width)).reshape(members.shape))
            pooled.append(each.mean(seen[-1], self.own.limits[1]))
        seen.append(np.concatenate(pooled, 1))
        for layer in self.layers[:-1]:
            seen.append(layer.activate(layer.accumulate(seen[-1])))
        return [*seen, self.layers[-1].accumulate(seen[-1])]

    def begin(self, rows: int) -> None:
        """It remembers nothing."""

    def step(self, inputs: Floats, hidden: NDArray[np.int32] | None) -> tuple[Floats, None]:
        """Outputs (B, N)."""
        return self.layers[-1].read(self.vectors(inputs)[-1]), None


def deepset_integers(network: "QuantDeepSet", spec: StudentSpec) -> IntegerDeepSet:
    """The integers of a calibrated network over sets.

    Raises:
        StudentError: it is not calibrated, or too wide.
    """
    import torch

    bits, (_, activation), nothing = spec.bits, common_bits(spec), torch.zeros(1)
    learned_scalings(network.relus, unseen=network.unseen)

    def rows_of(linear: Any, scale: Any, largest: int) -> IntegerRows:
        weight_scale = linear.quant_weight().scale
        return IntegerRows.of(linear, spec, weight_scale=weight_scale, input_scale=scale, largest=largest)

    seen, pooled = network.quantize_input(nothing).scale, network.quantize_pooled(nothing).scale
    factors, begin, sets = network.input_factors(), network.sets.own, []
    largest, highest = 2 ** (bits.input - 1), 2**activation - 1
    for encoder, relu, (count, width) in zip(network.encoders, network.encoder_relus, network.sets.shapes, strict=True):
        sets.append(
            IntegerSet(
                members=count,
                inputs=IntegerInputs(
                    factors=(factors[begin : begin + width] / seen).numpy(), limits=(-largest, largest - 1)
                ),
                encoder=rows_of(encoder, seen, largest).relu(scale=relu(nothing).scale.item(), limit=highest),
            )
        )
        begin += count * width
    scale, largest = pooled, 2 ** (activation - 1)
    own = IntegerInputs(factors=(factors[: network.sets.own] / pooled).numpy(), limits=(-largest, largest - 1))
    layers = []
    for linear, relu in zip(network.linears[:-1], network.relus, strict=True):
        rows, scale, largest = rows_of(linear, scale, largest), relu(nothing).scale, highest
        layers.append(rows.relu(scale=scale.item(), limit=highest))
    layers.append(rows_of(network.linears[-1], scale, largest).outputs())
    return IntegerDeepSet(
        index=tuple(network.sets.index.tolist()),
        own=own,
        sets=tuple(sets),
        layers=tuple(layers),
    )
