import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np
import pytest

from kdnas.budgets.cost import Cost, TeamCost
from kdnas.study.front import hypervolume
from kdnas.study.race import Standing, bands, order, promotable

ONE_BAND = 99.0
"""Width of a band that holds every price."""


def standings(*objectives: tuple[float, float, float]) -> list[Standing]:
    return [Standing(trial=trial, objectives=point) for trial, point in enumerate(objectives)]


def numbers(found: Sequence[Standing]) -> list[int]:
    return [standing.trial for standing in found]


def random_standings(seed: int, count: int = 40) -> list[Standing]:
    """Prices are drawn from few values, so that many trials are alike in one of them; some repeat another."""
    generator = np.random.default_rng(seed)
    drawn = [
        (
            float(generator.uniform()),
            float(generator.choice([100, 300, 1000, 10_000])),
            float(generator.choice([64, 256, 1024])),
        )
        for _ in range(count)
    ]
    return standings(*drawn, *drawn[:5])


# Order.


def test_a_dominated_trial_comes_last() -> None:
    assert numbers(order(standings((0.4, 200, 100), (0.9, 1000, 1000), (0.5, 100, 100)))) == [1, 2, 0]


def test_crowding_by_hand() -> None:
    """One rank, memory all alike. Ranges: retention .8, FLOPs two decades.

    Trial 1: retention (.5 - .1) / .8 = .5, log10 of FLOPs (2.5 - 2) / 2 = .25: .75 in all.
    Trial 2: retention (.9 - .3) / .8 = .75, log10 of FLOPs (4 - 2.3) / 2 = .85: 1.6 in all.
    Trials 0 and 3 are the ends, which stand alone. Without the logarithm trial 1 would have .5 + 216 / 9900.
    """
    rank = standings((0.1, 100, 8), (0.3, 10**2.3, 8), (0.5, 10**2.5, 8), (0.9, 10_000, 8))
    assert numbers(order(rank)) == [0, 3, 2, 1]


def test_costs_count_in_decades() -> None:
    """FLOPs 10, 100, 1000, 10000; retention 0, .6, .7, 1. Both in the middle are two of three decades from their
    neighbours; by retention trial 1 has .7 and trial 2 .4. Without the logarithm trial 2 would have 9900 of 9990.
    """
    assert numbers(order(standings((0.0, 10, 8), (0.6, 100, 8), (0.7, 1000, 8), (1.0, 10_000, 8)))) == [0, 3, 1, 2]


def test_a_repeated_trial_comes_after_all_of_its_rank() -> None:
    """Trials 0 and 1 are the same: 0 is an end, 1 adds nothing; trial 3 lies between two others; trial 4 is dominated
    by both 0 and 1."""
    found = order(standings((0.1, 10, 8), (0.1, 10, 8), (0.9, 1000, 8), (0.5, 100, 8), (0.1, 10, 9)))
    assert numbers(found) == [0, 2, 3, 1, 4]


def test_trials_that_are_equal_in_everything_but_their_number() -> None:
    assert numbers(order(standings(*[(0.5, 10.0, 8.0)] * 4))) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_hangs_on_the_order_of_the_input(seed: int) -> None:
    given = random_standings(seed)
    shuffled = [given[index] for index in np.random.default_rng(seed).permutation(len(given))]
    assert order(shuffled) == order(given)
    assert bands(shuffled) == bands(given)
    for margin in (0.0, 0.1):
        assert promotable(shuffled, {3, 4}, reduction=3, margin=margin) == promotable(
            given, {3, 4}, reduction=3, margin=margin
        )


def test_nothing_to_order() -> None:
    assert order([]) == bands([]) == promotable([], set(), reduction=3) == []


# Bands.


def test_bands_by_hand() -> None:
    """log10: 3.477, 2.954, 3 and 1; in halves of a decade 6, 5, 6 and 2."""
    found = bands(standings((0.5, 3000, 8), (0.5, 900, 8), (0.5, 1000, 8), (0.5, 10, 8)), width=0.5)
    assert [numbers(band) for band in found] == [[3], [1], [0, 2]]


def test_edges_do_not_move_while_trials_come_in() -> None:
    given = random_standings(0)
    for count in range(1, len(given)):
        fewer = [set(numbers(band)) for band in bands(given[:count])]
        more = [set(numbers(band)) for band in bands(given)]
        assert all(sum(band <= whole for whole in more) == 1 for band in fewer)


# Promotion.

CHAIN = standings((0.9, 100, 8), (0.8, 100, 8), (0.7, 100, 8), (0.6, 100, 8))
"""Each dominates the next."""


@pytest.mark.parametrize(
    ("promoted", "margin", "expected"),
    [
        (set(), 0.0, [0, 1]),  # ceil(4 / 3) = 2 places
        ({0}, 0.0, [1]),
        ({0, 1}, 0.0, []),  # its places are taken
        ({2}, 0.0, [0, 1]),  # went on while it was second; those above it still may
        (set(), 0.1, [0, 1]),  # trial 1 would reach .9: not dominated
        (set(), 0.25, [0, 1, 2]),  # trial 2 would reach .95
        (set(), 0.35, [0, 1, 2, 3]),
    ],
)
def test_who_goes_on_in_one_band(promoted: set[int], margin: float, expected: list[int]) -> None:
    assert promotable(CHAIN, promoted, reduction=3, margin=margin) == expected


def test_whoever_is_not_dominated_goes_on_besides() -> None:
    """Six trials of one band, five of them none better than another: one place of ceil(6 / 6), and four besides."""
    front = [(0.1 * rank, 100.0 + rank, 8.0) for rank in range(5)]
    assert sorted(promotable(standings(*front, (0.05, 104, 9)), set(), reduction=6)) == [0, 1, 2, 3, 4]


def test_a_trial_that_another_band_dominates_is_not_held_back() -> None:
    """Trial 1 costs ten times as much as trial 0 and plays worse so far; of its own size it is the only one."""
    two = standings((0.6, 100, 8), (0.4, 1000, 80), (0.1, 100, 8), (0.2, 100, 8))
    assert promotable(two, set(), reduction=4) == [0, 1]
    assert promotable(two, set(), reduction=4, width=ONE_BAND) == [0]


def test_a_large_trial_that_starts_high_takes_no_place_of_small_ones() -> None:
    """Two bands of three: one place each, whatever the retention of the other band."""
    small = [(0.10, 100.0, 8.0), (0.09, 100.0, 8.0), (0.08, 100.0, 8.0)]
    large = [(0.90, 1000.0, 80.0), (0.89, 1000.0, 80.0), (0.88, 1000.0, 80.0)]
    assert sorted(promotable(standings(*small, *large), set(), reduction=3)) == [0, 3]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reduction", [2, 3, 50])
def test_every_band_has_someone_to_send_on(seed: int, reduction: int) -> None:
    given = random_standings(seed)
    on = set(promotable(given, set(), reduction=reduction))
    assert all(on & set(numbers(band)) for band in bands(given))


@pytest.mark.parametrize("seed", range(5))
def test_a_margin_of_one_sends_all_on(seed: int) -> None:
    given = random_standings(seed)
    assert promotable(given, set(), reduction=3, margin=1.0) == numbers(order(given))


@pytest.mark.parametrize("seed", range(5))
def test_a_wider_margin_only_adds(seed: int) -> None:
    given = random_standings(seed)
    on = [set(promotable(given, set(), reduction=4, margin=margin)) for margin in (0.0, 0.05, 0.2, 0.5)]
    assert all(less <= more for less, more in pairwise(on))
    assert len(on[0]) < len(on[-1])


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_sent_on_twice(seed: int) -> None:
    """Results come in one by one, and whoever may go on does so at once."""
    given = random_standings(seed)
    promoted: set[int] = set()
    for count in range(1, len(given) + 1):
        on = promotable(given[:count], promoted, reduction=3)
        assert len(set(on)) == len(on)
        assert not set(on) & promoted
        assert set(on) <= set(numbers(given[:count]))
        promoted.update(on)
    assert promotable(given, promoted, reduction=3) == []
    assert set(promotable(given, set(), reduction=3)) <= promoted


def test_the_chain_is_the_same_in_any_order() -> None:
    assert {tuple(promotable(given, set(), reduction=3)) for given in permutations(CHAIN)} == {(0, 1)}


# A race of 60 trials, from the first rung to the end.

RUNGS = (1 / 9, 1 / 3, 1.0)
TEACHER = Cost(macs=100_000, bops=1, params=1, memory_bytes=800_000, latency_p50_s=1.0, latency_p95_s=1.0)
Rule = Callable[[Sequence[Standing], Set[int]], list[int]]


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A student whose retention rises from 0 to its limit: limit - limit * exp(-steps / tau)."""

    limit: float
    tau: float
    """In units of the whole training."""
    flops: float
    memory_bytes: float

    def after(self, steps: float) -> tuple[float, float, float]:
        return self.limit * (1 - math.exp(-steps / self.tau)), self.flops, self.memory_bytes


def learners(seed: int, count: int = 60) -> list[Learner]:
    """Sizes over two decades of FLOPs, with half, one or four bytes of memory for each.

    The smallest has a limit of .4 and a tau of 1.8, the largest .976 and .23, less and more by chance. Three of ten
    are of a quick kind: five times as fast, and .15 lower in the end.
    """
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        decades = generator.uniform(0, 2)
        flops = 1000 * 10**decades
        memory = flops * generator.choice([0.5, 1, 4])
        quick = generator.random() < 0.3
        limit = 1 - 0.6 * 10 ** (-0.7 * decades) - generator.exponential(0.05) - (0.15 if quick else 0)
        tau = 1.8 * 10 ** (-0.45 * decades) * math.exp(generator.normal(0, 0.6)) / (5 if quick else 1)
        found.append(Learner(limit=limit, tau=tau, flops=flops, memory_bytes=float(memory)))
    return found


def volume(points: Sequence[tuple[float, float, float]]) -> float:
    return hypervolume(points, TeamCost(agents={"all": TEACHER}, seats={"all": 1}))


def race(field: Sequence[Learner], rule: Rule) -> tuple[float, float]:
    """Shares of the hypervolume and of the steps of training all to the end, one worker taking the topmost rung first.

    A trial goes on from where it was, so the step from a rung to the next costs only the difference.
    """
    reached: list[dict[int, Standing]] = [{}, {}, {}]
    promoted: list[set[int]] = [set(), set()]
    waiting = list(range(len(field)))
    steps = 0.0
    while True:
        ready = ((rung, rule(list(reached[rung].values()), promoted[rung])) for rung in (1, 0))
        rung, on = next(((rung, on) for rung, on in ready if on), (-1, waiting[:1]))
        if not on:
            break
        if rung < 0:
            waiting.pop(0)
        else:
            promoted[rung].add(on[0])
        reached[rung + 1][on[0]] = Standing(trial=on[0], objectives=field[on[0]].after(RUNGS[rung + 1]))
        steps += RUNGS[rung + 1] - (RUNGS[rung] if rung >= 0 else 0)
    all_to_the_end = volume([learner.after(1.0) for learner in field])
    return volume([standing.objectives for standing in reached[2].values()]) / all_to_the_end, steps / len(field)


def with_bands(found: Sequence[Standing], promoted: Set[int]) -> list[int]:
    return promotable(found, promoted, reduction=3)


def without_bands(found: Sequence[Standing], promoted: Set[int]) -> list[int]:
    return promotable(found, promoted, reduction=3, width=ONE_BAND)


def by_retention_alone(found: Sequence[Standing], promoted: Set[int]) -> list[int]:
    """The rule of a race with one objective."""
    best = sorted(found, key=lambda standing: -standing.objectives[0])
    return [standing.trial for standing in best[: -(-len(best) // 3)] if standing.trial not in promoted]


def test_a_race_keeps_the_front_for_a_part_of_the_steps() -> None:
    """Four fields of 60: shares of the hypervolume, and of the steps."""
    rules = (with_bands, without_bands, by_retention_alone)
    results = {rule: np.array([race(learners(seed), rule) for seed in range(4)]) for rule in rules}
    kept = {rule: result[:, 0] for rule, result in results.items()}
    assert kept[with_bands].min() >= 0.95
    assert results[with_bands][:, 1].mean() <= 0.67
    # Without bands the quick and cheap push out those that cost more and rise late: twice the loss at least.
    assert (1 - kept[without_bands]).mean() >= 2 * (1 - kept[with_bands]).mean()
    # By retention alone the large ones push out the small.
    assert kept[by_retention_alone].mean() < 0.75
