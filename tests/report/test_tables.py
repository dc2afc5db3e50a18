from dataclasses import replace

import pytest

from kdnas.budgets import Cost, TeamCost
from kdnas.evaluation import Interval, Score
from kdnas.report.tables import front_table
from kdnas.spaces import StudentSpec
from kdnas.study.front import Member

INTERVAL = Interval(mean=0.9, low=0.8, high=1.0, episodes=10)
SPEC = StudentSpec(family="mlp", base=(16,), hidden=(8,))
FAST = Cost(
    macs=100, bops=0, params=0, memory_bytes=512, latency_p50_s=1e-6, latency_p95_s=2e-6, latency_p99_s=9e-6
)
SLOW = replace(FAST, latency_p95_s=3e-6, latency_p99_s=5e-6)


def member(**agents: Cost) -> Member:
    cost = TeamCost(agents=agents, seats=dict.fromkeys(agents, 1))
    score = Score(retention=INTERVAL, returned=INTERVAL)
    return Member(
        trial=7, path=None, candidate=dict.fromkeys(agents, SPEC), score=score, cost=cost, teacher=cost
    )


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        ({"a": FAST, "b": SLOW}, {"latency p95": "3 us", "latency p99": "9 us"}),  # the largest of each
        ({"a": replace(FAST, latency_p99_s=0.0)}, {"latency p95": "2 us"}),  # a record without it
        ({"a": replace(FAST, flash_bytes=1024)}, {"latency p95": "2 us", "latency p99": "9 us", "flash": "1 KiB"}),
    ],
)
def test_a_front_shows_what_was_measured_of_the_slowest_agent(agents: dict[str, Cost], said: dict[str, str]) -> None:
    table = front_table([member(**agents)])
    (row,) = table.rows
    assert len(row) == len(table.header)
    shown = dict(zip(table.header, row, strict=True))
    assert {name: shown[name] for name in shown if name.startswith(("latency", "flash", "ram"))} == said
