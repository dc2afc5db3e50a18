"""The coordinator with workers that are none: each task ends as it is told, when it is told."""

from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FixedTrial

from kdnas.errors import BundleError, EnvError, RunError, StudentError
from kdnas.spaces import StudentSpec
from kdnas.study.attempt import Lost
from kdnas.study.crew import WorkerLostError
from kdnas.study.gate import Gate
from kdnas.study.objective import Objective
from kdnas.study.returns import team_name
from kdnas.study.setup import Setup, open_study, read_study

from .conftest import WriteStudy
from .pretended import Pretended, ask, finish, last, log_of, parameters, pretend


@pytest.fixture
def setup(write_study: WriteStudy) -> Setup:
    """Students are trained to the end at once."""
    return open_study(read_study(write_study("plain", **{"distill.rungs": [1.0]}), budget=["flops<=96"]))


@pytest.fixture
def objective(setup: Setup, tmp_path: Path) -> Objective:
    return pretend(setup, tmp_path / "run")


def workers_of(objective: Objective) -> Pretended:
    assert isinstance(objective.workers, Pretended)
    return objective.workers


def counted(**counts: int) -> dict[str, int]:
    return {"done": 0, "rejected": 0, "outraced": 0, "failed": 0} | counts


def test_a_refused_candidate_is_told_with_its_constraints_and_trains_nothing(objective: Objective) -> None:
    ask(objective, 12, 4)  # 12 units: 144 FLOPs
    trial = last(objective)
    assert trial.state.name == "PRUNED"
    assert trial.constraints == {"flops<=96": pytest.approx(0.5)}
    assert trial.user_attrs["reason"] == "breaks flops<=96 by 50 %"
    assert trial.user_attrs["ended"] == "rejected"
    assert trial.user_attrs["cost"]["flops"] == 144 + 48
    finish(objective)
    assert log_of(objective) == []
    assert objective.counts == counted(rejected=1)
    assert objective.teams.lost == {}


def test_what_cannot_be_measured_fails_with_its_cause_and_the_search_goes_on(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(gate: Gate, candidate: object, **options: bool) -> None:
        raise StudentError("cortex-m9: no route to host")

    with monkeypatch.context() as changed:
        changed.setattr(Gate, "judge", judge)
        ask(objective, 6, 6)
    trial = last(objective)
    assert (trial.state.name, trial.user_attrs["reason"]) == ("FAIL", "cortex-m9: no route to host")
    ask(objective, 6, 6)
    finish(objective)
    assert objective.counts == counted(done=1, failed=1)


def test_ancestor_then_child_then_alone_then_together(objective: Objective) -> None:
    workers_of(objective).other = {"play left mlp 8 float, rung 0": 4.5, "play right mlp 4 float, rung 0": 4.0}
    ask(objective, 8, 4)
    finish(objective)
    assert log_of(objective) == [
        "train left mlp 16 float",  # for both: groups of one pool train under the name of the first
        "train left mlp 8 float, rung 0",
        "train left mlp 4 float, rung 0",
        "play left mlp 8 float, rung 0",
        "play right mlp 4 float, rung 0",
        "team 8-4 of 64 episodes",
    ]
    trial = last(objective)
    assert trial.state.name == "COMPLETE"
    # (4 - 5/3) / (5 - 5/3); 48 + 24 MACs.
    assert trial.values[:2] == pytest.approx([0.7, 144])
    assert trial.constraints == {"flops<=96": 0.0}
    # The losses are .5 and 1 of 10/3: .15 + .3.
    assert trial.user_attrs["predicted"] == pytest.approx(0.55)
    assert trial.user_attrs["rungs"] == {0: pytest.approx(0.55)}
    lost = {group: loss["mean"] for group, loss in trial.user_attrs["losses"].items()}
    assert lost == {"left": pytest.approx(0.15), "right": pytest.approx(0.3)}
    assert objective.counts == counted(done=1)
    np.testing.assert_array_equal(objective.kept.load(team_name(0)), np.full(64, 4.0))


def test_what_is_banked_or_played_is_not_made_again(objective: Objective) -> None:
    ask(objective, 8, 8)
    finish(objective)
    log_of(objective).clear()
    ask(objective, 4, 8)
    finish(objective)
    assert log_of(objective) == [
        "train left mlp 4 float, rung 0", "play left mlp 4 float, rung 0", "team 4-8 of 64 episodes"
    ]  # fmt: skip
    log_of(objective).clear()
    ask(objective, 8, 8)
    finish(objective)
    assert log_of(objective) == []
    trials = objective.drafts.stored.get_trials()
    assert trials[2].values == trials[0].values
    assert trials[2].user_attrs["predicted"] == trials[0].user_attrs["predicted"]
    assert objective.counts["done"] == 3
    assert len(objective.teams.points) == 2  # a team that was told twice is one point


def test_a_team_of_complete_students_is_played_at_once(objective: Objective) -> None:
    ask(objective, 8, 4)
    ask(objective, 4, 8)
    finish(objective)
    log_of(objective).clear()
    ask(objective, 4, 4)
    finish(objective)
    assert log_of(objective) == ["team 4-4 of 64 episodes"]


def test_a_student_is_trained_once_for_two_teams_that_wait_for_it(objective: Objective) -> None:
    ask(objective, 8, 8)
    ask(objective, 8, 4)
    finish(objective)
    assert sorted(log_of(objective)) == [
        "play left mlp 8 float, rung 0",
        "play right mlp 4 float, rung 0",
        "play right mlp 8 float, rung 0",
        "team 8-4 of 64 episodes",
        "team 8-8 of 64 episodes",
        "train left mlp 16 float",
        "train left mlp 4 float, rung 0",
        "train left mlp 8 float, rung 0",
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StudentError("student mlp 8 float: the loss became nan"), "student mlp 8 float: the loss became nan"),
        (
            WorkerLostError("the worker process died (signal SIGSEGV); out of memory? (tried 3 times)"),
            "training mlp 8 float, rung 0: the worker process died (signal SIGSEGV); out of memory? (tried 3 times)",
        ),
        (ValueError("odd"), "training mlp 8 float, rung 0: ValueError: odd"),
    ],
)
def test_a_student_that_fails_fails_every_team_that_needs_it(
    objective: Objective, error: BaseException, reason: str
) -> None:
    workers_of(objective).outcomes["train left mlp 8 float, rung 0"] = error
    ask(objective, 8, 4)
    ask(objective, 4, 4)
    finish(objective)
    ask(objective, 4, 8)
    finish(objective)
    first, second, third = objective.drafts.stored.get_trials()
    assert [trial.state.name for trial in (first, second, third)] == ["FAIL", "COMPLETE", "FAIL"]
    assert first.user_attrs["reason"] == third.user_attrs["reason"] == reason
    assert log_of(objective).count("train left mlp 8 float, rung 0") == 1
    assert objective.counts == counted(done=1, failed=2)


TWO_BASES = {"bits": ["float"], "bases": [{"hidden": [units], "prune": [0.5]} for units in (16, 8)]}
LOST = StudentError("student mlp 16 float: the loss became nan")


def of_bases(objective: Objective, left: int, right: int) -> None:
    """Ask for a team by its bases, and go on until it has ended."""
    bases = {"left": left, "right": right}
    chosen: dict[str, Any] = {f"{group}.base": base for group, base in bases.items()}
    chosen |= {f"{group}.{base}.prune.0": 0.5 for group, base in bases.items()}
    objective.drafts.enqueue(chosen | {"left.bits": "float", "right.bits": "float"})
    objective.ask()
    finish(objective)


def test_an_ancestor_that_cannot_be_trained_fails_those_that_come_of_it(
    write_study: WriteStudy, tmp_path: Path
) -> None:
    """As long as each group has another one."""
    study = write_study("two_bases", space={"name": "two_bases", "groups": {"default": TWO_BASES}})
    objective = pretend(open_study(read_study(study)), tmp_path / "run")
    workers_of(objective).outcomes["train left mlp 16 float"] = LOST
    for base in (0, 1, 0):
        of_bases(objective, base, base)
    first, second, third = objective.drafts.stored.get_trials()
    assert [trial.state.name for trial in (first, second, third)] == ["FAIL", "COMPLETE", "FAIL"]
    assert first.user_attrs["reason"] == third.user_attrs["reason"] == str(LOST)
    assert log_of(objective).count("train left mlp 16 float") == 1


def test_a_group_without_an_ancestor_ends_the_search(write_study: WriteStudy, tmp_path: Path) -> None:
    """`right` can do with the other base, `left` has none."""
    left = TWO_BASES | {"bases": TWO_BASES["bases"][:1]}
    study = write_study("one_base", space={"name": "one_base", "groups": {"left": left, "right": TWO_BASES}})
    objective = pretend(open_study(read_study(study)), tmp_path / "run")
    workers_of(objective).outcomes["train left mlp 16 float"] = LOST
    with pytest.raises(StudentError, match="the loss became nan"):
        of_bases(objective, 0, 1)


def test_a_student_that_cannot_be_played_fails_its_teams_in_that_group_alone(objective: Objective) -> None:
    workers_of(objective).outcomes["play left mlp 8 float, rung 0"] = ValueError("odd")
    ask(objective, 8, 4)
    finish(objective)
    ask(objective, 4, 8)
    finish(objective)
    first, second = objective.drafts.stored.get_trials()
    assert [first.state.name, second.state.name] == ["FAIL", "COMPLETE"]
    assert first.user_attrs["reason"] == "playing mlp 8 float, rung 0 among teachers: ValueError: odd"


def test_a_team_that_cannot_be_played_fails_alone(objective: Objective) -> None:
    name = "team 8-8 of 64 episodes"
    workers_of(objective).outcomes[name] = WorkerLostError("the worker process died (exit code 1)")
    ask(objective, 8, 8)
    finish(objective)
    assert last(objective).state.name == "FAIL"
    assert last(objective).user_attrs["reason"] == "the worker process died (exit code 1)"
    # Nobody proposes it again, but whoever insists may try.
    (hopeless,) = objective.teams.hopeless(objective.last_rung)
    assert [spec.hidden for spec in hopeless.values()] == [(8,), (8,)]
    del workers_of(objective).outcomes[name]
    ask(objective, 8, 8)
    finish(objective)
    assert last(objective).state.name == "COMPLETE"


@pytest.mark.parametrize(
    ("task", "error", "kind"),
    [
        ("train left mlp 8 float, rung 0", BundleError("bank: damaged"), BundleError),
        ("train left mlp 16 float", StudentError("student mlp 16 float: the loss became nan"), StudentError),
        ("train left mlp 16 float", RunError("bank: cannot be written"), RunError),
        ("train left mlp 8 float, rung 0", BrokenProcessPool("All workers expired"), RunError),
        ("play left mlp 8 float, rung 0", EnvError("environment broke"), EnvError),
        ("play right mlp 8 float, rung 0", BrokenProcessPool("All workers expired"), RunError),
        ("team 8-8 of 64 episodes", EnvError("environment broke"), EnvError),
        ("team 8-8 of 64 episodes", BrokenProcessPool("All workers expired"), RunError),
    ],
)
def test_what_no_candidate_can_escape_ends_the_search(
    objective: Objective, task: str, error: BaseException, kind: type[Exception]
) -> None:
    workers_of(objective).outcomes[task] = error
    ask(objective, 8, 8)
    with pytest.raises(kind, match=r"bank|student|environment|worker processes"):
        finish(objective)
    assert last(objective).state.name == "RUNNING"  # asked again when the search goes on


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("returns", [float("nan"), float("inf")])
def test_objectives_must_be_finite(objective: Objective, returns: float) -> None:
    workers_of(objective).other["team 8-8 of 64 episodes"] = returns
    ask(objective, 8, 8)
    finish(objective)
    assert last(objective).state.name == "FAIL"
    assert last(objective).user_attrs["reason"].startswith("its objectives are (")
    assert not objective.kept.has(team_name(0))


def test_stopping_takes_back_what_has_not_begun(objective: Objective) -> None:
    ask(objective, 8, 8)
    objective.advance()
    (running,) = [future for *_, future in workers_of(objective).tasks]
    running.set_running_or_notify_cancel()
    ask(objective, 4, 4)
    objective.withdraw()
    assert not running.cancelled()
    assert objective.busy
    objective.settle()
    assert not objective.busy
    objective.abandon()
    assert [trial.state.name for trial in objective.drafts.stored.get_trials()] == ["FAIL", "FAIL"]
    assert all(trial.user_attrs["interrupted"] for trial in objective.drafts.stored.get_trials())
    assert objective.counts == counted()
    assert log_of(objective) == ["train left mlp 16 float"]


def test_a_team_that_was_asked_twice_is_played_once_and_told_twice(objective: Objective) -> None:
    ask(objective, 8, 8)
    ask(objective, 8, 8)
    finish(objective)
    assert [name for name in log_of(objective) if name.startswith("team")] == ["team 8-8 of 64 episodes"]
    first, second = objective.drafts.stored.get_trials()
    assert first.values == second.values
    assert objective.counts == counted(done=2)


def test_one_task_is_taken_in_at_a_time_and_the_oldest_first(objective: Objective) -> None:
    """Also when all have ended before anybody looks."""
    ask(objective, 8, 8)
    for _ in range(2):  # the ancestor, and its child
        objective.advance()
        objective.settle()
    objective.advance()
    ask(objective, 4, 4)
    objective.advance()
    workers = workers_of(objective)
    submitted = [name for name, *_ in workers.tasks]
    assert submitted == [
        "play left mlp 8 float, rung 0", "play right mlp 8 float, rung 0", "train left mlp 4 float, rung 0"
    ]  # fmt: skip
    for task in workers.tasks:
        workers.end(*task)
    workers.wait = lambda futures: [task[3] for task in workers.tasks if task[3] in futures]  # type: ignore[method-assign]
    left: list[tuple[int, int]] = []
    for _ in submitted:
        objective.settle()
        left.append((len(objective.schooling.playing), len(objective.schooling.training)))
    assert left == [(1, 1), (0, 1), (0, 0)]


def test_progress(objective: Objective) -> None:
    assert np.isnan(objective.progress(9).best_retention)
    ask(objective, 12, 12)
    ask(objective, 8, 8)
    progress = objective.progress(9)
    assert (progress.total, progress.done, progress.rejected, progress.running, progress.ended) == (9, 0, 1, 1, 1)
    finish(objective)
    progress = objective.progress(9)
    assert (progress.done, progress.running, progress.trainings) == (1, 0, 2)
    assert progress.best_retention == pytest.approx(0.7)
    # 0.7 x a decade less log10(8 / 10) of FLOPs x the decades of memory.
    cost = objective.gate.judge({g: StudentSpec(family="mlp", base=(16,), hidden=(8,)) for g in ("left", "right")}).cost
    teacher = objective.gate.pricer.teacher_cost().team
    decades = np.log10(teacher.memory_bytes / cost.team.memory_bytes)
    assert progress.hypervolume == pytest.approx(0.7 * np.log10(8) * decades)


@pytest.fixture
def race(write_study: WriteStudy, tmp_path: Path) -> Objective:
    """Two rungs: students are judged after a quarter of their recovery, one of three goes on.

    All teams but the smallest have 100 to 316 FLOPs, which is one band. A quarter of the way the groups lose with 6
    units .15 each, with 4 units .3 and with 8 units .2: `left` with 8 units only .15.
    """
    path = write_study("plain", **{"distill.rungs": [0.25, 1.0]})
    objective = pretend(open_study(read_study(path, budget=["flops<=96"])), tmp_path / "race")
    lost = {("left", 6): 0.15, ("right", 6): 0.15, ("left", 8): 0.15, ("right", 8): 0.2}
    workers_of(objective).other = {
        f"play {group} mlp {units} float, rung 0": 5 - loss * 10 / 3 for (group, units), loss in lost.items()
    }
    return objective


def test_a_lone_trial_goes_from_rung_to_rung(race: Objective) -> None:
    workers_of(race).other["play left mlp 6 float, rung 1"] = 4.75
    ask(race, 6, 6)
    finish(race)
    assert log_of(race) == [
        "train left mlp 16 float",
        "train left mlp 6 float, rung 0",
        "play left mlp 6 float, rung 0",
        "play right mlp 6 float, rung 0",
        "train left mlp 6 float, rung 1",
        "play left mlp 6 float, rung 1",
        "play right mlp 6 float, rung 1",
        "team 6-6 of 64 episodes",
    ]
    # .15 + .15 are lost at first; then .25 / (10 / 3) = .075 and 1 / (10 / 3) = .3.
    assert last(race).user_attrs["rungs"] == {0: pytest.approx(0.7), 1: pytest.approx(0.625)}
    assert last(race).user_attrs["predicted"] == pytest.approx(0.625)
    assert race.field.promoted == {0: {0}}


def test_who_is_worse_and_dearer_waits_and_loses(race: Objective) -> None:
    ask(race, 6, 6)  # .7 for 144 FLOPs
    finish(race)
    race.field.margin = 0.0
    log_of(race).clear()
    ask(race, 8, 8)  # .65 for 192: one of two goes on, and somebody cheaper is better
    finish(race)
    assert log_of(race) == [
        "train left mlp 8 float, rung 0", "play left mlp 8 float, rung 0", "play right mlp 8 float, rung 0"
    ]  # fmt: skip
    assert last(race).state.name == "RUNNING"
    assert [attempt.waits for attempt in race.active.values()] == [True]
    assert race.has_room
    assert not race.busy
    # Nobody else comes.
    race.end_race()
    trial = last(race)
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["ended"] == "outraced"
    assert trial.user_attrs["rungs"] == {0: pytest.approx(0.65)}
    assert trial.user_attrs["reason"] == "left behind at rung 0 by some of 2 trials"
    assert race.counts == counted(done=1, outraced=1)
    assert race.active == {}


def test_who_has_too_many_before_it_loses_at_once(race: Objective) -> None:
    for left, right in ((6, 6), (8, 8), (8, 6)):
        ask(race, left, right)
        finish(race)
        race.field.margin = 0.0
    # .7 for 144 FLOPs, .65 for 192 and .7 for 168: the third is dominated by the first and dominates the second. Of
    # three one goes on; two places behind it are as far as waiting makes sense.
    first, second, third = race.drafts.stored.get_trials()
    assert [trial.state.name for trial in (first, second, third)] == ["COMPLETE", "PRUNED", "RUNNING"]
    assert second.user_attrs["reason"] == "left behind at rung 0 by some of 3 trials"
    assert list(race.active) == [2]


def test_a_trial_that_an_earlier_one_sends_home_ends_once(race: Objective) -> None:
    """Both stand in the same round; the later one had come to the rung first."""
    ask(race, 6, 6)  # .7 for 144 FLOPs
    finish(race)
    race.field.margin = 0.0
    eight = race.setup.space.sample(FixedTrial(parameters(8, 8)))
    for group in ("left", "right"):  # others needed them
        while not race.schooling.ready({group: eight[group]}, 0):
            race.schooling.request({group: eight[group]}, 0)
            race.settle()
    ask(race, 4, 6)  # .55 for 120 FLOPs: not dominated, but not there yet
    ask(race, 8, 8)  # .65 for 192: waits behind the first
    finish(race)
    trial = last(race)
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["reason"] == "left behind at rung 0 by some of 3 trials"
    assert race.counts == counted(done=2, outraced=1)


def test_who_waits_goes_on_when_the_race_widens(race: Objective) -> None:
    ask(race, 6, 6)
    finish(race)
    race.field.margin = 0.0
    ask(race, 8, 8)
    finish(race)
    # Predictions turn out to be wrong by more than the .05 that it lacks.
    race.field.margin = 0.1
    log_of(race).clear()
    finish(race)
    assert log_of(race)[0] == "train left mlp 8 float, rung 1"
    assert last(race).state.name == "COMPLETE"
    assert race.field.promoted == {0: {0, 1}}


def test_teams_that_were_played_tell_how_wide_the_race_is(race: Objective) -> None:
    assert race.field.margin == 0.0
    workers_of(race).other["team 6-6 of 64 episodes"] = 4.5
    ask(race, 6, 6)
    finish(race)
    # Complete, both lose .3: predicted .4, played .85.
    assert race.field.margin == pytest.approx(0.45)


def test_a_lost_team_is_not_tried_again(race: Objective) -> None:
    ask(race, 6, 6)
    finish(race)
    race.field.margin = 0.0
    ask(race, 8, 8)
    finish(race)
    race.end_race()
    log_of(race).clear()
    ask(race, 8, 8)
    finish(race)
    lost, again = race.drafts.stored.get_trials()[1:]
    assert log_of(race) == []
    assert again.state.name == "PRUNED"
    assert again.user_attrs["ended"] == "outraced"
    assert again.user_attrs["reason"] == lost.user_attrs["reason"]
    assert "rungs" not in again.user_attrs
    assert race.counts == counted(done=1, outraced=2)
    assert set(race.field.standings[0]) == {0, 1}  # it runs once


def test_a_lost_team_comes_again_when_its_students_are_complete(race: Objective) -> None:
    ask(race, 6, 6)
    finish(race)
    race.field.margin = 0.0
    ask(race, 8, 8)
    finish(race)
    race.end_race()
    ((_, lost),) = race.teams.lost.items()
    assert lost.rung == 0
    for group in ("left", "right"):  # others needed them
        while not race.schooling.has(group, race.schooling.bank.last(lost.candidate[group])):
            race.schooling.request(lost.candidate, race.last_rung)
            race.settle()
    ask(race, 8, 8)
    finish(race)
    assert last(race).state.name == "COMPLETE"


def test_a_team_that_was_played_is_told_even_where_it_had_lost(race: Objective) -> None:
    """The same team may lose in one trial and come through in another that began before."""
    ask(race, 6, 6)
    finish(race)
    (team,) = race.teams.played
    race.teams.lost[team] = Lost(candidate=race.teams.played[team].candidate, reason="slow", rung=1)
    ask(race, 6, 6)
    assert last(race).state.name == "COMPLETE"


def test_students_that_are_complete_begin_at_the_last_rung(race: Objective) -> None:
    ask(race, 6, 6)
    finish(race)
    log_of(race).clear()
    ask(race, 4, 6)  # a new student for `left`
    assert [attempt.rung for attempt in race.active.values()] == [0]
    finish(race)
    ask(race, 4, 4)
    assert [attempt.rung for attempt in race.active.values()] == [1]
    log_of(race).clear()
    finish(race)
    assert log_of(race) == ["play right mlp 4 float, rung 1", "team 4-4 of 64 episodes"]


@pytest.fixture
def staged(write_study: WriteStudy, tmp_path: Path) -> Objective:
    """128 episodes, of which 32 come first: then 64, and 128."""
    episodes = {"search_episodes": 128, "first_episodes": 32}
    path = write_study("plain", **{"distill.rungs": [1.0], "evaluation": episodes})
    objective = pretend(open_study(read_study(path, budget=["flops<=96"])), tmp_path / "staged")
    assert objective.stages == [32, 64, 128]
    return objective


def teams(objective: Objective) -> list[str]:
    return [name for name in log_of(objective) if name.startswith("team")]


def test_who_has_nobody_to_compare_with_plays_all_episodes(staged: Objective) -> None:
    ask(staged, 6, 6)
    finish(staged)
    assert teams(staged) == ["team 6-6 of 32 episodes", "team 6-6 of 32 episodes", "team 6-6 of 64 episodes"]
    assert last(staged).user_attrs["score"]["retention"]["episodes"] == 128
    assert len(staged.kept.load(team_name(0))) == 128


def test_a_dominated_team_stops_after_its_first_episodes(staged: Objective) -> None:
    ask(staged, 6, 6)
    finish(staged)
    log_of(staged).clear()
    workers_of(staged).other["team 8-8 of 32 episodes"] = 3.0  # 4 in every episode is clearly better, and cheaper
    ask(staged, 8, 8)
    finish(staged)
    assert teams(staged) == ["team 8-8 of 32 episodes"]
    trial = last(staged)
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["ended"] == "outraced"
    assert trial.user_attrs["reason"] == "after 32 episodes, a team that costs no more plays clearly better"
    # (3 - 5/3) / (10/3), of the first episodes alone.
    assert trial.user_attrs["score"]["retention"]["mean"] == pytest.approx(0.4)
    assert trial.user_attrs["score"]["retention"]["episodes"] == 32
    assert staged.counts == counted(done=1, outraced=1)
    log_of(staged).clear()
    ask(staged, 8, 8)
    finish(staged)
    assert log_of(staged) == []
    assert last(staged).user_attrs["reason"] == trial.user_attrs["reason"]


def test_a_clearly_better_team_needs_no_more_episodes(staged: Objective) -> None:
    ask(staged, 6, 6)
    finish(staged)
    log_of(staged).clear()
    alone = np.repeat([4.5, 4.0], [32, 96])
    workers_of(staged).other |= {f"play {group} mlp 8 float, rung 0": alone for group in ("left", "right")}
    workers_of(staged).other["team 8-8 of 32 episodes"] = 4.5
    ask(staged, 8, 8)
    finish(staged)
    assert teams(staged) == ["team 8-8 of 32 episodes"]
    trial = last(staged)
    assert trial.values[0] == pytest.approx(0.85)
    assert trial.user_attrs["score"]["retention"]["episodes"] == 32
    # Alone each loses .5 of 10/3 in these episodes; in all of them 1/4 x .5 + 3/4 x 1, by which it was judged before.
    assert trial.user_attrs["predicted"] == pytest.approx(0.7)
    assert trial.user_attrs["rungs"] == {0: pytest.approx(1 - 2 * 0.875 / (10 / 3))}


def test_an_open_comparison_goes_on(staged: Objective) -> None:
    ask(staged, 6, 6)
    finish(staged)
    log_of(staged).clear()
    ask(staged, 8, 8)  # returns 4 as the other one does
    finish(staged)
    assert teams(staged) == ["team 8-8 of 32 episodes", "team 8-8 of 32 episodes", "team 8-8 of 64 episodes"]
    assert last(staged).state.name == "COMPLETE"


def test_where_the_teacher_is_no_better_at_first_nobody_stops_there(write_study: WriteStudy, tmp_path: Path) -> None:
    """Rewards may be rare: a retention of the first 32 episodes would mean nothing."""
    episodes = {"search_episodes": 128, "first_episodes": 32}
    setup = open_study(read_study(write_study("rare", **{"distill.rungs": [1.0], "evaluation": episodes})))
    objective = pretend(setup, tmp_path / "rare")
    losses = objective.schooling.losses
    losses.teacher[:32], losses.random[:32] = 0.0, 0.0
    assert replace(objective).stages == [64, 128]
