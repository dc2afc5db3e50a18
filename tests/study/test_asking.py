"""Where candidates come from: what waits in the queue, then the sampler and what is foretold in turns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdnas.evaluation.score import make_score
from kdnas.spaces import StudentSpec
from kdnas.study.asking import Asking
from kdnas.study.attempt import Played, Signature, signature
from kdnas.study.objective import Objective
from kdnas.study.setup import open_study, read_study

from .conftest import WriteStudy
from .pretended import RANDOM, TEACHER, pretend

Team = tuple[int, int]


def mlp(units: int) -> StudentSpec:
    return StudentSpec(family="mlp", base=(16,), hidden=(units,))


def candidate(team: Team) -> dict[str, StudentSpec]:
    return {"left": mlp(team[0]), "right": mlp(team[1])}


@pytest.fixture
def make(write_study: WriteStudy, tmp_path: Path) -> Any:
    def make(**search: Any) -> Objective:
        path = write_study("asking", **{"distill.rungs": [0.5, 1.0], "search": search})
        return pretend(open_study(read_study(path)), tmp_path / "run")

    return make


LOSSES = {12: 0.05, 8: 0.1, 6: 0.2, 4: 0.4}


def school(objective: Objective, *widths: int, rung: int = 1) -> None:
    """Students that were played alone, and lost what `LOSSES` says."""
    for units in widths:
        for group in ("left", "right"):
            returns = np.full(64, TEACHER - LOSSES[units] * (TEACHER - RANDOM))
            objective.schooling.losses.record(group, mlp(units), rung, returns)


def play(objective: Objective, *teams: Team, retention: float | None = None) -> dict[Signature, Played]:
    """Teams that were played, and retained what their losses say unless told otherwise."""
    found = {}
    for team in teams:
        kept = retention if retention is not None else 1 - LOSSES[team[0]] - LOSSES[team[1]]
        returns = np.full(64, RANDOM + kept * (TEACHER - RANDOM))
        cost = objective.gate.judge(candidate(team)).cost.team
        found[signature(candidate(team))] = Played(
            candidate=candidate(team),
            score=make_score(returns, np.full(64, TEACHER), np.full(64, RANDOM)),
            objectives=(kept, float(cost.flops), float(cost.memory_bytes)),
            returns=returns,
            predicted=kept,
        )
    return found


def asked(
    objective: Objective,
    played: Mapping[Signature, Played],
    *active: Team,
    beaten: tuple[Team, ...] = (),
    asking: Asking | None = None,
) -> tuple[Team, bool]:
    """The next team's widths, and whether it was proposed."""
    source = asking or objective.asking
    trial = source.next_draft(played, [candidate(team) for team in active], [candidate(team) for team in beaten])
    team = objective.setup.space.sample(trial)
    return (team["left"].hidden[0], team["right"].hidden[0]), trial.user_attrs.get("proposed", False)


def test_the_queue_comes_first_and_takes_no_turn(make: Any) -> None:
    objective = make()
    school(objective, 8, 4)
    for units in (4, 6):
        objective.drafts.enqueue(objective.setup.space.parameters(candidate((units, units))))
    assert asked(objective, {}) == ((4, 4), False)
    assert asked(objective, {}) == ((6, 6), False)
    assert objective.asking.turn == 0


def test_every_second_candidate_is_proposed(make: Any) -> None:
    objective = make()
    school(objective, 8, 6, 4)
    played = play(objective, (8, 8))
    answers = [asked(objective, played) for _ in range(8)]
    assert [proposed for _, proposed in answers] == [False, True] * 4
    teams = [team for team, proposed in answers if proposed]
    # 16 units keep .8 and were played; 14 keep .7, 12 as 6 and 6 keep .6 (as 8 and 4 less), 10 keep .4 and 8 keep .2.
    assert sorted(map(sum, teams)) == [8, 10, 12, 14]
    assert (6, 6) in teams


def test_only_complete_students_are_proposed(make: Any) -> None:
    objective = make()
    school(objective, 8)
    school(objective, 4, rung=0)
    asked(objective, {})
    assert asked(objective, {}) == ((8, 8), True)
    # And with every team of them played it is the sampler's turn again.
    asked(objective, play(objective, (8, 8)))
    assert not asked(objective, play(objective, (8, 8)))[1]


def test_a_group_without_a_complete_student_gets_no_proposals(make: Any) -> None:
    objective = make()
    objective.schooling.losses.record("left", mlp(8), 1, np.full(64, 4.5))
    assert [asked(objective, {})[1] for _ in range(4)] == [False] * 4


def test_nobody_proposes_where_the_study_says_so(make: Any) -> None:
    objective = make(propose=False)
    school(objective, 8, 4)
    assert [asked(objective, play(objective, (8, 8)))[1] for _ in range(4)] == [False] * 4


def test_teams_on_their_way_or_beaten_are_not_proposed(make: Any) -> None:
    objective = make()
    school(objective, 8, 6, 4)
    played = play(objective, (8, 8))
    teams = []
    for _ in range(6):
        team, proposed = asked(objective, played, (4, 4), beaten=((6, 6),))
        if proposed:
            teams.append(team)
    assert len(teams) == 3
    assert not {(4, 4), (6, 6)} & set(teams)
    # What was beaten adds nothing: 12 units are worth a play of 8 and 4.
    assert set(map(sum, teams)) == {10, 12, 14}


def test_a_proposal_that_somebody_else_asked_for_is_dropped(make: Any) -> None:
    objective = make()
    school(objective, 8, 6, 4)
    played = play(objective, (8, 8))
    asked(objective, played)
    first, _ = asked(objective, played)
    waiting = [tuple(spec.hidden[0] for spec in team.values()) for team in objective.asking.proposals]
    assert len(waiting) == 3
    asked(objective, played)
    team, proposed = asked(objective, played, first, waiting[0])
    assert proposed
    assert team == waiting[1]


def test_who_is_dominated_in_the_forecast_is_not_proposed(make: Any) -> None:
    objective = make()
    school(objective, 8, 4)
    objective.schooling.losses.record("left", mlp(6), 1, np.full(64, RANDOM))  # dearer than 4 units, and loses all
    played = play(objective, (8, 8), (8, 4), (4, 8), (4, 4))
    assert [asked(objective, played)[1] for _ in range(4)] == [False] * 4


@pytest.mark.parametrize("sampler", ["multivariate-tpe", "tpe", "nsga2", "random"])
def test_free_groups_take_turns_and_the_others_stay_as_in_the_front(make: Any, sampler: str) -> None:
    """Whatever proposals do in between."""
    objective = make(free_groups=1, sampler=sampler)
    school(objective, 8, 4)
    played = play(objective, (6, 12))
    teams = []
    while len(teams) < 12:
        team, proposed = asked(objective, played)
        if not proposed:
            teams.append(team)
    assert {right for _, right in teams[::2]} == {12}
    assert {left for left, _ in teams[1::2]} == {6}
    assert len({left for left, _ in teams[::2]}) > 1
    assert len({right for _, right in teams[1::2]}) > 1


def test_the_front_takes_turns_as_incumbent(make: Any) -> None:
    objective = make(free_groups=1, propose=False)
    played = play(objective, (12, 12), (4, 4))
    played |= play(objective, (6, 6), retention=0.1)  # dearer than 4-4, and worse: nobody's incumbent
    teams = [asked(objective, played)[0] for _ in range(8)]
    # `left` is free beside the first team of the front, `right` beside the second, and so on.
    assert {right for _, right in teams[::2]} == {12}
    assert {left for left, _ in teams[1::2]} == {4}


def test_without_a_team_that_was_played_all_groups_are_free(make: Any) -> None:
    objective = make(free_groups=1, propose=False)
    before = objective.drafts.study.sampler
    asked(objective, {})
    assert objective.drafts.study.sampler is before
