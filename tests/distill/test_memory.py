import numpy as np
import pytest
import torch

from kdnas.distill import RowMemory
from kdnas.teachers import Rows


def rows(*values: float, masked: bool = False) -> Rows:
    """One feature, whose negative is the one logit; legal where the value is even."""
    column = np.array(values, np.float32).reshape(-1, 1)
    return Rows(observations=column, logits=-column, masks=column % 2 == 0 if masked else None)


def held(memory: RowMemory) -> list[float]:
    """What can be drawn: 2,000 draws of at most 10 rows miss none."""
    observations, logits, masks = memory.batch(2000)
    assert torch.equal(logits, -observations)
    if masks is not None:
        assert torch.equal(masks, observations % 2 == 0)
    return sorted(set(observations[:, 0].tolist()))


def make(demonstrations: Rows, capacity: int) -> RowMemory:
    return RowMemory(demonstrations, capacity, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("masked", [False, True])
def test_the_oldest_on_policy_rows_make_room(masked: bool) -> None:
    memory = make(rows(0, 1, 2, masked=masked), 7)  # 7 // 2 = 3 demonstrations stay, 4 places are a ring
    assert held(memory) == [0, 1, 2]
    memory.add(rows(10, 11, masked=masked))
    assert held(memory) == [0, 1, 2, 10, 11]
    memory.add(rows(12, 13, masked=masked))
    assert held(memory) == [0, 1, 2, 10, 11, 12, 13]
    memory.add(rows(14, masked=masked))
    assert held(memory) == [0, 1, 2, 11, 12, 13, 14]
    memory.add(rows(15, 16, 17, masked=masked))  # into the places of 11, 12 and 13
    assert held(memory) == [0, 1, 2, 14, 15, 16, 17]
    memory.add(rows(18, 19, masked=masked))
    assert held(memory) == [0, 1, 2, 16, 17, 18, 19]


def test_of_more_than_a_ringful_the_latest_stay() -> None:
    memory = make(rows(0, 1), 5)
    memory.add(rows(*range(100, 120)))
    assert held(memory) == [0, 1, 117, 118, 119]
    memory.add(rows(200))
    assert held(memory) == [0, 1, 118, 119, 200]


def test_nothing_to_add() -> None:
    memory = make(rows(0, 1), 5)
    memory.add(rows())
    assert held(memory) == [0, 1]


def test_a_random_half_of_too_many_demonstrations() -> None:
    kept = {tuple(held(RowMemory(rows(*range(9)), 6, torch.Generator().manual_seed(seed)))) for seed in range(20)}
    assert {len(values) for values in kept} == {3}
    assert len(kept) > 5  # not always the same three
    assert held(make(rows(*range(9)), 6)) == held(make(rows(*range(9)), 6))


@pytest.mark.parametrize("capacity", [1, 2])
def test_the_smallest_memory(capacity: int) -> None:
    memory = make(rows(0), capacity)
    assert held(memory) == [0]
    memory.add(rows(1, 2))
    assert held(memory) == [0, 2]


def test_memory_mapped_demonstrations_are_not_written_to() -> None:
    demonstrations = rows(0, 1)
    for array in (demonstrations.observations, demonstrations.logits):
        array.flags.writeable = False
    memory = make(demonstrations, 4)
    memory.add(rows(5, 6, 7))
    assert held(memory) == [0, 1, 6, 7]
    assert demonstrations.observations.tolist() == [[0], [1]]
