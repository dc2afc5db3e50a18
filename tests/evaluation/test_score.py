import json

import numpy as np
import pytest

from kdnas.errors import EnvError
from kdnas.evaluation import Interval, Score, bootstrap, make_gain, make_score


def constant(value: float, episodes: int = 4) -> np.ndarray:
    return np.full(episodes, value)


def test_retention_by_hand() -> None:
    score = make_score(constant(-9), constant(-8), constant(-28))
    # (-9 + 28) / (-8 + 28) = 19 / 20, the same in every resample.
    retention = score.retention
    assert (retention.mean, retention.low, retention.high) == pytest.approx((0.95, 0.95, 0.95))
    assert retention.episodes == 4
    assert score.returned == Interval(mean=-9, low=-9, high=-9, episodes=4)


@pytest.mark.parametrize(("student", "retention"), [(-28, 0.0), (-8, 1.0), (-48, -1.0), (2, 1.5)])
def test_the_scale_has_no_ends(student: float, retention: float) -> None:
    assert make_score(constant(student), constant(-8), constant(-28)).retention.mean == pytest.approx(retention)


def test_the_interval_of_two_episodes_by_hand() -> None:
    score = make_score(np.array([-9.0, -10.0]), constant(-8, 2), constant(-28, 2))
    # A quarter of the resamples is (-9, -9), a quarter (-10, -10): more than 2.5 % at either end.
    assert score.retention.mean == pytest.approx(0.925)
    assert (score.retention.low, score.retention.high) == pytest.approx((0.9, 0.95))
    assert (score.returned.low, score.returned.high) == (-10, -9)


def test_the_three_are_resampled_together() -> None:
    """A student that is always 1 below its teacher: how hard an episode was must not widen the interval."""
    luck = np.random.default_rng(0).normal(0, 30, 200)
    score = make_score(luck - 1, luck, luck - 20)
    assert score.retention.high - score.retention.low == pytest.approx(0, abs=1e-9)
    assert score.returned.high - score.returned.low > 5  # the return itself does depend on luck


def test_the_interval_covers_the_truth() -> None:
    """About 95 of 100: 300 experiments of 60 episodes cover between 91 and 98 % of the time (three deviations)."""
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        luck = generator.normal(0, 3, 60)
        student, teacher, random = (mean + luck + generator.normal(0, 2, 60) for mean in (-9, -8, -28))
        interval = make_score(student, teacher, random).retention
        covered += interval.low <= 0.95 <= interval.high
    assert 0.91 <= covered / 300 <= 0.985


def test_the_same_returns_give_the_same_interval() -> None:
    returns = np.random.default_rng(2).normal(size=(3, 50)) + np.array([[1.0], [2.0], [-2.0]])
    assert make_score(*returns) == make_score(*returns)


@pytest.mark.parametrize(("teacher", "random"), [(-28, -8), (-8, -8), (float("nan"), -8)])
def test_a_teacher_that_is_no_better_than_random_play(teacher: float, random: float) -> None:
    with pytest.raises(EnvError, match=r"the teacher returns .* and random play -8.000: there is nothing to retain"):
        make_score(constant(-9), constant(teacher), constant(random))


def test_a_teacher_that_is_hardly_better() -> None:
    """Resamples in which it is worse are left out: their ratios would say nothing."""
    score = make_score(np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]))
    assert score.retention.mean == pytest.approx(0.0)
    assert np.isfinite([score.retention.low, score.retention.high]).all()


def test_json() -> None:
    score = make_score(np.array([-9.0, -10.0]), constant(-8, 2), constant(-28, 2))
    written = json.loads(json.dumps(score.as_json()))
    assert list(written) == ["retention", "return"]
    assert list(written["retention"]) == ["mean", "low", "high", "episodes"]
    assert Score.from_json(written) == score


def test_a_bootstrap_of_returns() -> None:
    interval = bootstrap(np.array([-9.0, -10.0]))
    assert interval == Interval(mean=-9.5, low=-10, high=-9, episodes=2)


def test_what_is_gained_by_hand() -> None:
    """1 of the 20 between random play and the teacher, in every episode: the interval is a point."""
    gain = make_gain(constant(-9), constant(-10), constant(-8), constant(-28))
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.05, 0.05, 0.05))
    assert gain.episodes == len(constant(-9))


def test_gains_are_paired() -> None:
    """Whatever an episode is worth to both teams cancels; the difference of two scores would be wide."""
    luck = np.random.default_rng(3).normal(scale=50.0, size=200)
    before, after = luck - 10, luck - 9
    gain = make_gain(after, before, luck - 8, luck - 28)
    assert gain.high - gain.low < 1e-9
    # One episode in four gains 4: the mean is the same, and what resamples make of it is not.
    uneven = before + 4 * (np.arange(200) % 4 == 0)
    gain = make_gain(uneven, before, luck - 8, luck - 28)
    # Deviation 4 sqrt(1/4 x 3/4) = 1.73 of 200 episodes over 20: 1.96 x 1.73 / sqrt(200) / 20 = 0.012 to each side.
    assert gain.mean == pytest.approx(0.05)
    assert (gain.low, gain.high) == pytest.approx((0.038, 0.062), abs=0.002)


def test_a_gain_of_nothing_to_retain() -> None:
    with pytest.raises(EnvError, match="there is nothing to retain"):
        make_gain(constant(-9), constant(-9), constant(-28), constant(-8))
