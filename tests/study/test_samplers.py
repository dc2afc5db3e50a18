"""Each of the samplers that a study may name, on a space with a choice that others hang on."""

from typing import Any, get_args

import optuna
import pytest

from kdnas.config.study import SearchTable
from kdnas.study.samplers import choose_sampler, freeze, make_sampler

NAMES = [name for name in get_args(SearchTable.model_fields["sampler"].annotation) if name != "auto"]


def draw(trial: Any) -> tuple[float, ...]:
    """A number that is there always, and one of each of two kinds."""
    kind = trial.suggest_categorical("kind", [0, 1])
    return trial.suggest_float("x", 0, 1), trial.suggest_float(f"y{kind}", 0, 1)


def drawn(sampler: "optuna.samplers.BaseSampler", count: int = 15) -> list[dict[str, Any]]:
    """The parameters of so many trials, told that small numbers are good."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)
    for _ in range(count):
        trial = study.ask()
        x, y = draw(trial)
        trial.set_constraint("limit", x - 0.8)
        study.tell(trial, [1 - x, x, y])
    return [trial.params for trial in study.get_trials()]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("multivariate-tpe", optuna.samplers.TPESampler),
        ("tpe", optuna.samplers.TPESampler),
        ("nsga2", optuna.samplers.NSGAIISampler),
        ("random", optuna.samplers.RandomSampler),
    ],
)
def test_each_name_is_a_sampler(name: str, kind: type[Any]) -> None:
    assert type(make_sampler(name, 0)) is kind
    assert name in NAMES


def test_there_are_no_other_names() -> None:
    assert len(NAMES) == 4


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str, recwarn: pytest.WarningsRecorder) -> None:
    first = drawn(make_sampler(name, 3))
    assert drawn(make_sampler(name, 3)) == first
    assert drawn(make_sampler(name, 4)) != first
    assert [str(warning.message) for warning in recwarn if "xperimental" in str(warning.message)] == []


def test_those_that_learn_ask_for_other_things_than_chance() -> None:
    asked = {name: drawn(make_sampler(name, 0), 30)[20:] for name in ("multivariate-tpe", "tpe", "random")}
    means = {name: sum(params["x"] for params in own) / len(own) for name, own in asked.items()}
    assert max(means["multivariate-tpe"], means["tpe"]) < means["random"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_frozen_stays_and_the_rest_is_chosen(name: str, recwarn: pytest.WarningsRecorder) -> None:
    """Also after ten trials, from which TPE begins to learn."""
    asked = drawn(freeze(make_sampler(name, 3), {"kind": 1, "y1": 0.25}))
    assert {(params["kind"], params["y1"]) for params in asked} == {(1, 0.25)}
    assert len({params["x"] for params in asked}) == len(asked)
    assert [str(warning.message) for warning in recwarn if "xperimental" in str(warning.message)] == []


def test_which_one_a_study_means() -> None:
    assert [choose_sampler("auto", parameters) for parameters in (1, 40, 41)] == ["multivariate-tpe"] * 2 + ["nsga2"]
    assert [choose_sampler(name, 100) for name in NAMES] == NAMES
