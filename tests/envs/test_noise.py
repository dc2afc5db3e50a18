import numpy as np
import pytest

from kdnas.envs import noise
from kdnas.envs.noise import Noise


def draws(seeds: list[int], group: str = "g", steps: int = 70) -> np.ndarray:
    """(steps, B, 2, 3)."""
    source = Noise(seeds, group, (2, 3))
    return np.stack([source.draw().copy() for _ in range(steps)])


def test_an_episode_has_its_numbers_in_every_batch() -> None:
    together = draws([5, 6, 7])
    assert together.shape == (70, 3, 2, 3)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(draws([6]), together[:, 1:2])
    np.testing.assert_array_equal(draws([7, 1, 5])[:, [2, 0]], together[:, [0, 2]])


@pytest.mark.parametrize("numbers", [1, 18 * 5])
def test_how_many_steps_are_drawn_together_changes_nothing(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = draws([5, 6, 7])
    monkeypatch.setattr(noise, "BLOCK_NUMBERS", numbers)  # 1 and 5 steps of 3 x 2 x 3 numbers
    np.testing.assert_array_equal(draws([5, 6, 7]), usual)


def test_seeds_steps_and_groups_differ() -> None:
    numbers = draws([5, 6], steps=40)
    assert len(np.unique(numbers)) > 0.99 * numbers.size
    assert not np.isin(draws([5], "h"), numbers).any()


def test_the_numbers_are_standard_normal() -> None:
    numbers = draws(list(range(100)))  # 42,000: the mean is off by 0.005, the deviation by 0.0035, each times 4
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.014


def test_no_episodes_have_no_numbers() -> None:
    assert Noise([], "g", (2, 3)).draw().shape == (0, 2, 3)
