"""Bits of packed weights, by hand: weights are stored 2^(bits - 1) larger than they are."""

import numpy as np
import pytest

from kdnas.export.c_pack import group_size, pack, planes, unpack


@pytest.mark.parametrize(
    ("bits", "weights", "table"),
    [
        # -1 0 1 1 0 as 1 2 3 3 2: a group of 4 in one byte, 1 + 4 2 + 16 3 + 64 3 = 249; the rest, 2, in a byte.
        (2, [[-1, 0, 1, 1, 0]], [249, 2]),
        # -3 to 3, 0 as 1 to 7, 4: low pairs 1 2 3 0 | 1 2 3 0 are 1 + 8 + 48 = 57 twice; high bits 0001 1111 from the
        # lowest: 8 + 16 + 32 + 64 + 128 = 248.
        (3, [[-3, -2, -1, 0, 1, 2, 3, 0]], [57, 57, 248]),
        # Without a group: -3 and 3 as 1 and 7, bits 100 111 from the lowest: 1 + 56 = 57.
        (3, [[-3], [3]], [57]),
        # -7 0 7 as 1 8 15: 1 + 16 8 = 129; the rest 15.
        (4, [[-7, 0, 7]], [129, 15]),
        # Two spans: weights 1 and 3, 2 and 4 share bytes: 9 + 16 11 = 185, 10 + 16 12 = 202.
        (4, [[1, 2, 3, 4]], [185, 202]),
        # -31 0 31 1 as 1 32 63 33: low nibbles 1 0 | 15 1 are 1 and 31; high pairs 0 2 3 2: 8 + 48 + 128 = 184.
        (6, [[-31, 0, 31, 1]], [1, 31, 184]),
        # -127 0 127 as they stand.
        (8, [[-127, 0, 127]], [1, 128, 255]),
    ],
)
def test_by_hand(bits, weights, table):
    weights = np.array(weights, np.int8)
    assert pack(weights, bits).tolist() == table
    assert (unpack(np.array(table, np.uint8), bits, *weights.shape) == weights).all()


def test_planes_and_groups():
    assert [planes(bits) for bits in (2, 3, 6, 7)] == [
        [(0, 2)],
        [(0, 2), (2, 1)],
        [(0, 4), (4, 2)],
        [(0, 4), (4, 2), (6, 1)],
    ]
    assert [group_size(bits) for bits in range(2, 9)] == [4, 8, 2, 8, 4, 8, 1]


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_shape_takes_the_bytes_of_its_bits_and_comes_back(bits):
    generator, most = np.random.default_rng(0), 2 ** (bits - 1) - 1
    for rows, columns in [(1, 1), (2, 2), (3, 5), (5, 16), (24, 18), (7, 33), (16, 64), (33, 7)]:
        weights = generator.integers(-most, most + 1, (rows, columns)).astype(np.int8)
        table = pack(weights, bits)
        assert table.nbytes == -(-rows * columns * bits // 8)
        assert (unpack(table, bits, rows, columns) == weights).all()
