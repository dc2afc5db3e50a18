"""Multiply-accumulates of a network, counted by fvcore on its trace."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from kdnas.errors import KdnasError

FREE_OPS = frozenset(
    f"aten::{name}"
    for name in (
        "abs", "add", "add_", "amax", "amin", "argmax", "clamp_max", "clamp_min", "clone", "cos", "div", "div_",
        "elu", "embedding", "erf", "exp", "expand_as", "gelu", "hardswish", "hardtanh", "index_select", "le",
        "leaky_relu", "log", "log_softmax", "logical_not", "logsumexp", "lt", "masked_fill_", "maximum", "mean",
        "min", "minimum", "mish", "movedim", "mul", "mul_", "ne", "neg", "pow", "reciprocal", "relu6", "repeat",
        "round", "rsqrt", "rsub", "selu", "sigmoid", "sigmoid_", "sign", "silu", "sin", "softmax", "softplus", "sqrt",
        "square", "sub", "sub_", "sum", "tanh", "tanh_", "unflatten", "unsafe_chunk", "where",
    )
)  # fmt: skip
"""Operators without a matrix in them: elementwise maps, choices, views, and sums over features or entities, which count
as no MACs. What neither fvcore nor `RECURRENT` and `ATTENTION` know is refused: it would silently count 0."""

RECURRENT = frozenset(f"aten::{name}" for name in ("gru", "lstm", "rnn_tanh", "rnn_relu"))
"""Layers over a sequence: every matrix of theirs meets each of its steps once. Their cells are traced as products."""
ATTENTION = "aten::scaled_dot_product_attention"


def count_macs(network: nn.Module, probe: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one decision in evaluation mode; `probe` is what the network takes, of one row.

    Example: an MLP 18-24-24-5 has 18*24 + 24*24 + 24*5 = 1128. 1 MAC is 2 FLOPs; fvcore counts MACs and calls them
    flops. Biases and elementwise functions count nothing; quantized networks are counted as their float twins.

    Raises:
        KdnasError: the network holds an operator that cannot be counted, for example an FFT.
    """
    from fvcore.nn import FlopCountAnalysis

    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        analysis = FlopCountAnalysis(network, probe)
        handles: dict[str, Callable[..., int] | None] = dict.fromkeys(FREE_OPS)
        handles |= dict.fromkeys(RECURRENT, _recurrent_macs)
        analysis.set_op_handle(**handles, **{ATTENTION: _attention_macs})
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        macs = int(analysis.total())
        unknown = sorted(analysis.unsupported_ops())
    finally:
        for module in training:
            module.training = True
    if unknown:
        raise KdnasError(
            f"{type(network).__name__}: the multiply-accumulates of {', '.join(unknown)} cannot be counted; "
            "write the layer with nn.Linear, or with matrix products, which can"
        )
    return macs


def _recurrent_macs(inputs: Sequence[Any], _outputs: Sequence[Any]) -> int:
    """Of `nn.GRU` and its like: input (B, T, I) or (T, B, I), state, and a list of the matrices and biases."""
    *rows, _ = _shape(inputs[0])
    parameters = [_shape(each) for each in inputs[2].node().inputs()]
    return math.prod(rows) * sum(math.prod(each) for each in parameters if len(each) == 2)


def _attention_macs(inputs: Sequence[Any], _outputs: Sequence[Any]) -> int:
    """Queries (..., L, E), keys (..., S, E) and values (..., S, V): products of L x E x S and L x S x V."""
    (*batch, queries, size), values = _shape(inputs[0]), _shape(inputs[2])
    return math.prod(batch) * queries * values[-2] * (size + values[-1])


def _shape(value: Any) -> list[int]:
    """Of a tensor in the trace."""
    sizes: list[int] = value.type().sizes()
    return sizes
