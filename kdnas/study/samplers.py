"""Which of Optuna's samplers asks for new candidates."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

POPULATION = 20
"""Completed trials of a generation of NSGA-II. With Optuna's 50, a search of 100 trials, of which half are refused or
lose a race, is random to its end."""


MANY_PARAMETERS = 40
"""Of a candidate. Beyond, a TPE takes longer to ask than it takes to propose and store, and finds no more: with 64
parameters NSGA-II comes to the same hypervolume within 500 trials (`benchmarks/samplers.py`)."""


def choose_sampler(name: str, parameters: int) -> str:
    """The sampler that a study means, of candidates with at most so many parameters: `auto` is one of the others."""
    if name != "auto":
        return name
    return "nsga2" if parameters > MANY_PARAMETERS else "multivariate-tpe"


def make_sampler(name: str, seed: int) -> "optuna.samplers.BaseSampler":
    """A sampler by its name (`SearchTable.sampler`, but for `auto`)."""
    from optuna import exceptions, samplers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ExperimentalWarning)
        if name == "tpe":
            return samplers.TPESampler(seed=seed, constant_liar=True)
        if name == "multivariate-tpe":
            return samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True, group=True)
        if name == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        return samplers.RandomSampler(seed=seed)


def freeze(sampler: "optuna.samplers.BaseSampler", fixed: Mapping[str, Any]) -> "optuna.samplers.BaseSampler":
    """A sampler that chooses all parameters but those that are fixed."""
    from optuna import exceptions, samplers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ExperimentalWarning)
        return samplers.PartialFixedSampler(dict(fixed), sampler)
