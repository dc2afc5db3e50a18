"""Weights at their real bit-width: integers of 2 to 8 bits in rows x columns x bits / 8 bytes, rounded up.

Weights are stored as unsigned integers, 2^(bits - 1) larger than they are; C takes that many sums of inputs off again.
Rows stand in *groups* of four, the last one of what is left, so that a machine takes four bytes of each of its rows
with one load after the other, and sums of four rows stand side by side.

- Of 8, 4 and 2 bits a byte holds 1, 2 or 4 weights of its row. A group's rows have *units* of four bytes in turn, then
  of one where bytes are left. In a unit of n bytes, byte j holds columns j, j + n, j + 2 n ..., the first in its lowest
  bits.
- Of other widths eight weights of a row, as many bytes as a weight has bits, are a unit: a stream from the lowest bit.

What is left of a row, fewer weights than fill a byte or a unit, stands bit by bit behind all rows.

Example: a row of five 4-bit weights a b c d e (as stored) is two units of a byte, a + 16 b and c + 16 d, and e behind.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GROUP_ROWS = 4


def unit_columns(bits: int) -> int:
    """Weights of the smallest unit."""
    return 8 // bits if 8 % bits == 0 else 8


def pack(weights: NDArray[np.int8], bits: int, parts: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """Bytes (ceil(rows x columns x bits / 8),) of weights (rows, columns).

    Groups begin anew with each of `parts`, numbers of rows that C reads apart; None: all rows are one.
    """
    stored = (weights.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    rows, columns = stored.shape
    whole = columns - columns % unit_columns(bits)
    pieces, first = [], 0
    for part in parts or (rows,):
        for row in range(first, first + part, GROUP_ROWS):
            group = stored[row : min(row + GROUP_ROWS, first + part), :whole]
            pieces += _units(group, bits) if 8 % bits == 0 else _streams(group, bits)
        first += part
    return np.concatenate([*pieces, _stream(stored[:, whole:].reshape(-1), bits)])


def _units(group: NDArray[np.uint8], bits: int) -> list[NDArray[np.uint8]]:
    rows, columns = group.shape
    each, pieces, begin = 8 // bits, [], 0
    left = columns // each  # bytes of a row
    for size in (4, 1):
        for _ in range(left // size):
            unit = group[:, begin : begin + size * each].reshape(rows, each, size)
            shifts = np.arange(each, dtype=np.uint8)[:, None] * np.uint8(bits)
            pieces.append((unit << shifts).sum(1, dtype=np.uint8).reshape(-1))
            begin += size * each
        left %= size
    return pieces


def _streams(group: NDArray[np.uint8], bits: int) -> list[NDArray[np.uint8]]:
    return [
        _stream(row, bits)
        for begin in range(0, group.shape[1], unit_columns(bits))
        for row in group[:, begin : begin + unit_columns(bits)]
    ]


def _stream(stored: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    return np.packbits((stored[:, None] >> np.arange(bits, dtype=np.uint8)) & 1, bitorder="little")
