"""The family `gru`: linear layers with ReLU, one GRU cell that remembers, and a linear layer that decides."""

from abc import abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.spaces.spec import FLOAT_BITS, StudentSpec
from kdnas.students.fake_quant import snap
from kdnas.students.family import PLACE_BYTES, LayerShape, Place, Units, common_bits
from kdnas.students.input_ranges import InputRanges
from kdnas.students.integer import TANH
from kdnas.students.integer_gru import IntegerGru, gru_integers
from kdnas.students.linears import make_linear
from kdnas.students.quantizers import fit_ranges, make_relu, make_unit_range, quantize_linear, quantize_outputs
from kdnas.students.recurrence import recur

GATES = 3
"""Reset, update, new: in this order in the rows of both matrices of the cell, as in `torch.nn.GRUCell`."""

Recall: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


class Recurrent(nn.Module):
    """Network (rows, V), hidden state (rows, H) -> outputs (rows, N), next hidden state (rows, H).

    The cell is that of PyTorch (Cho et al. 2014, arXiv 1406.1078, with the reset gate after the matrix):

        r = sigmoid(W_r x + U_r h)    z = sigmoid(W_z x + U_z h)    n = tanh(W_n x + r * (U_n h))
        h' = (1 - z) * n + z * h

    where W and U have biases of their own, and are one linear layer each, so that they are counted, exported and
    quantized as every other.
    """

    units: int
    """H; a number and no shape, so that a trace of it splits at constants."""

    def forward(self, views: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        following = mix(self.units, self.read(views), *self.recall(hidden))
        return self.say(following), self.keep(following)

    def unroll(self, views: Tensor, hidden: Tensor) -> Tensor:
        """Outputs (K, T, N) of T steps (K, T, V) from a hidden state (K, H).

        Everything but the recurrence is computed for all steps at once.
        """
        recall, states = self.recall_often(), []
        for read in self.read(views.flatten(0, 1)).reshape(*views.shape[:2], -1).unbind(1):
            hidden = mix(self.units, read, *recall(hidden))
            states.append(hidden)
        return self.say(torch.stack(states, 1).flatten(0, 1)).reshape(*views.shape[:2], -1)

    def recall_often(self) -> Recall:
        """`recall` with the same answers, for many steps between which no weight changes."""
        return self.recall

    @abstractmethod
    def read(self, views: Tensor) -> Tensor:
        """W x (rows, 3H) of views (rows, V)."""

    @abstractmethod
    def recall(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """h (rows, H) as it is remembered, and U h (rows, 3H)."""

    @abstractmethod
    def say(self, hidden: Tensor) -> Tensor:
        """Outputs (rows, N) of hidden states (rows, H)."""

    @abstractmethod
    def keep(self, hidden: Tensor) -> Tensor:
        """A hidden state (rows, H) as it is handed to the next step."""


def mix(units: int, read: Tensor, held: Tensor, recalled: Tensor) -> Tensor:
    """The next hidden state (rows, H) of H units from W x (rows, 3H), h (rows, H) and U h (rows, 3H)."""
    (gates, new), (own_gates, own_new) = (torch.split(values, [2 * units, units], -1) for values in (read, recalled))
    reset, update = torch.split((gates + own_gates).sigmoid(), units, -1)
    new = (new + reset * own_new).tanh()
    return new + update * (held - new)


class Gru(Recurrent):
    """The network in float, of sizes V, those of the encoder, H and N: linear layers with ReLU, the cell, the head."""

    def __init__(self, sizes: list[int], generator: torch.Generator) -> None:
        super().__init__()
        *encoder, fan_in, units, outputs = sizes
        self.units = units
        self.encoder = nn.ModuleList(make_linear(a, b, generator) for a, b in pairwise([*encoder, fan_in]))
        self.input, self.state = (  # a gate is a matrix of its own
            make_linear(columns, GATES * units, generator, gain=1.0, blocks=GATES) for columns in (fan_in, units)
        )
        self.head = make_linear(units, outputs, generator)

    def encode(self, views: Tensor) -> Tensor:
        """What the cell reads (..., F) of views (..., V)."""
        for linear in self.encoder:
            views = linear(views).relu()
        return views

    def read(self, views: Tensor) -> Tensor:
        gates: Tensor = self.input(self.encode(views))
        return gates

    def recall(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, self.state(hidden)

    def say(self, hidden: Tensor) -> Tensor:
        outputs: Tensor = self.head(hidden)
        return outputs

    def keep(self, hidden: Tensor) -> Tensor:
        return hidden

    def unroll(self, views: Tensor, hidden: Tensor) -> Tensor:
        encoded = self.encode(views.transpose(0, 1))
        reading, recalling = ((linear.weight, linear.bias) for linear in (self.input, self.state))
        states = recur(encoded.transpose(1, 2), hidden.T, reading, recalling)
        return self.say(states.permute(2, 0, 1).flatten(0, 1)).reshape(*views.shape[:2], -1)


class QuantGru(Recurrent, InputRanges):
    """The same network with integer matrix products.

    Views are signed, each at a scale of its own, encodings unsigned. The hidden state between two steps is signed, at
    activation bits; a mixture of tanh and what was there before, from 0 on, lies between -1 and 1, so that its scale is
    known. The sums of both matrices of the cell are turned back into floats; sigmoid, tanh and the mixture of old and
    new state are computed on these, for no integer table of them is common to runtimes. `integer_gru` has one.
    """

    def __init__(self, floating: Gru, spec: StudentSpec) -> None:
        first = next(iter(floating.encoder), floating.input)
        assert isinstance(first, nn.Linear)
        super().__init__(range(first.in_features))
        self.weight_bits, self.activation_bits = weight, activation = common_bits(spec)
        self.units = floating.units
        self.quantize_input = make_unit_range(spec.bits.input)
        self.encoder = nn.ModuleList(quantize_linear(linear, weight) for linear in floating.encoder)
        self.relus = nn.ModuleList(make_relu(activation) for _ in floating.encoder)
        self.input = quantize_linear(floating.input, weight)
        self.quantize_state = make_unit_range(activation)
        self.state = quantize_linear(floating.state, weight)
        self.head = quantize_outputs(floating.head, weight)

    def read(self, views: Tensor) -> Tensor:
        if self.training and self.unseen:
            self._calibrate(views.detach())
        values: Any = self.quantize_input(views * self.input_factors())
        for linear, relu in zip(self.encoder, self.relus, strict=True):
            values = relu(linear(values))
        gates: Tensor = self.input(values)
        return gates

    @torch.no_grad()
    def _calibrate(self, views: Tensor) -> None:
        """Widen the ranges of inputs to those of some more views (rows, V); the function stays the same."""
        first: Any = next(iter(self.encoder), self.input)
        first.weight.mul_(self.widen(views))
        fit_ranges(first, self.weight_bits)

    def recall(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        held = self.quantize_state(hidden)  # quantized twice it is what it was quantized once
        return held.value, self.state(held)

    def recall_often(self) -> Recall:
        # brevitas quantizes the weights at each call, which is nine tenths of a step.
        from brevitas.function.ops_ste import round_ste

        held = self.quantize_state(torch.zeros(1, self.state.in_features, device=self.state.weight.device))
        weight = self.state.quant_weight()
        bias = self.state.bias_quant(self.state.bias, held, weight)
        low, high = -(2 ** (self.activation_bits - 1)), 2 ** (self.activation_bits - 1) - 1

        def recall(hidden: Tensor) -> tuple[Tensor, Tensor]:
            value = round_ste(hidden / held.scale).clamp(low, high) * held.scale
            return value, nn.functional.linear(value, weight.value, bias.value)

        return recall

    def say(self, hidden: Tensor) -> Tensor:
        outputs = self.head(self.quantize_state(hidden))
        value: Tensor = outputs.value
        return value if self.training or torch.onnx.is_in_onnx_export() else snap(value, outputs.scale)

    def keep(self, hidden: Tensor) -> Tensor:
        kept: Tensor = self.quantize_state(hidden).value
        return kept


class GruFamily:
    """`gru`: see `Family`. The last of the hidden widths is the cell's, those before it are the encoder's."""

    name = "gru"
    chain = None

    def build(self, spec: StudentSpec, spaces: AgentSpec, generator: torch.Generator) -> Gru:
        return Gru([spaces.observation_size, *spec.hidden, spaces.actions.outputs], generator)

    def prunable(self, network: nn.Module) -> list[nn.Module]:
        return []

    def units(self, spec: StudentSpec, spaces: AgentSpec) -> list[Units]:
        last, cell = len(spec.hidden) - 1, spec.hidden[-1]
        encoders = [
            Units(
                layer=index,
                places=(
                    Place(parameter=f"encoder.{index}.weight", axis=0),
                    Place(parameter=f"encoder.{index}.bias", axis=0),
                    Place(parameter=f"encoder.{index + 1}.weight" if index + 1 < last else "input.weight", axis=1),
                ),
            )
            for index in range(last)
        ]
        gates = tuple(
            Place(parameter=f"{matrix}.{kind}", axis=0, start=gate * cell)
            for matrix in ("input", "state")
            for kind in ("weight", "bias")
            for gate in range(GATES)
        )
        readers = tuple(Place(parameter=f"{matrix}.weight", axis=1) for matrix in ("state", "head"))
        return [*encoders, Units(layer=last, places=gates + readers)]

    def inputs(self, spec: StudentSpec) -> tuple[Place, ...]:
        return (Place(parameter="encoder.0.weight" if len(spec.hidden) > 1 else "input.weight", axis=1),)

    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantGru:
        assert isinstance(network, Gru)
        return QuantGru(network, spec)

    def integers(self, network: nn.Module, spec: StudentSpec) -> IntegerGru:
        assert isinstance(network, QuantGru)
        return gru_integers(network, spec)

    def hidden_size(self, spec: StudentSpec) -> int:
        return spec.hidden[-1] if spec.hidden else 0

    def layers(self, spec: StudentSpec, spaces: AgentSpec) -> list[LayerShape]:
        if not spec.hidden:
            raise StudentError(f"student {spec}: the last width is that of its cell; give one at least")
        cell, bits, (weight, activation) = spec.hidden[-1], spec.bits, common_bits(spec)
        sizes = [spaces.observation_size, *spec.hidden[:-1], GATES * cell]
        last = len(sizes) - 2
        reading = [
            LayerShape(
                rows=rows,
                columns=columns,
                weight_bits=weight,
                input_bits=bits.input if index == 0 else activation,
                output_bits=activation if index < last else FLOAT_BITS,
                # Of its rows, or their ratio to that of what they become; of each input, in the first.
                scales=(rows + columns * (index == 0)) if bits.quantized else 0,
                table_bytes=PLACE_BYTES * columns if index == 0 and spec.inputs is not None else 0,
            )
            for index, (columns, rows) in enumerate(pairwise(sizes))
        ]
        state, head = (
            LayerShape(
                rows=rows,
                columns=cell,
                weight_bits=weight,
                input_bits=activation,
                output_bits=FLOAT_BITS,
                scales=rows if bits.quantized else 0,
                recurrent=recurrent,
                table_bytes=TANH.nbytes if recurrent and bits.quantized else 0,
            )
            for rows, recurrent in [(GATES * cell, True), (spaces.actions.outputs, False)]
        )
        return [*reading, state, head]


FAMILY = GruFamily()
