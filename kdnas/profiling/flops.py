"""Multiply-accumulates of a network, counted by fvcore on its trace."""

from torch import Tensor, nn

from kdnas.errors import KdnasError

FREE_OPS = frozenset(
    f"aten::{name}"
    for name in (
        "abs", "add", "add_", "argmax", "clamp_max", "clamp_min", "clone", "cos", "div", "div_", "elu", "exp",
        "expand_as", "gelu", "hardswish", "hardtanh", "index_select", "leaky_relu", "log", "log_softmax", "lt", "le",
        "mean", "mish", "mul", "mul_", "ne", "neg", "pow", "reciprocal", "relu6", "round", "rsqrt", "rsub", "selu",
        "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "sqrt", "square", "sub", "sub_", "sum", "tanh",
        "tanh_", "where",
    )
)  # fmt: skip
"""Operators without a matrix in them: elementwise maps, choices, and sums over features or entities, which count as no
MACs. Everything else that fvcore does not know is refused, because it would silently count 0."""


def count_macs(network: nn.Module, probe: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates of one decision in evaluation mode; `probe` is what the network takes, of one row.

    Example: an MLP 18-24-24-5 has 18*24 + 24*24 + 24*5 = 1128. 1 MAC is 2 FLOPs; fvcore counts MACs and calls them
    flops. Biases and elementwise functions count nothing; quantized networks are counted as their float twins.

    Raises:
        KdnasError: the network holds an operator that fvcore cannot count, for example `nn.GRU`.
    """
    from fvcore.nn import FlopCountAnalysis

    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        analysis = FlopCountAnalysis(network, probe)
        analysis.set_op_handle(**dict.fromkeys(FREE_OPS))
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
