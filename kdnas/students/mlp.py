"""The families `mlp` and `mlp_softsign`: linear layers with ReLU or softsign between them, in float or quantized by
brevitas."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.spaces.spec import FLOAT_BITS, StudentSpec
from kdnas.students.activation import RELU, SOFTSIGN, Activation
from kdnas.students.fake_quant import FakeQuantMlp, snap
from kdnas.students.family import PLACE_BYTES, LayerShape, Place
from kdnas.students.input_ranges import InputRanges
from kdnas.students.integer_mlp import IntegerMlp, mlp_integers
from kdnas.students.linears import make_linear
from kdnas.students.quantizers import fit_ranges, make_relu, make_unit_range, quantize_linear, quantize_outputs


class Mlp(nn.Module):
    """Float network (rows, O) -> (rows, N)."""

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, activation: Activation = RELU) -> None:
        super().__init__()
        self.activation = activation
        self.linears = nn.ModuleList(make_linear(fan_in, fan_out, generator) for fan_in, fan_out in pairwise(sizes))

    def forward(self, observations: Tensor) -> Tensor:
        hidden = observations
        for linear in self.linears[:-1]:
            hidden = self.activation.apply(linear(hidden))
        logits: Tensor = self.linears[-1](hidden)
        return logits


class QuantMlp(InputRanges):
    """The same network on integers: inputs and weights signed, activations as `Activation` says, biases 32-bit.

    There is a scale for each input and for each row of a weight matrix, and one for each hidden layer. Those of rows
    start where the squared error of the row is least, the others from the first batches of data that pass through in
    training mode. All are learned (Esser et al. 2020, arXiv 1902.08153), as logarithms, but those of bounded
    activations, which are known. Where the spec wants powers of two, those of rows and of hidden layers are.
    """

    def __init__(self, floating: Mlp, spec: StudentSpec) -> None:
        *hidden, last = floating.linears
        first = floating.linears[0]
        assert isinstance(first, nn.Linear)
        super().__init__(range(first.in_features))
        self.bits = bits = spec.bits
        self.activation = floating.activation
        self.quantize_input = make_unit_range(bits.input)
        *narrow, outputs = bits.weights(len(floating.linears))
        scales = {"power_of_two": bits.power_of_two}
        self.linears = nn.ModuleList(
            quantize_linear(linear, width, **scales) for linear, width in zip(hidden, narrow, strict=True)
        )
        self.linears.append(quantize_outputs(last, outputs, **scales))
        self.activations = nn.ModuleList(
            _make_softsign(width) if self.activation.bounded else make_relu(width, **scales)
            for width in bits.activations(len(hidden))
        )

    def forward(self, observations: Tensor) -> Tensor:
        if self.training and self.unseen:
            self._calibrate(observations.detach())
        hidden = self.read(observations)
        for linear, activation in zip(self.linears[:-1], self.activations, strict=True):
            hidden = activation(linear(hidden))
        last: Any = self.linears[-1](hidden)
        logits: Tensor = last.value
        if self.training or torch.onnx.is_in_onnx_export():
            return logits
        return snap(logits, last.scale)

    def read(self, observations: Tensor) -> Any:
        """Observations (rows, O) in units of their ranges, and integers of these."""
        return self.quantize_input(observations * self.input_factors())

    @torch.no_grad()
    def _calibrate(self, observations: Tensor) -> None:
        """Widen the ranges of inputs to those of some more observations (rows, O); the function stays the same."""
        first: Any = self.linears[0]
        first.weight.mul_(self.widen(observations))
        fit_ranges(first, self.bits.weights(len(self.linears))[0], power_of_two=self.bits.power_of_two)


class QuantSoftsign(nn.Module):
    """Softsign, and integers of either sign after it."""

    def __init__(self, quantize: nn.Module) -> None:
        super().__init__()
        self.quantize = quantize

    def forward(self, sums: Tensor) -> Any:
        return self.quantize(SOFTSIGN.apply(sums))


def _make_softsign(bits: int) -> QuantSoftsign:
    return QuantSoftsign(make_unit_range(bits))


class MlpFamily:
    """`mlp`, and its likes with another activation: see `Family`."""

    def __init__(self, name: str = "mlp", activation: Activation = RELU) -> None:
        self.name, self.chain = name, activation

    def build(self, spec: StudentSpec, spaces: AgentSpec, generator: torch.Generator) -> Mlp:
        return Mlp([spaces.observation_size, *spec.hidden, spaces.actions.outputs], generator, self.chain)

    def prunable(self, network: nn.Module) -> list[nn.Module]:
        assert isinstance(network, Mlp)
        return list(network.linears[:-1])

    def units(self, spec: StudentSpec, spaces: AgentSpec) -> None:
        return None  # torch-pruning understands it

    def inputs(self, spec: StudentSpec) -> tuple[Place, ...]:
        return (Place(parameter="linears.0.weight", axis=1),)

    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantMlp:
        assert isinstance(network, Mlp)
        return QuantMlp(network, spec)

    def training_twin(self, quantized: nn.Module) -> FakeQuantMlp:
        assert isinstance(quantized, QuantMlp)
        return FakeQuantMlp(quantized)

    def integers(self, network: nn.Module, spec: StudentSpec) -> IntegerMlp:
        assert isinstance(network, QuantMlp)
        return mlp_integers(network, spec)

    def hidden_size(self, spec: StudentSpec) -> int:
        return 0

    def layers(self, spec: StudentSpec, spaces: AgentSpec) -> list[LayerShape]:
        sizes = [spaces.observation_size, *spec.hidden, spaces.actions.outputs]
        depth, bits = len(spec.hidden), spec.bits
        weights, vectors = bits.weights(depth + 1), [bits.input, *bits.activations(depth), FLOAT_BITS]
        # Of its rows, or their ratio to that of the activations it writes; of each input, in the first.
        return [
            LayerShape(
                rows=rows,
                columns=columns,
                weight_bits=weights[index],
                input_bits=vectors[index],
                output_bits=vectors[index + 1],
                scales=rows * (bits.quantized and not bits.power_of_two) + columns * (bits.quantized and index == 0),
                exponents=rows * bits.power_of_two,
                table_bytes=PLACE_BYTES * columns if index == 0 and spec.inputs is not None else 0,
            )
            for index, (columns, rows) in enumerate(pairwise(sizes))
        ]


FAMILY = MlpFamily()
SOFTSIGN_FAMILY = MlpFamily("mlp_softsign", SOFTSIGN)
