"""`FakeQuantMlp`: what a `QuantMlp` computes, in a few plain torch operations, to train its parameters faster."""

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdnas.students.quantizers import SMALLEST_POWER, SMALLEST_RANGE, learned_scalings

if TYPE_CHECKING:
    from kdnas.students.mlp import QuantMlp

SETTLES_FROM, SETTLED_AT = 0.05, 0.8
"""Progress in training at which the first and the last weight becomes an integer."""

_INT32 = 2**31


class FakeQuantMlp(nn.Module):
    """A view of a quantized network: (rows, O) -> (rows, N) on the same parameters, so that training it trains both.

    In evaluation mode its logits equal those of the network to the last bit: scales, rounding (half to even), clipping
    and the order of all operations are brevitas'. Gradients are those of learned step sizes (Esser et al. 2020,
    arXiv 1902.08153), of weights, inputs and activations alike; roundings of biases pass them through.

    Brevitas' own modules spend most of a training step between their operations.

    Weights may be rounded all at once and trained through the rounding, or settle one after the other (`settle`), which
    loses less: those that are still free make up for those that are integers already.

    Raises:
        StudentError: activation ranges of the network are not known yet.
    """

    unit_scales: Tensor
    """Of what each layer reads, (layers,): of inputs, once they are in units of their ranges, and of bounded
    activations."""

    def __init__(self, quantized: "QuantMlp") -> None:
        super().__init__()
        bits = quantized.bits
        self.linears = quantized.linears
        self.activation = quantized.activation
        unbounded: list[Any] = [] if self.activation.bounded else list(quantized.activations)
        scalings = learned_scalings(unbounded, unseen=quantized.unseen)
        self.input_ranges = quantized.input_ranges
        self.activation_ranges = nn.ParameterList(scaling.value for scaling in scalings)
        """Of what each layer but the first reads, (): log2 of the scale times the magnitude of the integer farthest
        from 0. Bounded activations have none to learn."""
        linears: list[Any] = list(quantized.linears)
        self.weight_ranges = nn.ParameterList(
            linear.weight_quant.tensor_quant.scaling_impl.value for linear in linears
        )
        """Of the rows of each matrix, (rows, 1), in the same unit."""
        widths, vectors = bits.weights(len(linears)), [bits.input, *bits.activations(len(linears) - 1)]
        self.power_of_two = bits.power_of_two
        self.input_limits = [
            (0, 2**width - 1) if index and not self.activation.bounded else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
            for index, width in enumerate(vectors)
        ]
        self.weight_limits = [2 ** (width - 1) - 1 for width in widths]
        # Where scales are powers of two, ranges are those of the integer that is one larger.
        beyond = int(self.power_of_two)
        self.activation_divisors = [_divisor(2**width - 1 + beyond) for width in vectors[1:]]
        self.weight_divisors = [_divisor(limit + beyond) for limit in self.weight_limits]
        self.register_buffer("unit_scales", torch.tensor([2.0 ** (1 - width) for width in vectors]), persistent=False)
        self._integers: list[Tensor] = []
        self._settled: list[Tensor] = []
        """Masks of the integers that hold, in the shapes of the weights; empty while every weight is rounded."""

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Where the parameters go (`to`, `cpu`), what is settled goes too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._integers, self._settled = ([fn(tensor) for tensor in own] for own in (self._integers, self._settled))
        return self

    def forward(self, observations: Tensor) -> Tensor:
        values = observations
        for index in range(len(self.linears)):
            scale = self.weight_scale(index)
            values = functional.linear(self.read(index, values), self.weight(index, scale), self.bias(index, scale))
        return values if self.training else snap(values, self._sum_scales(len(self.linears) - 1, scale))

    def read(self, index: int, values: Tensor) -> Tensor:
        """What a layer multiplies of what the one before summed up, or of observations: (rows, columns), quantized."""
        if index == 0:
            values = values * (-self.input_ranges).exp2()
        elif self.activation.bounded:  # otherwise clipping at 0 is the ReLU of the layer before
            values = self.activation.apply(values)
        return quantize(values, self.input_scale(index), *self.input_limits[index])

    def weight(self, index: int, scale: Tensor) -> Tensor:
        """Of a layer, (rows, columns): multiples of its rows' scales (rows, 1), but for weights that are still free."""
        linear = self._weighted()[index]
        if self._settled:
            # A power of two next to this one would double or halve what is an integer already.
            held = scale.detach() if self.power_of_two else scale
            return torch.where(self._settled[index], self._integers[index] * held, linear.weight)
        return quantize(linear.weight, scale, -self.weight_limits[index], self.weight_limits[index])

    def bias(self, index: int, scale: Tensor) -> Tensor:
        """Of a layer, (rows,): multiples of the scales of its sums; `scale` is that of its rows' weights, (rows, 1)."""
        linear = self._weighted()[index]
        rounded: Tensor = _RoundBias.apply(linear.bias, self._sum_scales(index, scale))  # type: ignore[no-untyped-call]
        return rounded

    def _sum_scales(self, index: int, scale: Tensor) -> Tensor:
        return (scale * self.input_scale(index)).detach().view(-1)

    @torch.no_grad()
    def settle(self, progress: float) -> None:
        """Hold more weights at their integers, and leave the others unrounded; `progress` in training, 0 to 1.

        Incremental network quantization (Zhou et al. 2017, arXiv 1702.03044), layer after layer from the inputs on, so
        that whatever reads a layer learns to live with its integers, and in each the weights nearest to an integer
        first, which gives the others time to come near one. What is an integer stays it. From `SETTLED_AT` on all are
        integers, and scales and biases go on learning. Until then this module answers between float and integers, in
        evaluation mode too, so that on-policy states are those of what is trained. At 1 the weights are written down as
        multiples of their scales, and the answers are the network's again.
        """
        if not self._settled:
            self._integers = [torch.zeros_like(linear.weight) for linear in self._weighted()]
            self._settled = [torch.zeros_like(integers, dtype=torch.bool) for integers in self._integers]
        gone = (progress - SETTLES_FROM) / (SETTLED_AT - SETTLES_FROM) * len(self.linears)
        for index, linear in enumerate(self._weighted()):
            share = min(max(gone - index, 0.0), 1.0)
            integers, settled = self._integers[index].view(-1), self._settled[index].view(-1)
            scale = self.weight_scale(index)
            ratio = (linear.weight / scale).view(-1)
            more = round(share * len(ratio)) - int(settled.sum())
            if more > 0:
                limit = self.weight_limits[index]
                nearest = ratio.round().clamp(-limit, limit)
                chosen = (ratio - nearest).abs().masked_fill(settled, torch.inf).argsort(stable=True)[:more]
                integers[chosen] = nearest[chosen]
                settled[chosen] = True
            if progress >= 1:
                linear.weight.copy_(self._integers[index] * scale)
        if progress >= 1:
            self._integers, self._settled = [], []

    @torch.no_grad()
    def hold(self) -> None:
        """Hold every weight at its nearest integer until `settle(1.0)`, while scales and biases are trained."""
        self._integers = [
            (linear.weight / self.weight_scale(index)).round().clamp(-limit, limit)
            for index, (linear, limit) in enumerate(zip(self._weighted(), self.weight_limits, strict=True))
        ]
        self._settled = [torch.ones_like(integers, dtype=torch.bool) for integers in self._integers]

    def _weighted(self) -> list[nn.Linear]:
        return list(self.linears)  # type: ignore[arg-type]

    def input_scale(self, index: int) -> Tensor:
        """Of what a layer reads, (); the first one reads inputs in units of their ranges."""
        if index == 0 or self.activation.bounded:
            return self.unit_scales[index]
        ranges = self._restrict(self.activation_ranges[index - 1])
        return (ranges.exp2() / self.activation_divisors[index - 1]).clamp_min(self._smallest)

    def weight_scale(self, index: int) -> Tensor:
        """Of the rows of a layer, (rows, 1)."""
        ranges = self._restrict(self.weight_ranges[index])
        return ranges.exp2().clamp_min(self._smallest) / self.weight_divisors[index]

    def _restrict(self, ranges: Tensor) -> Tensor:
        """Logarithms that scales may have; gradients pass through."""
        if not self.power_of_two:
            return ranges
        whole: Tensor = _Round.apply(ranges)  # type: ignore[no-untyped-call]
        return whole

    @property
    def _smallest(self) -> float:
        return SMALLEST_POWER if self.power_of_two else SMALLEST_RANGE


def quantize(values: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """The multiples `low` to `high` of a scale that are nearest to some values; same shape, scale broadcast.

    Gradients: 1 for values inside, 0 for clipped ones; for the scale, d(scale q)/d(scale) with q = round(value / scale)
    held, minus value / scale where the value is inside (Esser et al. 2020, equation 3).
    """
    quantized: Tensor = _Quantize.apply(values, scale, low, high)  # type: ignore[no-untyped-call]
    return quantized


def snap(logits: Tensor, scale: Tensor) -> Tensor:
    """The multiple of an accumulator's scale that each logit is, without the rounding of float sums.

    Integer logits tie now and then. Fake-quantized sums break such ties by their last bit, integer arithmetic by the
    lowest index; snapped logits tie exactly, so both choose the same action. Gradients pass through.
    """
    return logits + ((logits / scale).round() * scale - logits).detach()


def _divisor(integer: int) -> float:
    """Brevitas' way from a range to a scale: 2^log2 of the integer, which single precision may not bring back."""
    return float(torch.tensor(float(integer)).log2().exp2())


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        ratio = values / scale
        integers = ratio.round().clamp_(low, high)
        ctx.save_for_backward(ratio, integers, scale)
        ctx.low, ctx.high = low, high
        return integers * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        ratio, integers, scale = ctx.saved_tensors
        inside = ratio.clamp(ctx.low, ctx.high).eq_(ratio)
        of_values = gradient * inside if ctx.needs_input_grad[0] else None
        of_scale = None
        if ctx.needs_input_grad[1]:
            of_scale = torch.addcmul(integers, ratio, inside, value=-1).mul_(gradient).sum_to_size(scale.shape)
        return of_values, of_scale, None, None


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _RoundBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bias: Tensor, scale: Tensor) -> Tensor:
        return (bias / scale).round_().clamp_(-_INT32, _INT32 - 1).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
