from dataclasses import replace
from typing import Any

import optuna
import pytest

from kdnas.spaces import StudentSpec
from kdnas.study.device_profile import fresh_profile
from kdnas.study.preflight import check_budget
from kdnas.study.search import make_gate
from kdnas.study.setup import Setup
from kdnas.study.take_up import candidate_of, enqueue_anchors, take_up

INTERVAL = {"mean": 0.9, "low": 0.8, "high": 1.0, "episodes": 4}


class Counts:
    """What `take_up` asks of an objective."""

    def __init__(self) -> None:
        self.counts = {"done": 0, "rejected": 0, "failed": 0}
        self.remembered: list[Any] = []

    def remember(self, candidate: Any, score: Any, objectives: Any) -> None:
        self.remembered.append((candidate, score.retention.mean, objectives))
        self.counts["done"] += 1


@pytest.fixture
def study() -> "optuna.Study":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["maximize", "minimize", "minimize"])


def ask(study: "optuna.Study", setup: Setup) -> Any:
    trial = study.ask()
    setup.space.sample(trial)
    return trial


def test_what_was_told_is_counted(study: "optuna.Study", setup: Setup) -> None:
    done, rejected, failed = (ask(study, setup) for _ in range(3))
    done.set_user_attr("score", {"retention": INTERVAL, "return": INTERVAL})
    study.tell(done, [0.9, 96.0, 300.0])
    study.tell(rejected, state=optuna.trial.TrialState.PRUNED)
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    objective = Counts()
    take_up(study, setup, objective)  # type: ignore[arg-type]
    assert objective.counts == {"done": 1, "rejected": 1, "failed": 1}
    candidate = candidate_of(setup, study.get_trials()[0])
    assert objective.remembered == [(candidate, 0.9, (0.9, 96.0, 300.0))]
    assert isinstance(candidate["left"], StudentSpec)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "PRUNED", "FAIL"]


def test_what_was_cut_off_is_asked_again_once(study: "optuna.Study", setup: Setup) -> None:
    cut = ask(study, setup)
    study.ask()  # cut before it was sampled: nothing to repeat
    objective = Counts()
    take_up(study, setup, objective)  # type: ignore[arg-type]
    first, second, again = study.get_trials()
    assert [trial.state.name for trial in (first, second, again)] == ["FAIL", "FAIL", "WAITING"]
    assert objective.counts == {"done": 0, "rejected": 0, "failed": 0}
    assert again.user_attrs == {"repeats": 0}
    take_up(study, setup, Counts())  # type: ignore[arg-type]  # begun a third time, before it was asked
    assert len(study.get_trials()) == 3
    trial = ask(study, setup)
    assert trial.params == cut.params
    take_up(study, setup, Counts())  # type: ignore[arg-type]  # and cut off once more
    assert [t.state.name for t in study.get_trials()] == ["FAIL", "FAIL", "FAIL", "WAITING"]
    assert study.get_trials()[3].user_attrs == {"repeats": 2}


def test_what_was_cut_off_before_it_was_sampled_is_asked_again_as_it_was_queued(
    study: "optuna.Study", setup: Setup
) -> None:
    first = {group: next(iter(space.parameters)) for group, space in setup.space.groups.items()}
    parameters = setup.space.parameters(first)
    study.enqueue_trial(parameters)
    study.ask()
    take_up(study, setup, Counts())  # type: ignore[arg-type]
    again = study.ask()
    assert setup.space.sample(again) == first
    assert again.params == parameters


def test_anchors_that_were_cut_off_are_queued_to_the_end(study: "optuna.Study", setup: Setup) -> None:
    target = setup.make_target()
    gate = make_gate(setup, target, fresh_profile(target))
    report = check_budget(setup.space, gate, 0)
    enqueue_anchors(study, setup, gate, report)
    queued = [trial.system_attrs["fixed_params"] for trial in study.get_trials()]
    assert len(queued) > 2
    enqueue_anchors(study, setup, gate, report)
    assert len(study.get_trials()) == len(queued)
    begun = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    begun.enqueue_trial(queued[0])  # and then it was killed
    enqueue_anchors(begun, setup, gate, report)
    assert [trial.system_attrs["fixed_params"] for trial in begun.get_trials()] == queued


def test_gates_of_one_run_agree(setup: Setup) -> None:
    """Latencies are handed on, so that a candidate has one price for as long as a run lives."""
    target = setup.make_target()
    profile = fresh_profile(target)
    first = make_gate(setup, target, profile)
    candidate = {group: next(iter(space.parameters)) for group, space in setup.space.groups.items()}
    cost = first.judge(candidate).cost
    known = replace(profile, measured=first.pricer.measurements())
    assert make_gate(setup, target, known).judge(candidate).cost == cost
