from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from kdnas.errors import RunError
from kdnas.spaces import StudentSpec
from kdnas.study.device_profile import fresh_profile
from kdnas.study.objective import Objective
from kdnas.study.preflight import check_budget
from kdnas.study.returns import team_name
from kdnas.study.search import make_gate
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.take_up import candidate_of, enqueue_anchors, take_up

from .conftest import WriteStudy
from .pretended import Pretended, ask, finish, make_study, pretend

Begin = Callable[[], Objective]


@pytest.fixture
def study() -> "optuna.Study":
    return make_study()


@pytest.fixture
def begin(write_study: WriteStudy, study: "optuna.Study", tmp_path: Path) -> Begin:
    """A coordinator of the same run, as if the search was begun again."""
    path = write_study("plain", **{"distill.rungs": [0.25, 1.0]})
    setup = open_study(read_study(path, budget=["flops<=96"]))
    return lambda: pretend(setup, tmp_path / "run", study)


def resume(begin: Begin) -> Objective:
    objective = begin()
    take_up(objective)
    return objective


def workers_of(objective: Objective) -> Pretended:
    assert isinstance(objective.workers, Pretended)
    return objective.workers


@pytest.fixture
def told(begin: Begin) -> Objective:
    """Trials that were played, refused, that lost and that failed, in this order."""
    objective = begin()
    other = workers_of(objective).other
    other |= {f"play {group} mlp 6 float, rung 0": 4.75 for group in ("left", "right")}
    other["team 6-6 of 64 episodes"] = np.arange(64) / 64 + 4
    ask(objective, 6, 6)
    finish(objective)
    objective.field.margin = 0.0
    ask(objective, 12, 12)
    ask(objective, 8, 8)
    finish(objective)
    objective.end_race()
    ask(objective, 6, 6)
    workers_of(objective).outcomes["train left mlp 4 float, rung 0"] = ValueError("odd")
    ask(objective, 4, 4)
    finish(objective)
    states = [trial.state.name for trial in objective.drafts.stored.get_trials()]
    assert states == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE", "FAIL"]
    return objective


def test_what_was_told_is_counted(told: Objective, begin: Begin) -> None:
    objective = resume(begin)
    assert objective.counts == told.counts == {"done": 2, "rejected": 1, "outraced": 1, "failed": 1}
    assert objective.teams.points == told.teams.points
    assert objective.teams.lost == told.teams.lost
    assert len(objective.teams.lost) == 1
    assert len(objective.drafts.stored.get_trials()) == 5
    candidate = candidate_of(objective.setup, objective.drafts.stored.get_trials()[0])
    assert isinstance(candidate["left"], StudentSpec)


def test_teams_that_were_played_come_back_whole(told: Objective, begin: Begin) -> None:
    (team,), (was,) = resume(begin).teams.played.values(), told.teams.played.values()
    assert (team.candidate, team.score, team.objectives) == (was.candidate, was.score, was.objectives)
    assert team.predicted == was.predicted
    np.testing.assert_array_equal(team.returns, np.arange(64) / 64 + 4)


def test_a_team_whose_returns_are_gone_is_played_again(told: Objective, begin: Begin) -> None:
    (told.kept.path / f"{team_name(0)}.npy").unlink()
    objective = begin()
    workers_of(objective).other["team 6-6 of 64 episodes"] = np.arange(64) / 64 + 4
    take_up(objective)
    assert workers_of(objective).log == ["team 6-6 of 64 episodes"]
    (team,) = objective.teams.played.values()
    np.testing.assert_array_equal(team.returns, np.arange(64) / 64 + 4)
    assert workers_of(resume(begin)).log == []


def test_a_team_whose_returns_are_damaged_ends_in_a_sentence(told: Objective, begin: Begin) -> None:
    (told.kept.path / f"{team_name(0)}.npy").write_bytes(b"x")
    with pytest.raises(RunError, match=r"team-0000.npy: is damaged .*; delete it, it will be played again"):
        resume(begin)


def test_every_trial_of_a_team_has_its_returns(told: Objective) -> None:
    """Whichever of them played: another one may be read first."""
    first, second = (told.kept.load(team_name(number)) for number in (0, 3))
    np.testing.assert_array_equal(first, second)


def test_a_team_that_failed_is_not_proposed_when_the_search_goes_on(told: Objective, begin: Begin) -> None:
    (failed,) = resume(begin).teams.failed
    assert [spec.hidden for spec in failed.values()] == [(4,), (4,)]


def test_those_that_ended_keep_their_place_in_the_race(told: Objective, begin: Begin) -> None:
    objective = resume(begin)
    # The first lost .15 when it was judged, the third .6; those that were refused or known already never ran.
    assert {trial: standing.objectives[:2] for trial, standing in objective.field.standings[0].items()} == {
        0: (pytest.approx(0.85), 144.0),
        2: (pytest.approx(0.4), 192.0),
    }
    assert objective.field.standings == told.field.standings
    assert objective.field.promoted == told.field.promoted == {0: {0}}
    # What is told of the margin comes of the same teams.
    assert objective.field.margin == pytest.approx(abs(told.teams.points[0][0] - 0.4))
    # Who comes now is compared with those that ended: nobody waits beside nobody.
    objective.field.margin = 0.0
    ask(objective, 8, 6)
    finish(objective)
    assert [attempt.waits for attempt in objective.active.values()] == [True]


def test_complete_students_are_known_again(told: Objective, begin: Begin) -> None:
    """So that teams of them can be proposed; those that lost the race are not complete."""
    six = StudentSpec(family="mlp", base=(16,), hidden=(6,))
    objective = resume(begin)
    assert set(objective.schooling.losses.returns) == {(group, six, 1) for group in ("left", "right")}
    for key, returns in objective.schooling.losses.returns.items():
        np.testing.assert_array_equal(returns, told.schooling.losses.returns[key])


def test_a_lost_team_stays_lost(told: Objective, begin: Begin) -> None:
    objective = resume(begin)
    ask(objective, 8, 8)
    lost, again = (objective.drafts.stored.get_trials()[number] for number in (2, 5))
    assert again.state.name == "PRUNED"
    assert again.user_attrs["reason"] == lost.user_attrs["reason"]
    # And those that were told of it once more run no second time either.
    third = resume(begin)
    assert third.counts["outraced"] == 2
    assert set(third.field.standings[0]) == {0, 2}


def test_what_was_cut_off_is_asked_again_once(study: "optuna.Study", begin: Begin) -> None:
    ask(begin(), 6, 6)
    assert resume(begin).counts == {"done": 0, "rejected": 0, "outraced": 0, "failed": 0}
    (first,) = study.get_trials()
    assert first.state.name == "FAIL"
    objective = resume(begin)  # begun a third time, before it was asked
    objective.ask()
    (attempt,) = objective.active.values()
    assert attempt.trial.params == first.params
    assert not objective.drafts.some_wait
    resume(begin).ask()  # and cut off once more
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL", "FAIL", "RUNNING"]
    assert [trial.user_attrs.get("repeats") for trial in study.get_trials()] == [None, 0, 1]


def test_who_waits_when_the_search_ends_is_asked_again(told: Objective, begin: Begin) -> None:
    objective = resume(begin)
    objective.field.margin = 0.0
    ask(objective, 8, 6)
    finish(objective)
    objective.abandon()
    later = resume(begin)
    assert set(later.field.standings[0]) == {0, 2}  # it will stand there again
    later.ask()
    assert later.drafts.stored.get_trials()[-1].user_attrs["repeats"] == 5
    later.field.margin = 0.0
    workers_of(later).log.clear()
    finish(later)
    assert workers_of(later).log == []  # its students are there, and were played
    assert set(later.field.standings[0]) == {0, 2, 6}


def test_anchors_that_were_not_tried_are_queued_again(begin: Begin) -> None:
    first = begin()
    report = check_budget(first.setup.space, first.gate, 0)
    enqueue_anchors(first.drafts, first.setup, first.gate, report)
    enqueue_anchors(first.drafts, first.setup, first.gate, report)
    queued = [trial.system_attrs["fixed_params"] for trial in first.drafts.study.get_trials()]
    assert len(queued) > 2
    assert len({str(parameters) for parameters in queued}) == len(queued)
    first.ask()  # and then it was killed
    again = resume(begin)
    enqueue_anchors(again.drafts, again.setup, again.gate, report)
    asked = []
    while again.drafts.some_wait:
        asked.append(again.drafts.ask())
    assert [again.setup.space.parameters(again.setup.space.sample(draft)) for draft in asked] == queued


def test_gates_of_one_run_agree(setup: Setup) -> None:
    """Latencies are handed on, so that a candidate has one price for as long as a run lives."""
    target = setup.make_target()
    profile = fresh_profile(target)
    first = make_gate(setup, target, profile)
    candidate = {group: next(iter(space.parameters)) for group, space in setup.space.groups.items()}
    cost = first.judge(candidate).cost
    known = replace(profile, measured=first.pricer.measurements())
    assert make_gate(setup, target, known).judge(candidate).cost == cost
