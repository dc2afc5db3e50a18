import numpy as np

from kdnas.evaluation.score import make_score
from kdnas.spaces import StudentSpec
from kdnas.study.attempt import Lost, Played, signature
from kdnas.study.teams import Teams

SMALL, LARGE = ({"left": StudentSpec(family="mlp", base=(16,), hidden=(width,))} for width in (4, 8))


def test_a_lost_team_lost_where_it_came_furthest() -> None:
    """Two trials of one team may end in either order."""
    for rungs in ((2, 0), (0, 2)):
        teams = Teams()
        for rung in rungs:
            teams.lose(Lost(candidate=SMALL, reason=f"at {rung}", rung=rung))
        assert teams.lost[signature(SMALL)].reason == "at 2"


def test_hopeless_are_those_that_lost_in_their_episodes_or_failed() -> None:
    teams = Teams()
    teams.lose(Lost(candidate=SMALL, reason="slow", rung=1))
    assert teams.hopeless(last_rung=2) == []
    assert teams.hopeless(last_rung=1) == [SMALL]
    teams.failed.append(LARGE)
    assert teams.hopeless(last_rung=1) == [SMALL, LARGE]


def test_a_team_is_new_once() -> None:
    returns = np.array([4.0, 4.5])
    score = make_score(returns, np.array([5.0, 5.0]), np.array([1.0, 1.0]))
    played = Played(candidate=SMALL, score=score, objectives=(0.8, 10.0, 20.0), returns=returns, predicted=0.8)
    teams = Teams()
    assert [teams.remember(played), teams.remember(played)] == [True, False]
    assert teams.points == [(0.8, 10.0, 20.0)]
