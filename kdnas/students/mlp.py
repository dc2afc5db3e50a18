"""The family `mlp`: linear layers with ReLU between them, in float or quantized by brevitas."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init  # leaves the global generator alone

from kdnas.envs.spec import AgentSpec
from kdnas.spaces.spec import FLOAT_BITS, StudentSpec
from kdnas.students.family import LayerShape

STATISTICS_BATCHES = 30
"""Batches in training mode from which a fresh activation quantizer takes its first scale; later ones learn it."""


class Mlp(nn.Module):
    """Float network (rows, O) -> (rows, N)."""

    def __init__(self, sizes: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.linears = nn.ModuleList(
            skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
            for fan_in, fan_out in pairwise(sizes)
        )
        for linear in self.linears:
            assert isinstance(linear, nn.Linear)
            nn.init.orthogonal_(linear.weight, 2**0.5, generator=generator)
            nn.init.zeros_(linear.bias)

    def forward(self, observations: Tensor) -> Tensor:
        hidden = observations
        for linear in self.linears[:-1]:
            hidden = linear(hidden).relu()
        logits: Tensor = self.linears[-1](hidden)
        return logits


class QuantMlp(nn.Module):
    """The same network on integers: inputs and weights signed, hidden activations unsigned, biases 32-bit.

    Scales are per tensor: of the weights by their largest value, of inputs and activations learned (Esser et al. 2020,
    arXiv 1902.08153), starting from the first batches of data that pass through in training mode.
    """

    def __init__(self, floating: Mlp, spec: StudentSpec) -> None:
        import brevitas.nn as qnn
        from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Int32Bias, Uint8ActPerTensorFloat

        super().__init__()
        bits = spec.bits
        self.quantize_input = qnn.QuantIdentity(
            act_quant=Int8ActPerTensorFloat,
            bit_width=bits.input,
            return_quant_tensor=True,
            collect_stats_steps=STATISTICS_BATCHES,
        )
        linears: list[nn.Module] = []
        relus: list[nn.Module] = []
        for index, linear in enumerate(floating.linears):
            assert isinstance(linear, nn.Linear)
            quantized: Any = qnn.QuantLinear(
                linear.in_features,
                linear.out_features,
                bias=True,
                weight_quant=Int8WeightPerTensorFloat,
                weight_bit_width=bits.weight,
                bias_quant=Int32Bias,
                return_quant_tensor=index == len(floating.linears) - 1,
            )
            quantized.weight.data.copy_(linear.weight.data)
            quantized.bias.data.copy_(linear.bias.data)
            linears.append(quantized)
            if index < len(floating.linears) - 1:
                relus.append(
                    qnn.QuantReLU(
                        act_quant=Uint8ActPerTensorFloat,
                        bit_width=bits.activation,
                        return_quant_tensor=True,
                        collect_stats_steps=STATISTICS_BATCHES,
                    )
                )
        self.linears = nn.ModuleList(linears)
        self.relus = nn.ModuleList(relus)

    def forward(self, observations: Tensor) -> Tensor:
        hidden: Any = self.quantize_input(observations)
        for linear, relu in zip(self.linears[:-1], self.relus, strict=True):
            hidden = relu(linear(hidden))
        last: Any = self.linears[-1](hidden)
        logits: Tensor = last.value
        if self.training or torch.onnx.is_in_onnx_export():
            return logits
        return snap(logits, last.scale)


def snap(logits: Tensor, scale: Tensor) -> Tensor:
    """The multiple of an accumulator's scale that each logit is, without the rounding of float sums.

    Integer logits tie often (12 % of rows at w2a4). Fake-quantized sums break such ties by their last bit, integer
    arithmetic by the lowest index; snapped logits tie exactly, so both choose the same action. Gradients pass through.
    """
    return logits + ((logits / scale).round() * scale - logits).detach()


class MlpFamily:
    """`mlp`: see `Family`."""

    name = "mlp"
    chain = True

    def build(self, spec: StudentSpec, spaces: AgentSpec, generator: torch.Generator) -> Mlp:
        return Mlp([spaces.observation_size, *spec.hidden, spaces.actions.outputs], generator)

    def prunable(self, network: nn.Module) -> list[nn.Module]:
        assert isinstance(network, Mlp)
        return list(network.linears[:-1])

    def units(self, spec: StudentSpec, spaces: AgentSpec) -> None:
        return None  # torch-pruning understands it

    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantMlp:
        assert isinstance(network, Mlp)
        return QuantMlp(network, spec)

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
                # Of the weights; of the activations it writes, unless they are logits; of the inputs, in the first.
                scales=(1 + (index < last) + (index == 0)) if spec.bits.quantized else 0,
            )
            for index, (columns, rows) in enumerate(pairwise(sizes))
        ]


FAMILY = MlpFamily()
