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
from kdnas.students.fake_quant import SMALLEST_RANGE, FakeQuantMlp, snap
from kdnas.students.family import LayerShape
from kdnas.students.linears import make_linear

STATISTICS_BATCHES = 30
"""Batches in training mode from which a fresh activation quantizer takes its first scale; later ones learn it."""


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


class QuantMlp(nn.Module):
    """The same network on integers: inputs and weights signed, activations as `Activation` says, biases 32-bit.

    There is a scale for each input and for each row of a weight matrix, and one for each hidden layer. Those of rows
    start where the squared error of the row is least, the others from the first batches of data that pass through in
    training mode. All are learned (Esser et al. 2020, arXiv 1902.08153), as logarithms, but those of bounded
    activations, which are known.

    A scale of its own lets a feature be as large in integers as it matters, which weights of few bits cannot say: they
    are worth .015 of the return to 24x24 students of simple_spread at 4 bits.
    """

    def __init__(self, floating: Mlp, spec: StudentSpec) -> None:
        import brevitas.nn as qnn
        from brevitas.quant import Int8WeightPerChannelFloat, Int32Bias

        super().__init__()
        self.bits = bits = spec.bits
        self.activation = floating.activation
        first = floating.linears[0]
        assert isinstance(first, nn.Linear)
        self.input_ranges = nn.Parameter(torch.zeros(first.in_features))
        """Of each feature, (O,): log2 of the magnitude of the integer farthest from 0."""
        self.unseen = STATISTICS_BATCHES
        """Batches that the ranges of inputs are still to be taken from."""
        self._largest = torch.zeros(first.in_features)
        self.quantize_input = _make_unit_range(bits.input)
        linears: list[nn.Module] = []
        for index, linear in enumerate(floating.linears):
            assert isinstance(linear, nn.Linear)
            quantized: Any = qnn.QuantLinear(
                linear.in_features,
                linear.out_features,
                bias=True,
                weight_quant=Int8WeightPerChannelFloat,
                weight_bit_width=bits.weight,
                weight_scaling_impl_type="parameter_from_stats",
                weight_restrict_scaling_type="log_fp",
                bias_quant=Int32Bias,
                return_quant_tensor=index == len(floating.linears) - 1,
            )
            quantized.weight.data.copy_(linear.weight.data)
            quantized.bias.data.copy_(linear.bias.data)
            with torch.no_grad():
                quantized.quant_weight()  # a first use turns the learned ranges from statistics into parameters
                _fit_ranges(quantized, bits.weight)
            linears.append(quantized)
        self.linears = nn.ModuleList(linears)
        make = _make_softsign if self.activation.bounded else _make_relu
        self.activations = nn.ModuleList(make(bits.activation) for _ in linears[:-1])

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
        factors = (-self.input_ranges).exp2()
        if torch.onnx.is_in_onnx_export():
            factors = torch.tensor(factors.tolist())  # the graph holds these numbers, and not how they are computed
        return self.quantize_input(observations * factors)

    @torch.no_grad()
    def _calibrate(self, observations: Tensor) -> None:
        """Widen the ranges of inputs to those of some more observations (rows, O); the function stays the same."""
        self.unseen -= 1
        self._largest = torch.maximum(self._largest.to(observations.device), observations.abs().amax(0))
        most = self._largest.max()
        # A feature that is always 0 so far says nothing of its range.
        ranges = torch.where(self._largest > 0, self._largest, most if most > 0 else 1.0).log2()
        first: Any = self.linears[0]
        first.weight.mul_((ranges - self.input_ranges).exp2())
        self.input_ranges.copy_(ranges)
        _fit_ranges(first, self.bits.weight)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self.unseen = 0


class QuantSoftsign(nn.Module):
    """Softsign, and integers of either sign after it."""

    def __init__(self, quantize: nn.Module) -> None:
        super().__init__()
        self.quantize = quantize

    def forward(self, sums: Tensor) -> Any:
        return self.quantize(SOFTSIGN.apply(sums))


def _make_relu(bits: int) -> nn.Module:
    """ReLU, and numbers without a sign after it."""
    import brevitas.nn as qnn
    from brevitas.quant import Uint8ActPerTensorFloat

    relu: nn.Module = qnn.QuantReLU(
        act_quant=Uint8ActPerTensorFloat,
        bit_width=bits,
        restrict_scaling_type="log_fp",
        return_quant_tensor=True,
        collect_stats_steps=STATISTICS_BATCHES,
    )
    return relu


def _make_softsign(bits: int) -> QuantSoftsign:
    return QuantSoftsign(_make_unit_range(bits))


def _make_unit_range(bits: int) -> nn.Module:
    """The integers -2^(bits - 1) to 2^(bits - 1) - 1, which stand for -1 to nearly 1."""
    import brevitas.nn as qnn
    from brevitas.quant import Int8ActPerTensorFloat

    quantizer: nn.Module = qnn.QuantIdentity(
        act_quant=Int8ActPerTensorFloat,
        bit_width=bits,
        scaling_impl_type="const",
        scaling_init=1.0,
        return_quant_tensor=True,
    )
    return quantizer


@torch.no_grad()
def _fit_ranges(linear: Any, bits: int) -> None:
    """Let the rows of a quantized layer begin where their squared error is least."""
    ranges = linear.weight_quant.tensor_quant.scaling_impl.value
    ranges.copy_(best_ranges(linear.weight, 2 ** (bits - 1) - 1).log2())


def best_ranges(weight: Tensor, limit: int) -> Tensor:
    """Per row of a matrix (rows, columns), the value (rows, 1) for the integer `limit` that rounds it best.

    Of 71 shares of the largest weight of the row, 0.3 to 1, the one with the least squared error.
    """
    largest = weight.abs().amax(1, keepdim=True)
    # A row without weights must not take its bias, an integer at its scale, out of 32 bits.
    largest = largest.clamp_min(largest.max() / 1024).clamp_min(SMALLEST_RANGE)
    candidates = largest * torch.linspace(0.3, 1.0, 71)  # (rows, 71)
    scales = candidates[..., None] / limit
    rounded = (weight[:, None] / scales).round().clamp(-limit, limit) * scales
    errors = (rounded - weight[:, None]).square().sum(-1)
    return candidates.gather(1, errors.argmin(1, keepdim=True))


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

    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantMlp:
        assert isinstance(network, Mlp)
        return QuantMlp(network, spec)

    def training_twin(self, quantized: nn.Module) -> FakeQuantMlp:
        assert isinstance(quantized, QuantMlp)
        return FakeQuantMlp(quantized)

    def hidden_size(self, spec: StudentSpec) -> int:
        return 0

    def layers(self, spec: StudentSpec, spaces: AgentSpec) -> list[LayerShape]:
        sizes = [spaces.observation_size, *spec.hidden, spaces.actions.outputs]
        last = len(sizes) - 2
        return [
            LayerShape(
                rows=rows,
                columns=columns,
                weight_bits=spec.bits.weight,
                input_bits=spec.bits.input if index == 0 else spec.bits.activation,
                output_bits=spec.bits.activation if index < last else FLOAT_BITS,
                # Of its rows, or their ratio to that of the activations it writes; of each input, in the first.
                scales=(rows + columns * (index == 0)) if spec.bits.quantized else 0,
            )
            for index, (columns, rows) in enumerate(pairwise(sizes))
        ]


FAMILY = MlpFamily()
SOFTSIGN_FAMILY = MlpFamily("mlp_softsign", SOFTSIGN)
