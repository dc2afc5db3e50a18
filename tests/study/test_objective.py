"""The coordinator with workers that are none: each task ends as it is told, when it is told."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from kdnas.errors import BundleError, EnvError, RunError, StudentError
from kdnas.spaces import StudentSpec
from kdnas.students import Student, load_family
from kdnas.study.crew import WorkerLostError
from kdnas.study.device_profile import fresh_profile
from kdnas.study.objective import Objective
from kdnas.study.search import make_gate
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import make_bank, play_team, train_student

from .conftest import WriteStudy

Outcome = Callable[[], Any]


class Pretended:
    """Takes tasks, and ends the oldest one a wait."""

    count = 2

    def __init__(self) -> None:
        self.tasks: list[tuple[Any, tuple[Any, ...], Future[Any]]] = []
        self.log: list[str] = []
        self.outcomes: dict[str, BaseException] = {}
        self.objective: Objective | None = None
        self.returns = 4.0

    def submit(self, task: Any, *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        self.tasks.append((task, arguments, future))
        return future

    def wait(self, futures: Sequence["Future[Any]"]) -> list["Future[Any]"]:
        for entry in self.tasks:
            task, arguments, future = entry
            if future in futures and not future.cancelled():
                self.tasks.remove(entry)
                self._end(task, arguments, future)
                return [future]
        return []

    def _end(self, task: Any, arguments: Any, future: "Future[Any]") -> None:
        spec = arguments[1] if task is train_student else None
        name = f"train {arguments[0]} {spec}" if spec else "play"
        self.log.append(name)
        if name in self.outcomes:
            future.set_exception(self.outcomes[name])
        elif task is play_team:
            future.set_result(np.full(4, self.returns))
        else:
            assert self.objective is not None
            assert isinstance(spec, StudentSpec)
            pool = self.objective.setup.pools[arguments[0]]
            network = load_family("mlp").build(spec, pool.spaces, torch.Generator().manual_seed(0))
            self.objective.bank.store(pool, Student(spec, pool.spaces, network))
            future.set_result(None)


@pytest.fixture
def setup(write_study: WriteStudy) -> Setup:
    return open_study(read_study(write_study("plain"), budget=["flops<=96"]))


@pytest.fixture
def objective(setup: Setup, tmp_path: Path) -> Objective:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    workers = Pretended()
    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )
    workers.objective = Objective(
        setup=setup,
        study=study,
        gate=make_gate(setup, setup.make_target(), fresh_profile(setup.make_target())),
        bank=make_bank(setup, tmp_path),
        workers=workers,  # type: ignore[arg-type]
        search_seeds=[1, 2, 3, 4],
        teacher_returns=np.full(4, 5.0),
        random_returns=np.full(4, 5 / 3),
    )
    return workers.objective


def ask(objective: Objective, left: float, right: float) -> None:
    ratios = {"left.0.prune.0": left, "right.0.prune.0": right}
    fixed = {"left.base": 0, "right.base": 0, "left.bits": "float", "right.bits": "float"}
    objective.study.enqueue_trial(ratios | fixed)
    objective.ask()


def finish(objective: Objective) -> None:
    for _ in range(50):
        objective.advance()
        if not objective.busy:
            return
        objective.settle()
    raise AssertionError("it does not end")


def last(objective: Objective) -> Any:
    return objective.study.get_trials()[-1]


def test_a_refused_candidate_is_told_with_its_constraints_and_trains_nothing(objective: Objective) -> None:
    ask(objective, 0.25, 0.75)  # 12 units: 144 FLOPs
    trial = last(objective)
    assert trial.state.name == "PRUNED"
    assert trial.constraints == {"flops<=96": pytest.approx(0.5)}
    assert trial.user_attrs["reason"] == "breaks flops<=96 by 50 %"
    assert trial.user_attrs["cost"]["flops"] == 144 + 48
    finish(objective)
    assert objective.workers.log == []
    assert objective.counts == {"done": 0, "rejected": 1, "failed": 0}


def test_ancestor_then_child_then_play(objective: Objective) -> None:
    ask(objective, 0.5, 0.75)
    finish(objective)
    assert objective.workers.log == [
        "train left mlp 16 float",  # for both: groups of one pool train under the name of the first
        "train left mlp 8 float",
        "train left mlp 4 float",
        "play",
    ]
    trial = last(objective)
    assert trial.state.name == "COMPLETE"
    # (4 - 5/3) / (5 - 5/3); 48 + 24 MACs.
    assert trial.values[:2] == pytest.approx([0.7, 144])
    assert trial.constraints == {"flops<=96": 0.0}
    assert objective.counts == {"done": 1, "rejected": 0, "failed": 0}


def test_what_is_banked_or_played_is_not_made_again(objective: Objective) -> None:
    ask(objective, 0.5, 0.5)
    finish(objective)
    objective.workers.log.clear()
    ask(objective, 0.75, 0.5)
    finish(objective)
    assert objective.workers.log == ["train left mlp 4 float", "play"]
    objective.workers.log.clear()
    ask(objective, 0.5, 0.5)
    finish(objective)
    assert objective.workers.log == []
    trials = objective.study.get_trials()
    assert trials[2].values == trials[0].values
    assert objective.counts["done"] == 3


def test_a_student_is_trained_once_for_two_teams_that_wait_for_it(objective: Objective) -> None:
    ask(objective, 0.5, 0.5)
    ask(objective, 0.5, 0.75)
    finish(objective)
    assert sorted(objective.workers.log) == [
        "play", "play", "train left mlp 16 float", "train left mlp 4 float", "train left mlp 8 float"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StudentError("student mlp 8 float: the loss became nan"), "student mlp 8 float: the loss became nan"),
        (
            WorkerLostError("the worker process died (signal SIGSEGV); out of memory? (tried 3 times)"),
            "training mlp 8 float: the worker process died (signal SIGSEGV); out of memory? (tried 3 times)",
        ),
        (ValueError("odd"), "training mlp 8 float: ValueError: odd"),
    ],
)
def test_a_student_that_fails_fails_every_team_that_needs_it(
    objective: Objective, error: BaseException, reason: str
) -> None:
    objective.workers.outcomes["train left mlp 8 float"] = error
    ask(objective, 0.5, 0.75)
    ask(objective, 0.75, 0.75)
    finish(objective)
    ask(objective, 0.75, 0.5)
    finish(objective)
    first, second, third = objective.study.get_trials()
    assert [trial.state.name for trial in (first, second, third)] == ["FAIL", "COMPLETE", "FAIL"]
    assert first.user_attrs["reason"] == third.user_attrs["reason"] == reason
    assert objective.workers.log.count("train left mlp 8 float") == 1
    assert objective.counts == {"done": 1, "rejected": 0, "failed": 2}


def test_a_team_that_cannot_be_played_fails_alone(objective: Objective) -> None:
    objective.workers.outcomes["play"] = WorkerLostError("the worker process died (exit code 1)")
    ask(objective, 0.5, 0.5)
    finish(objective)
    assert last(objective).state.name == "FAIL"
    assert last(objective).user_attrs["reason"] == "the worker process died (exit code 1)"
    del objective.workers.outcomes["play"]
    ask(objective, 0.5, 0.5)
    finish(objective)
    assert last(objective).state.name == "COMPLETE"


@pytest.mark.parametrize(
    ("task", "error", "kind"),
    [
        ("train left mlp 8 float", BundleError("bank: damaged"), BundleError),
        ("train left mlp 16 float", StudentError("student mlp 16 float: the loss became nan"), StudentError),
        ("train left mlp 16 float", RunError("bank: cannot be written"), RunError),
        ("train left mlp 8 float", BrokenProcessPool("All workers expired"), RunError),
        ("play", EnvError("environment broke"), EnvError),
        ("play", BrokenProcessPool("All workers expired"), RunError),
    ],
)
def test_what_no_candidate_can_escape_ends_the_search(
    objective: Objective, task: str, error: BaseException, kind: type[Exception]
) -> None:
    objective.workers.outcomes[task] = error
    ask(objective, 0.5, 0.5)
    with pytest.raises(kind, match=r"bank|student|environment|worker processes"):
        finish(objective)
    assert last(objective).state.name == "RUNNING"  # asked again when the search goes on


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("returns", [float("nan"), float("inf")])
def test_objectives_must_be_finite(objective: Objective, returns: float) -> None:
    objective.workers.returns = returns
    ask(objective, 0.5, 0.5)
    finish(objective)
    assert last(objective).state.name == "FAIL"
    assert last(objective).user_attrs["reason"].startswith("its objectives are (")


def test_stopping_takes_back_what_has_not_begun(objective: Objective) -> None:
    ask(objective, 0.5, 0.5)
    objective.advance()
    (running,) = [future for _, _, future in objective.workers.tasks]
    running.set_running_or_notify_cancel()
    ask(objective, 0.75, 0.75)
    objective.withdraw()
    assert not running.cancelled()
    assert objective.busy
    objective.settle()
    assert not objective.busy
    objective.abandon()
    assert [trial.state.name for trial in objective.study.get_trials()] == ["FAIL", "FAIL"]
    assert all(trial.user_attrs["interrupted"] for trial in objective.study.get_trials())
    assert objective.counts == {"done": 0, "rejected": 0, "failed": 0}
    assert objective.workers.log == ["train left mlp 16 float"]


def test_progress(objective: Objective) -> None:
    assert np.isnan(objective.progress(9).best_retention)
    ask(objective, 0.25, 0.25)
    ask(objective, 0.5, 0.5)
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
