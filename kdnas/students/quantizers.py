"""The quantized layers of the families that are not chains, as brevitas makes them.

Weights are signed with one scale a matrix, taken from their largest value; biases have 32 bits at the scale of the
products that they are added to. Scales of activations are learned (Esser et al. 2020, arXiv 1902.08153), from what the
first batches in training mode show, unless their range is known.
"""

from typing import Any

import torch
from torch import nn

from kdnas.students.mlp import STATISTICS_BATCHES


def quantize_linear(linear: nn.Module, bits: int) -> Any:
    """A quantized copy of a linear layer; it reads quantized tensors and writes their float sums."""
    import brevitas.nn as qnn
    from brevitas.quant import Int8WeightPerTensorFloat, Int32Bias

    assert isinstance(linear, nn.Linear)
    with torch.random.fork_rng(devices=[]):  # the first weights, which nobody needs, come from the global generator
        quantized: Any = qnn.QuantLinear(
            linear.in_features,
            linear.out_features,
            bias=True,
            weight_quant=Int8WeightPerTensorFloat,
            weight_bit_width=bits,
            bias_quant=Int32Bias,
            return_quant_tensor=False,
        )
    quantized.weight.data.copy_(linear.weight.data)
    quantized.bias.data.copy_(linear.bias.data)
    return quantized


def quantize_outputs(linear: nn.Module, bits: int) -> Any:
    """As `quantize_linear`, but its outputs come with their scale, so that they can be snapped to it."""
    quantized = quantize_linear(linear, bits)
    quantized.return_quant_tensor = True
    return quantized


def make_signed(bits: int) -> Any:
    """Numbers of either sign."""
    import brevitas.nn as qnn
    from brevitas.quant import Int8ActPerTensorFloat

    return qnn.QuantIdentity(
        act_quant=Int8ActPerTensorFloat,
        bit_width=bits,
        return_quant_tensor=True,
        collect_stats_steps=STATISTICS_BATCHES,
    )


def make_relu(bits: int) -> Any:
    """ReLU, and numbers without a sign after it."""
    import brevitas.nn as qnn
    from brevitas.quant import Uint8ActPerTensorFloat

    return qnn.QuantReLU(
        act_quant=Uint8ActPerTensorFloat,
        bit_width=bits,
        return_quant_tensor=True,
        collect_stats_steps=STATISTICS_BATCHES,
    )


def make_unit_range(bits: int) -> Any:
    """Numbers between -1 and 1: the scale begins at that range, whatever passes through first, and is learned too."""
    import brevitas.nn as qnn
    from brevitas.quant import Int8ActPerTensorFloatMinMaxInit

    return qnn.QuantIdentity(
        act_quant=Int8ActPerTensorFloatMinMaxInit,
        min_val=-1.0,
        max_val=1.0,
        bit_width=bits,
        return_quant_tensor=True,
    )
