"""How far the search's estimates were off, in one sentence."""

import pytest

from kdnas.budgets.cost import Cost, TeamCost
from kdnas.evaluation.score import Interval, Score
from kdnas.report.hindsight import describe_hindsight
from kdnas.spaces.spec import StudentSpec
from kdnas.students.refinement import Hindsight, IntervalCard
from kdnas.study.front import Member

PRICE = Cost(macs=1, bops=1, params=1, memory_bytes=1, latency_p50_s=0.0, latency_p95_s=0.0)
COST = TeamCost(agents={"a": PRICE}, seats={"a": 1})


def interval(mean: float) -> IntervalCard:
    return IntervalCard(mean=mean, low=mean - 0.01, high=mean + 0.01, episodes=100)


def member(search: float, final: float, refinement: float | None = None) -> Member:
    reached = Interval(mean=final + (refinement or 0.0), low=0.0, high=1.0, episodes=100)
    return Member(
        trial=0,
        path=None,
        candidate={"a": StudentSpec(family="mlp", base=(4,), hidden=(4,))},
        score=Score(retention=reached, returned=reached),
        cost=COST,
        teacher=COST,
        hindsight=Hindsight(
            search=interval(search),
            final=interval(final),
            refinement=None if refinement is None else interval(refinement),
        ),
    )


@pytest.mark.parametrize(
    ("front", "said"),
    [
        # .950 - .945 and .910 - .907 are .005 and .003; .014 and nothing are .007 a team.
        (
            [member(0.950, 0.945, 0.014), member(0.910, 0.907)],
            "the search's estimates were .004 too high on average over 2 teams; refinement added .007",
        ),
        ([member(0.9, 0.92)], "the search's estimate of the one team was .020 too low"),
        # What validation kept may be worse on the final episodes; nothing is chosen on these.
        (
            [member(0.9, 0.9, -0.002)],
            "the search's estimate of the one team was right to .001; refinement took .002",
        ),
    ],
)
def test_one_sentence_on_all_teams(front: list[Member], said: str) -> None:
    assert describe_hindsight(front) == said


def test_nothing_is_said_where_nothing_final_is_known() -> None:
    known = member(0.9, 0.9)
    assert describe_hindsight([]) is None
    assert describe_hindsight([Member(**{**vars(known), "hindsight": None})]) is None
