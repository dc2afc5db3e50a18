"""The coordinator with workers that are none: each task ends as it is told, when it is told."""

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pebble import ProcessExpired

from kdnas.errors import BundleError, EnvError, RunError, StudentError
from kdnas.spaces import StudentSpec
from kdnas.study.objective import Objective, team_name
from kdnas.study.setup import Setup, open_study, read_study

from .conftest import WriteStudy
from .pretended import Pretended, ask, finish, last, log_of, pretend


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
    assert objective.lost == {}


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
    trials = objective.study.get_trials()
    assert trials[2].values == trials[0].values
    assert trials[2].user_attrs["predicted"] == trials[0].user_attrs["predicted"]
    assert objective.counts["done"] == 3
    assert len(objective.points) == 2  # a team that was told twice is one point


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
            ProcessExpired("Abnormal termination", code=-11, pid=1),
            "training mlp 8 float, rung 0: the worker process died (signal SIGSEGV); out of memory?",
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
    first, second, third = objective.study.get_trials()
    assert [trial.state.name for trial in (first, second, third)] == ["FAIL", "COMPLETE", "FAIL"]
    assert first.user_attrs["reason"] == third.user_attrs["reason"] == reason
    assert log_of(objective).count("train left mlp 8 float, rung 0") == 1
    assert objective.counts == counted(done=1, failed=2)


def test_a_student_that_cannot_be_played_fails_its_teams_in_that_group_alone(objective: Objective) -> None:
    workers_of(objective).outcomes["play left mlp 8 float, rung 0"] = ValueError("odd")
    ask(objective, 8, 4)
    finish(objective)
    ask(objective, 4, 8)
    finish(objective)
    first, second = objective.study.get_trials()
    assert [first.state.name, second.state.name] == ["FAIL", "COMPLETE"]
    assert first.user_attrs["reason"] == "playing mlp 8 float, rung 0 among teachers: ValueError: odd"


def test_a_team_that_cannot_be_played_fails_alone(objective: Objective) -> None:
    name = "team 8-8 of 64 episodes"
    workers_of(objective).outcomes[name] = ProcessExpired("Abnormal termination", code=1, pid=1)
    ask(objective, 8, 8)
    finish(objective)
    assert last(objective).state.name == "FAIL"
    assert last(objective).user_attrs["reason"] == "the worker process died (exit code 1); out of memory?"
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
    assert [trial.state.name for trial in objective.study.get_trials()] == ["FAIL", "FAIL"]
    assert all(trial.user_attrs["interrupted"] for trial in objective.study.get_trials())
    assert objective.counts == counted()
    assert log_of(objective) == ["train left mlp 16 float"]


def test_a_team_that_was_asked_twice_is_played_once_and_told_twice(objective: Objective) -> None:
    ask(objective, 8, 8)
    ask(objective, 8, 8)
    finish(objective)
    assert [name for name in log_of(objective) if name.startswith("team")] == ["team 8-8 of 64 episodes"]
    first, second = objective.study.get_trials()
    assert first.values == second.values
    assert objective.counts == counted(done=2)


def test_one_task_is_taken_in_at_a_time(objective: Objective) -> None:
    """All have ended before anybody looks; they are taken in as they were submitted."""
    ask(objective, 8, 4)
    for _ in range(2):  # the ancestor, and the first student
        objective.advance()
        objective.settle()
    workers = workers_of(objective)
    objective.advance()
    taken: list[str] = []

    def end_all(futures: Any) -> list["Future[Any]"]:
        ended = [entry for entry in workers.tasks if entry[3] in futures]
        for name, task, arguments, future in ended:
            if not future.done():
                workers.end(name, task, arguments, future)
        taken.append(ended[0][0])
        workers.tasks.remove(ended[0])
        return [entry[3] for entry in ended]

    workers.wait = end_all  # type: ignore[method-assign]
    # The play of one student and the training of the other were submitted in this order.
    assert len(objective.schooling.futures()) == 2
    objective.settle()
    assert len(objective.schooling.futures()) == 1
    finish(objective)
    assert last(objective).state.name == "COMPLETE"
    assert len(taken) == len(set(taken))


def test_progress(objective: Objective) -> None:
    assert np.isnan(objective.progress(9).best_retention)
    ask(objective, 12, 12)
    ask(objective, 8, 8)
    progress = objective.progress(9)
    assert (progress.total, progress.done, progress.rejected, progress.running, progress.ended) == (9, 0, 1, 1, 1)
    finish(objective)
    progress = objective.progress(9)
    assert (progress.done, progress.running, progress.students) == (1, 0, 2)
    assert progress.best_retention == pytest.approx(0.7)
    # 0.7 x a decade less log10(8 / 10) of FLOPs x the decades of memory.
    cost = objective.gate.judge({g: StudentSpec(family="mlp", base=(16,), hidden=(8,)) for g in ("left", "right")}).cost
    teacher = objective.gate.pricer.teacher_cost().team
    decades = np.log10(teacher.memory_bytes / cost.team.memory_bytes)
    assert progress.hypervolume == pytest.approx(0.7 * np.log10(8) * decades)
