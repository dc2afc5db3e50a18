import numpy as np
import pytest

from kdnas.study.knee import knee_heights


@pytest.mark.parametrize(
    ("retention", "costs", "heights"),
    [
        # Decades: 4, 3, 2 are 1, 0.5, 0; retention 1, 0.9, 0.5 is 1, 0.8, 0.
        ([1.0, 0.9, 0.5], [[10_000], [1000], [100]], [0, 0.3, 0]),
        # Below the line: 0.2 - 0.5.
        ([1.0, 0.6, 0.5], [[10_000], [1000], [100]], [0, -0.3, 0]),
        # Two costs: 1, 0.5, 0 and 0.25 less 0.5: (0.5 + 0.25) / 2 under 0.8.
        ([1.0, 0.9, 0.5], [[10_000, 10_000], [1000, 10], [100, 1]], [0, 0.425, 0]),
        # The ends of two costs are three teams: 1 - (1 + 0.5) / 2, 0.5 - (0 + 1) / 2, 0 - (1 + 0) / 2.
        ([0.9, 0.8, 0.7], [[100, 10], [1, 100], [100, 1]], [0.25, 0, -0.5]),
        # One alone, and the two ends.
        ([0.9], [[100]], [1]),
        ([0.9, 0.8], [[100], [10]], [0, 0]),
        # All alike in one of the two: the cheapest, the best.
        ([0.9, 0.9, 0.9], [[10, 1], [1, 10], [1, 1]], [-np.inf, -np.inf, 1]),
        ([0.9, 0.8], [[10], [10]], [1, -np.inf]),
        # A beaten team stretches no scale; equal ones do not beat each other.
        ([1.0, 0.9, 0.5, 0.0], [[10_000], [1000], [100], [1e9]], [0, 0.3, 0, -np.inf]),
        ([1.0, 0.9, 0.9, 0.5], [[10_000], [1000], [1000], [100]], [0, 0.3, 0.3, 0]),
    ],
)
def test_heights_by_hand(retention: list[float], costs: list[list[float]], heights: list[float]) -> None:
    found = knee_heights(np.array(retention), np.array(costs, np.float64))
    assert found == pytest.approx(heights, abs=1e-12)


def test_units_do_not_matter() -> None:
    generator = np.random.default_rng(0)
    retention, costs = generator.uniform(size=20), generator.uniform(1, 100, size=(20, 2))
    scaled = knee_heights(100 * retention + 3, costs * np.array([1024.0, 1e-6]))
    assert scaled == pytest.approx(knee_heights(retention, costs), abs=1e-9)
