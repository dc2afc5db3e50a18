from dataclasses import replace
from typing import Any

import pytest

from kdnas.budgets import Cost, TeamCost
from kdnas.errors import BudgetError
from kdnas.evaluation import Interval, Score
from kdnas.study.front import Member
from kdnas.study.selector import parse_selector

from .conftest import mlp


def cost(macs: int, memory: int, latency_us: float = 10.0) -> Cost:
    return Cost(
        macs=macs,
        bops=macs * 1024,
        params=macs,
        memory_bytes=memory,
        latency_p50_s=latency_us * 5e-7,
        latency_p95_s=latency_us * 1e-6,
        latency_p99_s=latency_us * 2e-6,
    )


def member(trial: int, retention: float, **costs: Any) -> Member:
    """Two seats of `pair` and one of `solo`, with equal prices unless told otherwise."""
    pair, solo = costs["pair"], costs.get("solo", costs["pair"])
    seats = {"pair": 2, "solo": 1}
    interval = Interval(mean=retention, low=retention, high=retention, episodes=10)
    return Member(
        trial=trial,
        path=None,
        candidate={"pair": mlp("float", 16), "solo": mlp("float", 16)},
        score=Score(retention=interval, returned=replace(interval, mean=-9.0)),
        cost=TeamCost(agents={"pair": pair, "solo": solo}, seats=seats),
        teacher=TeamCost(agents={"pair": cost(10_000, 40_000), "solo": cost(10_000, 40_000)}, seats=seats),
    )


FRONT = [
    member(1, 0.99, pair=cost(2000, 9000, 20)),
    member(2, 0.95, pair=cost(1000, 4000, 15)),
    member(3, 0.94, pair=cost(900, 5000, 12), solo=cost(1200, 1000, 12)),
    member(4, 0.50, pair=cost(100, 500, 9)),
    member(5, 0.50, pair=cost(100, 500, 9)),
]
"""Team FLOPs: 12,000, 6,000, 6,000, 600, 600; team memory 27,000, 12,000, 11,000, 1,500, 1,500."""


@pytest.mark.parametrize(
    ("text", "trial"),
    [
        ("", 1),
        ("max retention", 1),
        ("  max   retention ", 1),
        ("flops<2k", 4),  # 2 x 900 and 2 x 1,200: each agent counts
        ("flops<=2k", 2),
        ("pair.flops<2k", 3),
        ("team.flops<=6k", 2),
        ("team.memory<12kB", 3),
        ("flops<10%", 4),  # 2,000 of 20,000 is not less
        ("flops<=10%", 2),
        ("latency<15us", 3),
        ("retention>=95%, min memory", 2),
        ("retention>=0.95,min flops", 2),
        ("retention>95%, min memory", 1),
        ("retention > 0.4, min flops", 4),  # equal members: the earlier trial
        ("min flops", 4),
        ("max flops", 1),
        ("min latency", 4),
        ("retention>=90%, min flops", 2),  # 6,000 both: the higher retention
        ("retention>=90%, team.memory<=11kB, max retention", 3),
        ("min retention", 4),
        ("retention>=-1, min bops", 4),
    ],
)
def test_what_it_means(text: str, trial: int) -> None:
    assert parse_selector(text).choose(FRONT).trial == trial


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min speed", "selector 'min speed': unknown metric 'speed': .*known: bops, flash, flops"),
        ("min flop", "did you mean 'flops'"),
        ("min flops, max retention", "only one 'min METRIC' or 'max METRIC' can be the goal"),
        ("retention>=95", "selector 'retention>=95': retention is a share; write '95%' or '0.95'"),
        ("retention>=high", "selector 'retention>=high': 'high' is not NUMBER"),
        ("retention>=95ms", "selector 'retention>=95ms': 'ms' is a unit of time"),
        ("retention<95%", "retention is bounded from below; write 'retention>=95%'"),
        ("retention", "retention is bounded from below"),
        ("flops>2k", "'>' is not a limit"),
        ("flops", "has no limit"),
        ("flopz<2k", "unknown metric 'flopz'"),
        ("latency<2", "needs a unit of time"),
        ("smallest", "is not"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(BudgetError, match=said):
        parse_selector(text)


def test_nothing_meets_it() -> None:
    said = "no student of the front meets 'flops<100': the best retention is 99.0 %, the fewest team FLOPs 600"
    with pytest.raises(BudgetError, match=said):
        parse_selector("flops<100").choose(FRONT)


def test_a_group_that_is_not_there() -> None:
    with pytest.raises(BudgetError, match="no group 'duo': "):
        parse_selector("duo.flops<2k").choose(FRONT)
