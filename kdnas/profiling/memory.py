"""Bytes, BOPs and parameters as arithmetic on layer shapes."""

from collections.abc import Sequence

from kdnas.spaces.spec import FLOAT_BITS
from kdnas.students.family import LayerShape

_WORD_BYTES = FLOAT_BITS // 8
"""A bias, a scale, and an activation that is not an integer of at most 8 bits."""


def memory_bytes(layers: Sequence[LayerShape], normalised_features: int = 0) -> int:
    """Memory of one agent, with weights packed to their bits.

    Sum over layers of ceil(rows x columns x weight bits / 8), 4 bytes per bias and per scale, of which one that is a
    power of two takes 1, and other tables; the largest pair of vectors that is live at once, what a layer reads (for
    all entities, where they share it) and what it writes, at 1 byte an element up to 8 bits and 4 otherwise; the
    recurrent state, at the same; 8 bytes (a shift and a scale) per normalised feature.

    Generated C is as large, to the byte.

    Example: 18-16-5 at w4a8i8 is 144 + 40 bytes of weights, 4 x 21 of biases, 4 x 39 of scales (one a row and one an
    input), and max(18 + 16, 16 + 4 x 5) = 36 of activations: 460.
    """
    return (
        sum(-(-layer.rows * layer.columns * layer.weight_bits // 8) for layer in layers)
        + sum(layer.exponents + layer.table_bytes for layer in layers)
        + _WORD_BYTES * sum(layer.rows * layer.bias + layer.scales for layer in layers)
        + max(_read_bytes(layer) + _written_bytes(layer) for layer in layers)
        + sum(_read_bytes(layer) for layer in layers if layer.recurrent)
        + 2 * _WORD_BYTES * normalised_features
    )


def bops(layers: Sequence[LayerShape]) -> int:
    """Bit operations of one decision: sum over layers of MACs x weight bits x input bits.

    Source: van Baalen et al. 2020, Bayesian Bits, arXiv 2005.07093, section 4.
    """
    return sum(layer.macs * layer.weight_bits * layer.input_bits for layer in layers)


def parameters(layers: Sequence[LayerShape]) -> int:
    """Weights and biases."""
    return sum(layer.rows * layer.columns + layer.rows * layer.bias for layer in layers)


def _stored_bytes(bits: int) -> int:
    return 1 if bits <= 8 else _WORD_BYTES


def _read_bytes(layer: LayerShape) -> int:
    return layer.times * layer.columns * _stored_bytes(layer.input_bits)


def _written_bytes(layer: LayerShape) -> int:
    entries = layer.times * layer.rows if layer.writes is None else layer.writes
    return entries * _stored_bytes(layer.output_bits)
