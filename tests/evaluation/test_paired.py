import numpy as np
import pytest

from kdnas.evaluation import make_score, retention_parts, standard_error


def test_the_parts_of_two_episodes_by_hand() -> None:
    teacher, random = np.zeros(2), np.full(2, -20.0)
    # 19 and 17 of 20, where 18 is the mean.
    assert retention_parts(np.array([-1.0, -3.0]), teacher, random) == pytest.approx([0.95, 0.85])
    # 0.05 to either side of the mean: sqrt(0.005) is the deviation, over sqrt(2) the error.
    assert standard_error(np.array([0.95, 0.85])) == pytest.approx(0.05)


def test_an_episode_moves_the_denominator_too() -> None:
    # Random -10 and -30, teacher 0: gaps 10 and 30. A student that is half-way in both retains 0.5 in each, although it
    # gains 5 and 15.
    assert retention_parts(np.array([-5.0, -15.0]), np.zeros(2), np.array([-10.0, -30.0])) == pytest.approx([0.5, 0.5])


def test_their_error_is_that_of_the_interval() -> None:
    """A thousand episodes: the bootstrap interval is 3.92 standard errors wide, give or take a few percent."""
    luck = np.random.default_rng(0).normal(size=(4, 1000))
    returns = [mean + 2 * luck[0] + own for mean, own in zip((-9, -8, -28), luck[1:], strict=True)]
    score = make_score(*returns).retention
    parts = retention_parts(*returns)
    assert parts.mean() == pytest.approx(score.mean)
    assert standard_error(parts) == pytest.approx(score.standard_error, rel=0.06)


def test_what_was_hard_for_both_is_no_difference() -> None:
    luck = np.random.default_rng(1).normal(0, 30, 100)
    one, other = (retention_parts(luck + mean, np.full(100, 20.0), np.zeros(100)) for mean in (19, 18))
    # 30 of 20, over the root of 100 episodes; but one is always 1 of 20 ahead.
    assert standard_error(one) == pytest.approx(0.15, rel=0.2)
    assert one - other == pytest.approx(np.full(100, 0.05))
    assert standard_error(one - other) == pytest.approx(0, abs=1e-9)
