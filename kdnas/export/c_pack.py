"""Weights at their real bit-width: integers of 2 to 8 bits in rows x columns x bits / 8 bytes, rounded up, and back.

Weights are stored as unsigned integers, 2^(bits - 1) larger than they are; C takes that many sums of inputs off again.
A row of 8-bit weights is its bytes. Of narrower ones a *group* is the fewest weights that fill whole bytes at each of
their *planes*, pieces of 4, 2 and 1 bits: a 6-bit weight is a low 4-bit and a high 2-bit piece. Weights of one group
stand far apart in their row, so that neighbours in memory are neighbours in the row, and compilers can take many bytes
at once. What is left of a row, less than a group, stands bit by bit behind all rows.

Example: a row of five 4-bit weights a b c d e (as stored) is a group of 2: bytes a + 16 c, b + 16 d, and e in the rest.
"""

import numpy as np
from numpy.typing import NDArray


def planes(bits: int) -> list[tuple[int, int]]:
    """(first bit, number of bits) of the pieces of a weight of 2 to 7 bits, from the lowest.

    Example: 7 is (0, 4), (4, 2), (6, 1).
    """
    pieces, start = [], 0
    for size in (4, 2, 1):
        if bits & size:
            pieces.append((start, size))
            start += size
    return pieces


def group_size(bits: int) -> int:
    """Weights of a group."""
    return 1 if bits == 8 else 8 // planes(bits)[-1][1]


def pack(weights: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Bytes (ceil(rows x columns x bits / 8),) of weights (rows, columns)."""
    stored = (weights.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    if bits == 8:
        return stored.reshape(-1)
    rows, columns = stored.shape
    size = group_size(bits)
    span = columns // size  # groups of a row
    whole = stored[:, : size * span].reshape(rows, size, span)
    parts = []
    for start, width in planes(bits):
        pieces = (whole >> start) & ((1 << width) - 1)
        each = 8 // width  # pieces of a byte: those of a run of so many spans
        shifts = np.arange(each, dtype=np.uint8) * width
        parts.append((pieces.reshape(rows, size // each, each, span) << shifts[:, None]).sum(2, dtype=np.uint8))
    rest = stored[:, size * span :].reshape(-1)
    stream = (rest[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    main = np.concatenate([part.reshape(rows, part.shape[1] * span) for part in parts], 1)  # plane by plane in a row
    return np.concatenate([main.reshape(-1), np.packbits(stream.reshape(-1), bitorder="little")])


def unpack(table: NDArray[np.uint8], bits: int, rows: int, columns: int) -> NDArray[np.int8]:
    """The weights (rows, columns) that `pack` made a table of."""
    size = group_size(bits)
    span = columns // size
    taken = rows * span * size * bits // 8
    stored = np.zeros((rows, columns), np.int16)
    if bits == 8:
        stored[:] = table.reshape(rows, columns)
    else:
        main, begin = table[:taken].reshape(rows, taken // rows), 0
        for start, width in planes(bits):
            each = 8 // width
            plane = main[:, begin : begin + span * size // each].reshape(rows, size // each, 1, span).astype(np.int16)
            begin += span * size // each
            pieces = (plane >> (np.arange(each)[:, None] * width)) & ((1 << width) - 1)
            stored[:, : size * span] += pieces.reshape(rows, size * span) << start
        left = rows * (columns - size * span)
        stream = np.unpackbits(table[taken:], bitorder="little")[: left * bits].reshape(left, bits)
        stored[:, size * span :] = (stream @ (1 << np.arange(bits))).reshape(rows, columns - size * span)
    return (stored - (1 << (bits - 1))).astype(np.int8)
