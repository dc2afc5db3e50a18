"""The family `deepset`: what an agent sees of the things around it is averaged, in whatever order they stand.

Source: Zaheer et al. 2017, Deep Sets, arXiv 1703.06114.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kdnas.envs.entities import Entities
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.spaces.spec import FLOAT_BITS, StudentSpec
from kdnas.students.fake_quant import snap
from kdnas.students.family import LayerShape, Place, Units, common_bits
from kdnas.students.input_ranges import InputRanges
from kdnas.students.integer_deepset import IntegerDeepSet, deepset_integers
from kdnas.students.linears import make_linear
from kdnas.students.quantizers import (
    fit_ranges,
    make_relu,
    make_unit_range,
    make_unit_relu,
    quantize_linear,
    quantize_outputs,
)


class Sets(nn.Module):
    """Where a view keeps the agent's own features and those of each set; constants of the code, and no weights."""

    index: Tensor

    def __init__(self, entities: Entities, encoding: int) -> None:
        super().__init__()
        self.own, self.encoding = len(entities.own), encoding
        self.shapes = [(len(each.members), each.width) for each in entities.sets]
        self.register_buffer("index", torch.tensor(entities.features), persistent=False)

    @property
    def ranges(self) -> list[int]:
        """Of each declared feature, which range is its own: all members of a set share those of their features."""
        places, begin = list(range(self.own)), self.own
        for count, width in self.shapes:
            places += [*range(begin, begin + width)] * count
            begin += width
        return places

    def gather(self, views: Tensor) -> Tensor:
        """(rows, V) -> (rows, F): the declared features alone, in the order of the declaration."""
        return views.index_select(-1, self.index)

    def split(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(rows, F) -> own (rows, F0), and each set with its members one below the other: (rows * K, d)."""
        own, *parts = torch.split(features, [self.own, *(count * width for count, width in self.shapes)], -1)
        return own, [part.reshape(-1, width) for part, (_, width) in zip(parts, self.shapes, strict=True)]

    def pool(self, own: Tensor, encoded: Sequence[Tensor]) -> Tensor:
        """Own features, and the mean over the members of each set, side by side: (rows, F0 + S * E)."""
        means = [
            values.reshape(-1, count, self.encoding).mean(1)
            for values, (count, _) in zip(encoded, self.shapes, strict=True)
        ]
        return torch.cat([own, *means], -1)


class DeepSet(nn.Module):
    """Float network (rows, V) -> (rows, N).

    Each set has an encoder d -> E with ReLU, which all its members share; own features and the means of all sets go
    through linear layers with ReLU between them.
    """

    def __init__(self, entities: Entities, hidden: Sequence[int], outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        encoding, *widths = hidden
        self.sets = Sets(entities, encoding)
        pooled = self.sets.own + len(self.sets.shapes) * encoding
        self.encoders = nn.ModuleList(make_linear(width, encoding, generator) for _, width in self.sets.shapes)
        self.linears = nn.ModuleList(make_linear(a, b, generator) for a, b in pairwise([pooled, *widths, outputs]))

    def forward(self, views: Tensor) -> Tensor:
        own, members = self.sets.split(self.sets.gather(views))
        hidden = self.sets.pool(own, [linear(seen).relu() for linear, seen in zip(self.encoders, members, strict=True)])
        for linear in self.linears[:-1]:
            hidden = linear(hidden).relu()
        outputs: Tensor = self.linears[-1](hidden)
        return outputs


class QuantDeepSet(InputRanges):
    """The same network with integer matrix products.

    What is seen of entities is signed, with one scale for a feature of all members of a set, so that their order makes
    no difference here either. Encodings lie between 0 and 1, unsigned: their rows start so. Own features, each at a
    scale of its own, and means are signed integers of activation bits between -1 and 1.
    """

    def __init__(self, floating: DeepSet, spec: StudentSpec) -> None:
        super().__init__(floating.sets.ranges)
        weight, activation = common_bits(spec)
        self.weight_bits = weight
        self.sets = floating.sets
        self.quantize_input = make_unit_range(spec.bits.input)
        self.encoders = nn.ModuleList(quantize_linear(linear, weight) for linear in floating.encoders)
        self.encoder_relus = nn.ModuleList(make_unit_relu(activation) for _ in floating.encoders)
        self.quantize_pooled = make_unit_range(activation)
        self._reached = torch.zeros(len(floating.encoders), self.sets.encoding)
        *linears, head = floating.linears
        self.linears = nn.ModuleList(
            [*(quantize_linear(linear, weight) for linear in linears), quantize_outputs(head, weight)]
        )
        self.relus = nn.ModuleList(make_relu(activation) for _ in linears)

    def forward(self, views: Tensor) -> Tensor:
        features = self.sets.gather(views)
        if self.training and self.unseen:
            self._calibrate(features.detach())
        hidden = self.pool(features)
        for linear, relu in zip(self.linears[:-1], self.relus, strict=True):
            hidden = relu(linear(hidden))
        outputs: Any = self.linears[-1](hidden)
        value: Tensor = outputs.value
        return value if self.training or torch.onnx.is_in_onnx_export() else snap(value, outputs.scale)

    def pool(self, features: Tensor) -> Any:
        """Declared features (rows, F) -> own ones and means (rows, F0 + S * E), quantized."""
        own, members = self.sets.split(features * self.input_factors())
        encoded = self.encode([self.quantize_input(seen) for seen in members])
        return self.quantize_pooled(self.sets.pool(own, encoded))

    def encode(self, members: Sequence[Any]) -> list[Tensor]:
        """Of each set, what its members (rows * K, d), quantized, are encoded as: (rows * K, E)."""
        return [
            relu(linear(seen)).value
            for linear, relu, seen in zip(self.encoders, self.encoder_relus, members, strict=True)
        ]

    @torch.no_grad()
    def _calibrate(self, features: Tensor) -> None:
        """Widen the ranges of inputs, and of encodings, to those of some more features (rows, F).

        The function stays the same: what reads them is multiplied by as much as they are divided by.
        """
        factors = self.widen(features)
        reader: Any = self.linears[0]
        reader.weight[:, : self.sets.own] *= factors[: self.sets.own]
        begin, scaled = self.sets.own, features * self.input_factors()
        self._reached = self._reached.to(features.device)
        for index, (linear, seen) in enumerate(zip(self.encoders, self.sets.split(scaled)[1], strict=True)):
            encoder: Any = linear
            encoder.weight *= factors[begin : begin + seen.shape[1]]
            begin += seen.shape[1]
            reached = nn.functional.linear(seen, encoder.weight, encoder.bias).amax(0)
            # In today's units the largest so far is 1, or 0 where nothing was above it yet.
            ratio = torch.maximum(reached, self._reached[index])
            self._reached[index] = (ratio > 0).float()
            ratio = torch.where(ratio > 0, ratio, 1.0)
            encoder.weight /= ratio[:, None]
            encoder.bias /= ratio
            block = self.sets.own + index * self.sets.encoding
            reader.weight[:, block : block + self.sets.encoding] *= ratio
            fit_ranges(encoder, self.weight_bits)
        fit_ranges(reader, self.weight_bits)


class DeepSetFamily:
    """`deepset`: see `Family`. The first hidden width is that of all encoders, the others follow the means."""

    name = "deepset"
    chain = None

    def build(self, spec: StudentSpec, spaces: AgentSpec, generator: torch.Generator) -> DeepSet:
        return DeepSet(_entities(spec, spaces), spec.hidden, spaces.actions.outputs, generator)

    def prunable(self, network: nn.Module) -> list[nn.Module]:
        return []

    def units(self, spec: StudentSpec, spaces: AgentSpec) -> list[Units]:
        entities, encoding = _entities(spec, spaces), spec.hidden[0]
        encoders = [
            Units(
                layer=0,
                places=(
                    Place(parameter=f"encoders.{index}.weight", axis=0),
                    Place(parameter=f"encoders.{index}.bias", axis=0),
                    Place(parameter="linears.0.weight", axis=1, start=len(entities.own) + index * encoding),
                ),
            )
            for index in range(len(entities.sets))
        ]
        linears = [
            Units(
                layer=index + 1,
                places=(
                    Place(parameter=f"linears.{index}.weight", axis=0),
                    Place(parameter=f"linears.{index}.bias", axis=0),
                    Place(parameter=f"linears.{index + 1}.weight", axis=1),
                ),
            )
            for index in range(len(spec.hidden) - 1)
        ]
        return encoders + linears

    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantDeepSet:
        assert isinstance(network, DeepSet)
        return QuantDeepSet(network, spec)

    def integers(self, network: nn.Module, spec: StudentSpec) -> IntegerDeepSet:
        assert isinstance(network, QuantDeepSet)
        return deepset_integers(network, spec)

    def gathered(self, spaces: AgentSpec) -> int:
        """Those that belong to entities."""
        return 0 if spaces.entities is None else len(spaces.entities.features)

    def hidden_size(self, spec: StudentSpec) -> int:
        return 0

    def layers(self, spec: StudentSpec, spaces: AgentSpec) -> list[LayerShape]:
        entities, (encoding, *widths), bits = _entities(spec, spaces), spec.hidden, spec.bits
        weight, activation = common_bits(spec)
        stored, own = int(bits.quantized), len(entities.own)
        pooled = own + len(entities.sets) * encoding
        encoders = [
            LayerShape(
                rows=encoding,
                columns=each.width,
                times=len(each.members),
                weight_bits=weight,
                input_bits=bits.input,
                output_bits=activation,
                # Of its rows; of the features of a member; of the agent's own, in the first.
                scales=stored * (encoding + each.width + own * (index == 0)),
                writes=pooled,
                # Where each declared feature stands, in 16 bits.
                table_bytes=2 * len(entities.features) * (index == 0),
            )
            for index, each in enumerate(entities.sets)
        ]
        sizes = [pooled, *widths, spaces.actions.outputs]
        last = len(sizes) - 2
        linears = [
            LayerShape(
                rows=rows,
                columns=columns,
                weight_bits=weight,
                input_bits=activation,
                output_bits=activation if index < last else FLOAT_BITS,
                scales=stored * rows,
            )
            for index, (columns, rows) in enumerate(pairwise(sizes))
        ]
        return encoders + linears


def _entities(spec: StudentSpec, spaces: AgentSpec) -> Entities:
    """The declaration that a student reads its view by.

    Raises:
        StudentError: there is none, it has no sets, or there is no layer for their means.
    """
    if spaces.entities is None or not spaces.entities.sets:
        raise StudentError(
            f"student {spec}: a deepset is a family that does not fit the observation, which declares no sets of "
            "entities; declare them in [observe.GROUP.entities], or use mlp"
        )
    if len(spec.hidden) < 2:
        raise StudentError(f"student {spec}: a deepset needs two hidden widths or more, that of its encoders first")
    return spaces.entities


FAMILY = DeepSetFamily()
