"""The quantized layers of all families, as brevitas makes them.

Weights are signed with a scale for each row, which starts where the squared error of the row is least; biases have 32
bits at the scale of the products that they are added to. Scales are learned (Esser et al. 2020, arXiv 1902.08153), as
logarithms, but those of bounded activations, which are known. Scales that are powers of two are 2 to the nearest whole
number of these logarithms.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from kdnas.errors import StudentError

SMALLEST_RANGE = 1e-10
"""Brevitas lets neither the range of a weight nor the scale of an activation fall below."""

SMALLEST_POWER = 2.0**-33
"""The same where scales are powers of two."""

MOST_ROUNDED = 1 << 22
"""Weights that are rounded at once, while the best range is looked for among many."""

STATISTICS_BATCHES = 30
"""Batches in training mode from which a fresh activation quantizer takes its first scale; later ones learn it."""


def quantize_linear(linear: nn.Module, bits: int, *, power_of_two: bool = False) -> Any:
    """A quantized copy of a linear layer; it reads quantized tensors and writes their float sums."""
    qnn = _brevitas_nn()
    from brevitas.quant import Int8WeightPerChannelFloat, Int32Bias

    assert isinstance(linear, nn.Linear)
    with torch.random.fork_rng(devices=[]):  # the first weights, which nobody needs, come from the global generator
        quantized: Any = qnn.QuantLinear(
            linear.in_features,
            linear.out_features,
            bias=True,
            weight_quant=Int8WeightPerChannelFloat,
            weight_bit_width=bits,
            weight_scaling_impl_type="parameter_from_stats",
            weight_restrict_scaling_type=_restriction(power_of_two),
            weight_scaling_min_val=SMALLEST_POWER if power_of_two else SMALLEST_RANGE,
            bias_quant=Int32Bias,
            return_quant_tensor=False,
        )
    quantized.weight.data.copy_(linear.weight.data)
    quantized.bias.data.copy_(linear.bias.data)
    with torch.no_grad():
        quantized.quant_weight()  # a first use turns the learned ranges from statistics into parameters
        fit_ranges(quantized, bits, power_of_two=power_of_two)
    return quantized


def quantize_outputs(linear: nn.Module, bits: int, *, power_of_two: bool = False) -> Any:
    """As `quantize_linear`, but its outputs come with their scales, so that they can be snapped to them."""
    quantized = quantize_linear(linear, bits, power_of_two=power_of_two)
    quantized.return_quant_tensor = True
    return quantized


def make_relu(bits: int, *, power_of_two: bool = False) -> Any:
    """ReLU, and numbers without a sign after it, at a scale that is learned."""
    qnn = _brevitas_nn()
    from brevitas.quant import Uint8ActPerTensorFloat

    return qnn.QuantReLU(
        act_quant=Uint8ActPerTensorFloat,
        bit_width=bits,
        restrict_scaling_type=_restriction(power_of_two),
        scaling_min_val=SMALLEST_POWER if power_of_two else SMALLEST_RANGE,
        return_quant_tensor=True,
        collect_stats_steps=STATISTICS_BATCHES,
    )


def make_unit_relu(bits: int) -> Any:
    """ReLU, and the integers 0 to 2^bits - 1 after it, which stand for 0 to nearly 1."""
    qnn = _brevitas_nn()
    from brevitas.quant import Uint8ActPerTensorFloat

    return qnn.QuantReLU(
        act_quant=Uint8ActPerTensorFloat,
        bit_width=bits,
        scaling_impl_type="const",
        scaling_init=1.0 - 2.0**-bits,  # of the largest integer
        return_quant_tensor=True,
    )


def make_unit_range(bits: int) -> Any:
    """The integers -2^(bits - 1) to 2^(bits - 1) - 1, which stand for -1 to nearly 1."""
    qnn = _brevitas_nn()
    from brevitas.quant import Int8ActPerTensorFloat

    return qnn.QuantIdentity(
        act_quant=Int8ActPerTensorFloat,
        bit_width=bits,
        scaling_impl_type="const",
        scaling_init=1.0,
        return_quant_tensor=True,
    )


def learned_scalings(modules: Iterable[Any], *, unseen: int) -> list[Any]:
    """Of each `make_relu`, what holds and computes its scale.

    Raises:
        StudentError: they, or the ranges of inputs with batches that are still `unseen`, are not calibrated yet.
    """
    scalings = [module.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl for module in modules]
    if unseen or any(scaling.counter <= scaling.collect_stats_steps for scaling in scalings):
        raise StudentError(
            "a quantized network without activation ranges has no twin and no integers; show it batches of "
            "observations in training mode first"
        )
    return scalings


@torch.no_grad()
def fit_ranges(linear: Any, bits: int, *, power_of_two: bool = False) -> None:
    """Let the rows of a quantized layer begin where their squared error is least."""
    ranges, limit = linear.weight_quant.tensor_quant.scaling_impl.value, 2 ** (bits - 1) - 1
    if power_of_two:
        ranges.copy_(best_powers(linear.weight, limit) + (bits - 1))  # of the integer that is one larger
    else:
        ranges.copy_(best_ranges(linear.weight, limit).log2())


def _restriction(power_of_two: bool) -> str:
    """Brevitas' name of it."""
    return "power_of_two" if power_of_two else "log_fp"


def best_ranges(weight: Tensor, limit: int) -> Tensor:
    """Per row of a matrix (rows, columns), the value (rows, 1) for the integer `limit` that rounds it best.

    Of 71 shares of the largest weight of the row, 0.3 to 1, the one with the least squared error.
    """
    candidates = _largest(weight) * torch.linspace(0.3, 1.0, 71)  # (rows, 71)
    return _best(weight, candidates, candidates / limit, limit)


def best_powers(weight: Tensor, limit: int) -> Tensor:
    """Per row of a matrix (rows, columns), the power of two (rows, 1), as an exponent, that rounds it best as a scale.

    Of the smallest one at which no weight of the row is clipped, and the two below it. Example: of a row 0.7 and 0.1
    with the limit 1 it is -1: the errors of 2^0, 2^-1 and 2^-2 are 0.3^2 + 0.1^2, 0.2^2 + 0.1^2 and 0.45^2 + 0.1^2.
    """
    candidates = (_largest(weight) / limit).log2().ceil() - torch.arange(3.0)
    return _best(weight, candidates, candidates.exp2(), limit)


def _largest(weight: Tensor) -> Tensor:
    """Per row, its largest weight (rows, 1)."""
    largest = weight.abs().amax(1, keepdim=True)
    # A row without weights must not take its bias, an integer at its scale, out of 32 bits.
    return largest.clamp_min(largest.max() / 1024).clamp_min(SMALLEST_RANGE)


def _best(weight: Tensor, candidates: Tensor, scales: Tensor, limit: int) -> Tensor:
    """Per row, of candidates (rows, C) the one (rows, 1) whose scale (rows, C) has the least squared error."""
    errors = []
    for some in torch.split(scales, max(1, MOST_ROUNDED // weight.numel()), 1):
        rounded = (weight[:, None] / some[..., None]).round().clamp(-limit, limit) * some[..., None]
        errors.append((rounded - weight[:, None]).square().sum(-1))
    return candidates.gather(1, torch.cat(errors, 1).argmin(1, keepdim=True))


def _brevitas_nn() -> Any:
    """The layers of brevitas, imported after what it looks for itself in a bare `except:`.

    That is a part of torch which takes seconds to import, and Ctrl-C meanwhile would be lost.
    """
    import_module("torch._dynamo")
    return import_module("brevitas.nn")
