import numpy as np
import pytest
from numpy.typing import NDArray

from kdnas.evaluation.sequential import LEAST, LEVEL, Outlook, Rival, judge, paired_interval, stages


def rival(returns: NDArray[np.float64], flops: float = 10, memory_bytes: float = 10) -> Rival:
    return Rival(returns=returns, flops=flops, memory_bytes=memory_bytes)


def pattern(mean: float, episodes: int = 36) -> NDArray[np.float64]:
    """Half of the episodes 1 below the mean and half 1 above it."""
    return np.tile([mean - 1.0, mean + 1.0], episodes // 2)


FLAT = np.zeros(36)


# Stages.


@pytest.mark.parametrize(
    ("cap", "first", "expected"),
    [
        (512, 64, [64, 128, 256, 512]),
        (300, 64, [64, 128, 256, 300]),
        (65, 64, [64, 65]),
        (64, 64, [64]),
        (50, 64, [50]),
        (100, 30, [30, 60, 100]),
        (1, 1, [1]),
    ],
)
def test_stages_double_up_to_the_cap(cap: int, first: int, expected: list[int]) -> None:
    assert stages(cap, first) == expected
    assert stages(300) == stages(300, 64)


# The interval.


def test_an_interval_by_hand() -> None:
    """Mean 1, sample variance 36 / 35, standard error sqrt(36 / 35 / 36) = .16903; t(.975, 35) = 2.0301: .34315."""
    low, high = paired_interval(pattern(1.0), 0.05)
    assert (low, high) == pytest.approx((1 - 0.34315, 1 + 0.34315), abs=1e-5)


@pytest.mark.parametrize(
    ("degrees", "level", "quantile"),
    # Tables of Student's t: two-sided levels.
    [(29, 0.05, 2.0452), (29, 0.01, 2.7564), (29, 0.001, 3.6594), (63, 0.05, 1.9983), (120, 0.001, 3.3735)],
)
def test_it_reaches_as_far_as_the_tables_say(degrees: int, level: float, quantile: float) -> None:
    """Of n differences, two are +-sqrt((n - 1) n / 2): sample variance n, so the standard error is 1."""
    n = degrees + 1
    differences = np.zeros(n)
    differences[:2] = np.sqrt((n - 1) * n / 2) * np.array([1, -1])
    low, high = paired_interval(differences, level)
    assert (low, high) == pytest.approx((-quantile, quantile), abs=1e-4)


@pytest.mark.parametrize("level", [0.05, 0.0125])
def test_it_misses_the_truth_as_often_as_it_says(level: float) -> None:
    """4000 intervals of 30 differences: within three deviations, 3 sqrt(level / 4000)."""
    drawn = np.random.default_rng(0).normal(0.0, 2.0, (4000, LEAST))
    missed = np.mean([not low <= 0 <= high for low, high in (paired_interval(row, level) for row in drawn)])
    assert missed == pytest.approx(level, abs=3 * np.sqrt(level / 4000))


# Verdicts, by hand: differences pattern(m) have a standard error of .16903.


@pytest.mark.parametrize(
    ("mean", "looks", "expected"),
    [
        (-0.36, 1, Outlook.DOMINATED),  # reach .3432
        (-0.33, 1, Outlook.OPEN),
        (0.33, 1, Outlook.OPEN),
        (0.36, 1, Outlook.CLEAR),
        # 5 % in four parts: t(.99375, 35) = 2.632, reach .4449.
        (-0.36, 4, Outlook.OPEN),
        (-0.46, 4, Outlook.DOMINATED),
        (0.43, 4, Outlook.OPEN),
        (0.46, 4, Outlook.CLEAR),
    ],
)
def test_one_rival(mean: float, looks: int, expected: Outlook) -> None:
    assert judge(pattern(mean), 10, 10, [rival(FLAT)], looks=looks) is expected


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        # To be dominated by one of four, 5 % is in four parts: reach .4449. To be clear of all, it is whole: .3432.
        (-0.36, Outlook.OPEN),
        (-0.46, Outlook.DOMINATED),
        (0.36, Outlook.CLEAR),
        (0.33, Outlook.OPEN),
    ],
)
def test_four_rivals(mean: float, expected: Outlook) -> None:
    assert judge(pattern(mean), 10, 10, [rival(FLAT)] * 4, looks=1) is expected


@pytest.mark.parametrize(("flops", "memory"), [(11.0, 10.0), (10.0, 11.0), (11.0, 9.0), (9.0, 11.0)])
def test_a_rival_that_costs_more_in_anything_does_not_matter(flops: float, memory: float) -> None:
    better = rival(FLAT + 100, flops, memory)
    assert judge(pattern(0.0), 10, 10, [better], looks=1) is Outlook.OPEN
    assert judge(pattern(0.36), 10, 10, [better, rival(FLAT)], looks=1) is Outlook.CLEAR


def test_clear_of_one_rival_is_not_clear_of_all() -> None:
    assert judge(pattern(1.0), 10, 10, [rival(FLAT), rival(FLAT + 1)], looks=1) is Outlook.OPEN
    assert judge(pattern(1.0), 10, 10, [rival(FLAT), rival(FLAT + 3)], looks=1) is Outlook.DOMINATED


def test_without_rivals_nothing_is_known() -> None:
    assert judge(pattern(1.0), 10, 10, [], looks=1) is Outlook.OPEN


def test_a_rival_that_stopped_early_is_met_on_the_common_episodes() -> None:
    """It played 36 episodes, in which the team is clearly better; the team's later episodes are not compared."""
    returns = np.concatenate([pattern(1.0), pattern(-50.0)])
    assert judge(returns, 10, 10, [rival(FLAT)], looks=1) is Outlook.CLEAR
    assert judge(pattern(1.0), 10, 10, [rival(np.concatenate([FLAT, FLAT + 50]))], looks=1) is Outlook.CLEAR


@pytest.mark.parametrize("mean", [-5.0, 5.0])
def test_fewer_than_thirty_common_episodes_say_nothing(mean: float) -> None:
    short = pattern(mean, LEAST - 2)
    assert judge(short, 10, 10, [rival(FLAT)], looks=1) is Outlook.OPEN
    assert judge(pattern(mean), 10, 10, [rival(FLAT[: LEAST - 1])], looks=1) is Outlook.OPEN
    assert judge(pattern(mean, LEAST), 10, 10, [rival(FLAT)], looks=1) is not Outlook.OPEN


def test_the_same_play_is_neither_better_nor_worse() -> None:
    luck = np.random.default_rng(0).normal(size=64)
    assert judge(luck, 10, 10, [rival(luck, 9, 9)], looks=1) is Outlook.OPEN


def test_a_difference_that_is_always_the_same_is_sure() -> None:
    luck = np.random.default_rng(0).integers(-50, 50, 64).astype(np.float64)
    assert judge(luck - 0.5, 10, 10, [rival(luck)], looks=4) is Outlook.DOMINATED
    assert judge(luck + 0.5, 10, 10, [rival(luck)], looks=4) is Outlook.CLEAR


def test_returns_that_are_not_finite_decide_nothing() -> None:
    returns = pattern(-5.0)
    returns[0] = np.nan
    assert judge(returns, 10, 10, [rival(FLAT)], looks=1) is Outlook.OPEN


def test_common_episodes_need_not_be_alike() -> None:
    """Luck with a deviation of 30 is common to both: the difference of 1 shows all the same."""
    luck = np.random.default_rng(0).normal(0, 30, 64)
    assert judge(luck + pattern(-1.0, 64), 10, 10, [rival(luck)], looks=4) is Outlook.DOMINATED


# Whole evaluations, on seeded noise.


def evaluate(returns: NDArray[np.float64], rivals: list[Rival], counts: list[int]) -> tuple[Outlook, int]:
    """The first verdict other than OPEN, and the episodes until then."""
    for count in counts:
        found = judge(returns[:count], 10, 10, rivals, looks=len(counts))
        if found is not Outlook.OPEN:
            return found, count
    return Outlook.OPEN, counts[-1]


@pytest.mark.parametrize("count", [1, 10])
def test_equal_teams_are_rarely_stopped(count: int) -> None:
    """No better and no worse than its rivals: over four looks at most 5 % get a verdict, of 1000."""
    generator = np.random.default_rng(1)
    counts = stages(512)
    wrong = 0
    for _ in range(1000):
        luck = generator.normal(0, 3, 512)
        own, *others = luck + generator.normal(0, 1, (1 + count, 512))
        found, _ = evaluate(own, [rival(returns) for returns in others], counts)
        wrong += found is not Outlook.OPEN
    assert 0 < wrong / 1000 <= LEVEL


def test_clearly_worse_teams_stop_at_the_first_look() -> None:
    """One deviation of the difference behind is 8 standard errors at 64 episodes; with ten rivals 3.4 are needed."""
    generator = np.random.default_rng(2)
    stopped = []
    for _ in range(200):
        own, *others = generator.normal(0, np.sqrt(0.5), (11, 512))
        stopped.append(evaluate(own - 1, [rival(returns) for returns in others], stages(512)))
    assert set(stopped) == {(Outlook.DOMINATED, 64)}


def test_teams_that_are_a_little_worse_stop_later() -> None:
    """A fifth of a deviation behind: 1.6 standard errors at 64 episodes and 4.5 at 512, where 2.5 are needed."""
    generator = np.random.default_rng(3)
    found = [evaluate(generator.normal(-0.2, 1, 512), [rival(np.zeros(512))], stages(512)) for _ in range(200)]
    assert sum(outlook is Outlook.CLEAR for outlook, _ in found) == 0
    assert sum(outlook is Outlook.DOMINATED for outlook, _ in found) > 180
    assert 128 < np.mean([episodes for _, episodes in found]) < 400
