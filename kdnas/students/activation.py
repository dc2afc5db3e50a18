"""`Activation`: what stands between two layers of a perceptron."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class _Softsign(torch.autograd.Function):
    """One operation, in training and in ONNX, of what torch computes in three."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        return values / (values.abs() + 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        slope: Tensor = gradient / (values.abs() + 1).square()
        return slope

    @staticmethod
    def symbolic(graph: Any, values: Any) -> Any:
        return graph.op("Softsign", values)


def _softsign(values: Tensor) -> Tensor:
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing and not torch.onnx.is_in_onnx_export():
        return functional.softsign(values)  # what counts operations has no name for ours
    applied: Tensor = _Softsign.apply(values)  # type: ignore[no-untyped-call]
    return applied


@dataclass(frozen=True, kw_only=True)
class Activation:
    """A function of single numbers, and what its integers are in a quantized network."""

    name: str
    apply: Callable[[Tensor], Tensor]
    operator: str
    """Its ONNX name."""
    bounded: bool
    """Its values lie between -1 and 1: integers of either sign, at a scale of 1 over the magnitude of the lowest one.
    Otherwise they are positive, at a scale that is learned."""


RELU = Activation(name="relu", apply=torch.relu, operator="Relu", bounded=False)

SOFTSIGN = Activation(name="softsign", apply=_softsign, operator="Softsign", bounded=True)
"""x / (1 + |x|), an S as tanh is (Bergstra et al. 2009), in three operations that every machine rounds alike.

On narrow networks its curve is worth more than the corner of ReLU: 16x16 students of simple_spread keep .96 of their
teacher where those with ReLU keep .87 (`benchmarks/distill.py`).
"""
