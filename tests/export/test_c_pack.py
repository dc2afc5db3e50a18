"""Bits of packed weights, by hand: weights are stored 2^(bits - 1) larger than they are."""

import numpy as np
import pytest

from kdnas.export.c_pack import pack, unit_columns


@pytest.mark.parametrize(
    ("bits", "weights", "table"),
    [
        # -1 0 1 1 0 as 1 2 3 3 2: four in one byte, 1 + 4 2 + 16 3 + 64 3 = 249; the rest, 2, in a byte.
        (2, [[-1, 0, 1, 1, 0]], [249, 2]),
        # -3 to 3, 0 as 1 to 7, 4, a stream from the lowest bit: 100 010 11|0 001 101 0|11 111 001.
        (3, [[-3, -2, -1, 0, 1, 2, 3, 0]], [209, 88, 159]),
        # Without eight in a row: -3 and 3 as 1 and 7, bits 100 111 from the lowest: 1 + 56 = 57.
        (3, [[-3], [3]], [57]),
        # -7 0 7 as 1 8 15: 1 + 16 8 = 129; the rest 15.
        (4, [[-7, 0, 7]], [129, 15]),
        # Units of one byte: neighbours share it, 9 + 16 10 = 169, 11 + 16 12 = 203.
        (4, [[1, 2, 3, 4]], [169, 203]),
        # A unit of four bytes: weights four columns apart share one, 9 + 16 13 = 217 and so on; then a unit of one,
        # 8 + 16 8 = 136.
        (4, [[1, 2, 3, 4, 5, 6, 7, -1, 0, 0]], [217, 234, 251, 124, 136]),
        # Two rows in turn, four bytes each; then one of each.
        (8, [[-127, 0, 127, 1, 2], [3, 4, 5, 6, 7]], [1, 128, 255, 129, 131, 132, 133, 134, 130, 135]),
    ],
)
def test_by_hand(bits, weights, table):
    assert pack(np.array(weights, np.int8), bits).tolist() == table


def test_a_fifth_row_begins_a_group():
    # Rows of five bytes: four times four, four single ones, and then the fifth row as it stands.
    weights = (np.arange(25).reshape(5, 5) - 128 + 1).astype(np.int8)
    columns = np.arange(1, 26).reshape(5, 5)
    assert pack(weights, 8).tolist() == [*columns[:4, :4].reshape(-1), *columns[:4, 4], *columns[4]]


def test_groups_begin_anew_with_each_part():
    # Two parts of one row each stand as two tables of one row would.
    weights = np.arange(10).reshape(2, 5).astype(np.int8)
    assert pack(weights, 8, (1, 1)).tolist() == [*pack(weights[:1], 8), *pack(weights[1:], 8)]
    assert pack(weights, 8, (1, 1)).tolist() != pack(weights, 8).tolist()


def test_weights_of_the_smallest_unit():
    assert [unit_columns(bits) for bits in range(2, 9)] == [4, 8, 2, 8, 8, 8, 1]


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_shape_takes_the_bytes_of_its_bits(bits):
    generator, most = np.random.default_rng(0), 2 ** (bits - 1) - 1
    for rows, columns in [(1, 1), (2, 2), (3, 5), (5, 16), (24, 18), (7, 33), (16, 64), (33, 7)]:
        weights = generator.integers(-most, most + 1, (rows, columns)).astype(np.int8)
        assert pack(weights, bits).nbytes == -(-rows * columns * bits // 8)
