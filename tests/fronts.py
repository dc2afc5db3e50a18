"""Members of fronts, and the trials behind them, of a few numbers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import optuna

from kdnas.budgets import Cost, TeamCost
from kdnas.evaluation import Interval, Score
from kdnas.spaces import StudentSpec
from kdnas.study.front import Member

SPEC = StudentSpec(family="mlp", base=(64,), hidden=(16,))


def cost(macs: int, memory: int, latency_us: float = 10.0) -> Cost:
    return Cost(
        macs=macs,
        bops=macs * 1024,
        params=macs,
        memory_bytes=memory,
        latency_p50_s=latency_us * 5e-7,
        latency_p95_s=latency_us * 1e-6,
        latency_p99_s=latency_us * 2e-6,
        reference_s=latency_us * 4e-6,
    )


def member(
    trial: int, retention: float, *, parts: list[float] | None = None, error: float = 0.0, **costs: Any
) -> Member:
    """Two seats of `pair` and one of `solo`, with equal prices unless told otherwise.

    `error` is the standard error of its retention, `parts` what each episode says of it.
    """
    pair, solo = costs["pair"], costs.get("solo", costs["pair"])
    seats = {"pair": 2, "solo": 1}
    half = 1.959964 * error
    interval = Interval(mean=retention, low=retention - half, high=retention + half, episodes=10)
    return Member(
        trial=trial,
        path=None,
        candidate={"pair": SPEC, "solo": SPEC},
        score=Score(retention=interval, returned=replace(interval, mean=-9.0)),
        cost=TeamCost(agents={"pair": pair, "solo": solo}, seats=seats),
        teacher=TeamCost(agents={"pair": cost(10_000, 40_000), "solo": cost(10_000, 40_000)}, seats=seats),
        parts=None if parts is None else np.array(parts),
    )


def new_study(storage: str | None = None, name: str | None = None) -> "optuna.Study":
    """An empty study with the directions of a search."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize", "minimize"])


def tell(
    study: "optuna.Study",
    violations: Mapping[str, float],
    retention: float = 0.5,
    chosen: Mapping[str, tuple[list[Any], Any]] | None = None,
    **attributes: Any,
) -> None:
    """One more trial, as a search tells it: rejected where a violation is positive. `chosen` is parameter -> (choices,
    value)."""
    study.enqueue_trial({name: value for name, (_, value) in (chosen or {}).items()})
    trial = study.ask()
    for name, (choices, _) in (chosen or {}).items():
        trial.suggest_categorical(name, choices)
    for text, violation in violations.items():
        trial.set_constraint(text, violation)
    for name, attribute in attributes.items():
        trial.set_user_attr(name, attribute)
    if any(violation > 0 for violation in violations.values()):
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, [retention, 1000.0, 1000.0])
