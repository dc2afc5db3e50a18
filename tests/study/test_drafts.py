from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from kdnas.study.drafts import Drafts
from kdnas.study.room import Room
from kdnas.study.samplers import POPULATION
from kdnas.study.storage import open_storage


@pytest.fixture
def drafts(tmp_path: Path) -> Drafts:
    return again(tmp_path, "multivariate-tpe")


def again(folder: Path, sampler: str) -> Drafts:
    """Those of a run that is begun, or goes on."""
    url = f"sqlite:///{folder / 'study.db'}"
    found = Drafts(stored=open_storage(url, "kdnas-test", sampler, 0, Room(folder, print)))
    found.recall()
    return found


def sample(draft: "optuna.Trial") -> dict[str, Any]:
    return {name: draft.suggest_categorical(name, [1, 2, 3]) for name in ("x", "y")}


def test_a_draft_is_not_stored_and_a_trial_is_stored_whole(drafts: Drafts) -> None:
    drafts.enqueue({"x": 3, "y": 1}, {"proposed": True})
    draft = drafts.ask()
    assert sample(draft) == {"x": 3, "y": 1}
    assert drafts.stored.get_trials() == []
    trial = drafts.store(draft, {"flops<=96": -0.25}, {"cost": [1, 2]})
    (stored,) = drafts.stored.get_trials()
    assert (trial.number, stored.state) == (0, TrialState.RUNNING)
    assert stored.params == {"x": 3, "y": 1}
    assert stored.distributions["x"] == optuna.distributions.CategoricalDistribution([1, 2, 3])
    assert stored.user_attrs == {"proposed": True, "cost": [1, 2]}
    assert stored.constraints == {"flops<=96": -0.25}
    assert stored.datetime_start is not None
    assert list(stored.system_attrs) == ["constraints:flops<=96"]


def test_a_draft_may_be_stored_as_ended(drafts: Drafts) -> None:
    draft = drafts.ask()
    parameters = sample(draft)
    drafts.store(draft, {"flops<=96": 0.5}, {"reason": "too large"}, TrialState.PRUNED)
    for study in (drafts.stored, drafts.study):
        (trial,) = study.get_trials()
        assert (trial.state, trial.params) == (TrialState.PRUNED, parameters)
        assert trial.constraints == {"flops<=96": 0.5}
        assert trial.datetime_complete is not None
    assert drafts.stored.get_trials()[0].user_attrs == {"reason": "too large"}


def test_both_studies_are_told(drafts: Drafts) -> None:
    for values, state in (([0.9, 10.0, 20.0], None), (None, TrialState.PRUNED), (None, TrialState.FAIL)):
        draft = drafts.ask()
        sample(draft)
        trial = drafts.store(draft, {}, {})
        trial.set_user_attr("reason", "x")
        drafts.tell(draft, trial, values, state)
    for study in (drafts.stored, drafts.study):
        ended = study.get_trials()
        assert [trial.state.name for trial in ended] == ["COMPLETE", "PRUNED", "FAIL"]
        assert ended[0].values == [0.9, 10.0, 20.0]
        assert all(trial.datetime_complete for trial in ended)
    assert drafts.stored.get_trials()[0].user_attrs == {"reason": "x"}


def test_those_that_wait_come_in_order_and_none_twice(drafts: Drafts) -> None:
    assert not drafts.some_wait
    drafts.enqueue({"x": 1, "y": 1})
    assert drafts.enqueue_new([{"x": 2, "y": 1}, {"x": 1, "y": 1}, {"x": 2, "y": 1}]) == 1
    asked = []
    while drafts.some_wait:
        asked.append(sample(drafts.ask())["x"])
    assert asked == [1, 2]
    drafts.enqueue({"x": 1, "y": 1})
    assert drafts.some_wait  # who insists is asked again


def test_those_that_were_enqueued_have_children_too(tmp_path: Path) -> None:
    drafts = again(tmp_path, "nsga2")
    for _ in range(POPULATION):
        drafts.enqueue({"x": 3, "y": 1})
        draft = drafts.ask()
        sample(draft)
        drafts.tell(draft, drafts.store(draft, {}, {}), [1.0, 1.0, 1.0])
    children = [sample(drafts.ask()) for _ in range(20)]
    # Of two equal parents a child differs where it mutates: each of two parameters with probability one half, and then
    # into the same value in one case of three. So 4 in 9 are as their parents; by chance it would be 1 in 9.
    assert sum(child == {"x": 3, "y": 1} for child in children) > 20 / 9 + 2
    assert {trial.system_attrs["NSGAIISampler:generation"] for trial in drafts.study.get_trials()[POPULATION:]} == {1}


def test_those_of_another_sampler_have_children_too(tmp_path: Path) -> None:
    """A run may go on with another sampler than it began with."""
    first = again(tmp_path, "tpe")
    for _ in range(2 * POPULATION):
        draft = first.ask()
        sample(draft)
        first.tell(draft, first.store(draft, {}, {}), [1.0, 1.0, 1.0])
    later = again(tmp_path, "nsga2")
    sample(later.ask())
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in later.study.get_trials()]
    assert generations == [0] * POPULATION + [1] * POPULATION + [2]
    # What is stored is not touched.
    assert all("NSGAIISampler:generation" not in trial.system_attrs for trial in later.stored.get_trials())


@pytest.mark.parametrize("sampler", ["multivariate-tpe", "tpe", "nsga2", "random"])
def test_the_sampler_learns_and_knows_what_was_stored_before(tmp_path: Path, sampler: str) -> None:
    first = again(tmp_path, sampler)
    for number in range(12):
        draft = first.ask()
        parameters = sample(draft)
        trial = first.store(draft, {"odd": float(number % 2)}, {})
        first.tell(draft, trial, [float(parameters["x"]), 1.0, 1.0])
    left = first.ask()
    sample(left)
    first.store(left, {}, {})  # and then it was killed
    later = again(tmp_path, sampler)
    known, before = later.study.get_trials(), first.study.get_trials()[:12]
    assert [(trial.params, trial.values, trial.system_attrs) for trial in known] == [
        (trial.params, trial.values, trial.system_attrs) for trial in before
    ]
    assert later.enqueue_new([before[3].params]) == 0
    sample(later.ask())
