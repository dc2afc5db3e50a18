"""Which parameters of the space decide the retention, as far as a search's trials can tell."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdnas.budgets.budget import parse_budget
from kdnas.spaces.space import SearchSpace, make_space
from kdnas.study.front import read_front
from kdnas.study.run_folder import reopen_study, trials_of
from kdnas.study.storage import meets

if TYPE_CHECKING:
    import optuna

ENOUGH = 20
"""Candidates below which nothing is said."""

TOP_SHARE, TOP_COUNT = 0.1, 5
"""The best candidates are a tenth, and five at least, as Optuna asks for."""

SHUFFLES = 199
"""So that chances are two hundredths of something: the trials as they are count as one case more."""

_ROUNDING = 1e-9
"""Importances closer than this share are equal."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One value of a parameter, and the candidates that had it."""

    label: str
    candidates: int
    retention: float
    """Their mean."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a group, and how much it decides."""

    label: str
    share: float
    """Of the importance of all parameters of the team."""
    chance: float
    """How often a shuffle of the retentions among the candidates makes it as important: small is telling."""
    choices: tuple[Choice, ...]
    """Those that were played."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What decides the retention, group by group."""

    candidates: int
    """Different ones that were played."""
    groups: Mapping[str, tuple[Parameter, ...]]
    """Group -> its parameters, the most important first. Empty with fewer than `ENOUGH` candidates."""


def read_importance(run: Path) -> Importance:
    """What decided the retention in a run that has ended.

    Raises:
        KdnasError: the folder is no run that has ended, or its storage cannot be read.
    """
    file = reopen_study(run)
    space = make_space(file.space, list(read_front(run / "front.json")[0].candidate))
    limits = [item.text for item in parse_budget(file.config.budget).constraints]
    return weigh_parameters(trials_of(run), space, limits)


def weigh_parameters(
    trials: Sequence[Any], space: SearchSpace, limits: Collection[str], *, shuffles: int = SHUFFLES
) -> Importance:
    """Weigh the parameters of a space by Optuna trials that were played and met all limits.

    PED-ANOVA (Watanabe et al., arXiv 2304.10255): a parameter is important when its values are distributed otherwise
    among the best candidates than among all. One that only some candidates have, as a base's pruning ratios, is weighed
    within those that have it (Conditional PED-ANOVA, arXiv 2601.20800). The shares add up to 1 whatever the trials are,
    so each stands beside how often it comes about by chance: a permutation test (Phipson and Smyth, 2010).

    A candidate that was asked for twice counts once, and a parameter that was always the same not at all.
    """
    feasible = [trial for trial in trials if trial.state.name == "COMPLETE" and meets(trial, limits)]
    distinct = list({tuple(sorted(trial.params.items())): trial for trial in reversed(feasible)}.values())
    if len(distinct) < ENOUGH:
        return Importance(candidates=len(distinct), groups={})
    retention = np.array([trial.values[0] for trial in distinct])
    study = _study_of(distinct)
    own = _divergences(study, retention)
    generator = np.random.default_rng(0)
    by_chance = [_divergences(study, generator.permutation(retention)) for _ in range(shuffles)]
    total = sum(own.values())
    groups: dict[str, list[Parameter]] = {group: [] for group in space.groups}
    for name in sorted(own, key=lambda name: (-own[name], name)):
        group = max((group for group in groups if name.startswith(f"{group}.")), key=len)
        table, parameter = space.groups[group], name.removeprefix(f"{group}.")
        reached = sum(other[name] >= own[name] * (1 - _ROUNDING) for other in by_chance)
        choices = [
            Choice(label=table.describe_choice(parameter, value), candidates=len(those), retention=float(those.mean()))
            for value, those in _by_choice(distinct, retention, name)
        ]
        groups[group].append(
            Parameter(
                label=table.describe(parameter),
                share=own[name] / total if total else 0.0,
                chance=(reached + 1) / (shuffles + 1),
                choices=tuple(choices),
            )
        )
    return Importance(candidates=len(distinct), groups={group: tuple(found) for group, found in groups.items()})


def _study_of(trials: Sequence[Any]) -> "optuna.Study":
    """The trials by the parameters of which they have several values, in a study of their own that is maximised."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    values: dict[str, set[Any]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(value)
    for trial in trials:
        params = {name: value for name, value in trial.params.items() if len(values[name]) > 1}
        given = {name: trial.distributions[name] for name in params}
        study.add_trial(optuna.trial.create_trial(value=trial.values[0], params=params, distributions=given))
    return study


def _divergences(study: "optuna.Study", retention: NDArray[np.float64]) -> dict[str, float]:
    """Parameter -> its importance for a high retention (N,), not scaled."""
    import optuna

    top = max(TOP_SHARE, TOP_COUNT / len(retention))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=top)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a target is minimised, and that few candidates have some parameters
        return optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: -retention[trial.number], normalize=False
        )


def _by_choice(
    trials: Sequence[Any], retention: NDArray[np.float64], name: str
) -> list[tuple[Any, NDArray[np.float64]]]:
    """Values of a parameter in the order of its choices, and the retentions of the candidates that had them."""
    given = next(trial.distributions[name] for trial in trials if name in trial.distributions)
    had = np.array([given.to_internal_repr(trial.params[name]) if name in trial.params else -1 for trial in trials])
    return [(value, retention[had == place]) for place, value in enumerate(given.choices) if (had == place).any()]
