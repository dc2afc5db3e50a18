import pytest
from fronts import cost, member

from kdnas.study.one_se import best_of, error_of_lead, within_one_error

PRICE = cost(100, 100)


def test_by_the_interval_of_the_best() -> None:
    members = [
        member(number, retention, error=error, pair=PRICE)
        for number, retention, error in [(1, 0.9, 0.5), (2, 0.95, 0.011), (3, 0.94, 0.0), (4, 0.93, 0.5)]
    ]
    assert best_of(members).trial == 2
    assert error_of_lead(members[1], members[0]) == pytest.approx(0.011)
    assert [one.trial for one in within_one_error(members)] == [2, 3]


def test_by_the_episodes_where_they_are_kept() -> None:
    best = member(1, 0.95, parts=[1.2, 0.7], error=0.25, pair=PRICE)
    # Always about 0.02 less, in hard and easy episodes alike: 0.03 and 0.01, an error of 0.01.
    worse = member(2, 0.93, parts=[1.17, 0.69], error=0.24, pair=PRICE)
    # 0.03 less and 0.01 more: a mean of 0.01 and an error of 0.02.
    alike = member(3, 0.94, parts=[1.17, 0.71], error=0.23, pair=PRICE)
    assert error_of_lead(best, worse) == pytest.approx(0.01)
    assert error_of_lead(best, alike) == pytest.approx(0.02)
    assert [one.trial for one in within_one_error([worse, alike, best])] == [3, 1]
    # By intervals all three would be alike.
    bare = [member(one.trial, one.score.retention.mean, error=0.25, pair=PRICE) for one in (best, worse, alike)]
    assert len(within_one_error(bare)) == 3


def test_the_best_alone() -> None:
    alone = member(1, 0.9, parts=[0.9, 0.9], pair=PRICE)
    assert within_one_error([alone]) == [alone]


def test_of_equal_ones_the_first_trial_is_the_best() -> None:
    assert best_of([member(7, 0.9, pair=PRICE), member(3, 0.9, pair=PRICE)]).trial == 3
