"""From the `[env]` table of a study to the environment it names, and to its batched twin."""

import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from kdnas import plugins
from kdnas.config.observe import ObserveTable
from kdnas.config.study import EnvTable
from kdnas.envs.batched import BatchedEnv
from kdnas.envs.blame import blame
from kdnas.envs.copies import Copies
from kdnas.envs.observe import make_views
from kdnas.envs.processes import Processes
from kdnas.envs.spec import AgentSpec, make_groups
from kdnas.envs.team_env import TeamEnv, TeamStep
from kdnas.errors import EnvError, KdnasError, PluginError
from kdnas.policies.team_policy import RandomPolicy

TWIN_TOLERANCE = 1e-5
"""Largest difference between an environment and its twin: float32 rounding, and nothing a policy could notice."""

WORTHWHILE_STEP_S = 5e-3
"""A batch step shorter than this is not spread over processes: the pipes would eat what is gained."""

MEASURING_S = 0.2
"""Time spent on measuring an environment."""


@dataclass(frozen=True, kw_only=True)
class EnvMaker:
    """Makes one environment each time it is called; it can be sent to another process.

    Example: `EnvMaker(reference="mpe/simple_spread", plugin=True, kwargs={"N": 5})()` is mpe2's parallel environment.

    Raises:
        PluginError: the reference leads to nothing, to nothing that can be called, or needs a package that is missing.
        EnvError: the keyword arguments do not fit, or the environment's own code raises.
    """

    reference: str
    """Name of a plugin, or `module:function`."""
    plugin: bool
    """Which of the two."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    """Searched first for the module."""

    def __call__(self) -> Any:
        where = f"environment {self.reference!r}"
        factory = (
            plugins.load("kdnas.environments", self.reference)
            if self.plugin
            else plugins.load_reference(self.reference, self.folder)
        )
        if not callable(factory):
            raise PluginError(f"{where} is {type(factory).__name__} and not a function that makes an environment")
        _check_kwargs(where, factory, self.kwargs)
        given = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
        with blame(f"{where} cannot be made with env.kwargs ({given})"):
            try:
                return factory(**self.kwargs)
            except ModuleNotFoundError as error:  # built-ins import their package when they are made, not before
                raise plugins.explain_import(where, error) from error


def make_env(
    table: EnvTable, folder: Path | None, *, observe: Mapping[str, ObserveTable] | None = None, processes: int = 1
) -> TeamEnv:
    """The real environment of a study; relative modules are looked up in `folder`.

    An environment that steps in batches is used as it is; a PettingZoo one is copied, in this process or in several.
    `observe` limits what students see, group by group.

    Raises:
        PluginError, EnvError: it cannot be found or made (see `EnvMaker`, `Copies`).
        ConfigError: `env.groups`, `env.squash` or `observe` does not fit its agents.
    """
    maker = _real_maker(table, folder)
    made = maker()
    batched: BatchedEnv
    if _steps_in_batches(made):
        batched = _check_batched(maker.reference, made)
    elif processes > 1:
        made.close()
        batched = Processes(maker.reference, maker, processes=processes)
    else:
        batched = Copies(maker.reference, maker, first=made)
    return _team_env(batched, table, observe)


def make_twin(
    table: EnvTable, folder: Path | None, *, observe: Mapping[str, ObserveTable] | None = None
) -> TeamEnv | None:
    """The batched environment that `table.twin` names, made with the same kwargs, or None where none is named.

    Raises:
        PluginError, EnvError: it cannot be found or made, does not step in batches, or has other agents than the
            real environment. Whether it plays the same episodes is for `check_twin` to say.
        ConfigError: as `make_env`.
    """
    if table.twin is None:
        return None
    where = f"env.twin {table.twin!r}"
    made = EnvMaker(reference=table.twin, plugin=":" not in table.twin, kwargs=table.kwargs, folder=folder)()
    if not _steps_in_batches(made):
        raise EnvError(f"{where} does not step in batches: it needs 'agents' (name -> AgentSpec) and 'state_size'")
    twin = _check_batched(table.twin, made)
    # Compared as they are made, before actions are squashed.
    real = make_env(table.model_copy(update={"squash": False}), folder)
    real.close()
    for ours, theirs in zip_longest(real.spec.agents.items(), twin.agents.items()):
        if ours != theirs:
            raise EnvError(f"{where} has other agents than {real.spec.name!r}: {theirs} in the place of {ours}")
    if real.spec.state_size != twin.state_size:
        raise EnvError(
            f"{where} has a state of {twin.state_size} values, {real.spec.name!r} one of {real.spec.state_size}"
        )
    return _team_env(twin, table, observe)


def check_twin(real: TeamEnv, twin: TeamEnv, *, seed: int, max_steps: int) -> None:
    """Play two episodes in both environments with the same random legal actions.

    Raises:
        EnvError: naming step, group and largest difference, when what they show differs by more than 1e-5.
    """
    seeds = np.random.default_rng(seed).integers(2**31, size=2).tolist()
    policy = RandomPolicy(real.spec.actions, seed)
    here, there = real.reset(seeds), twin.reset(seeds)
    _compare(real.spec.name, 0, here, there)
    for step in range(1, max_steps + 1):
        if here.over:
            return
        actions = policy.act(here)
        here, there = real.step(actions), twin.step(actions)
        _compare(real.spec.name, step, here, there)


def choose_processes(table: EnvTable, folder: Path | None, *, copies: int, cores: int) -> int:
    """How many processes pay for stepping so many copies: 1, or one for each core.

    One copy is stepped for a fifth of a second, while nothing else should run.

    Raises:
        PluginError, EnvError: the environment cannot be made or stepped.
    """
    if cores == 1 or copies == 1:
        return 1
    maker = _real_maker(table, folder)
    made = maker()
    if _steps_in_batches(made):
        made.close()
        return 1
    one = Copies(maker.reference, maker, first=made)
    step_s = _measure_step(one)
    one.close()
    return min(cores, copies) if step_s * copies >= WORTHWHILE_STEP_S else 1


def _real_maker(table: EnvTable, folder: Path | None) -> EnvMaker:
    reference = table.name or table.factory or ""
    return EnvMaker(reference=reference, plugin=table.name is not None, kwargs=table.kwargs, folder=folder)


def _team_env(batched: BatchedEnv, table: EnvTable, observe: Mapping[str, ObserveTable] | None) -> TeamEnv:
    try:
        groups = make_groups(table.groups, batched.agents)
        return TeamEnv(batched, groups, make_views(observe or {}, batched.agents, groups), table.squash)
    except KdnasError:
        batched.close()
        raise


def _steps_in_batches(env: Any) -> bool:
    # PettingZoo's `agents` is a list, and absent before the first reset.
    agents = getattr(env, "agents", None)
    return (
        isinstance(agents, Mapping)
        and all(isinstance(spec, AgentSpec) for spec in agents.values())
        and hasattr(env, "state_size")
    )


def _check_batched(reference: str, env: Any) -> BatchedEnv:
    lacking = [name for name in ("name", "reset", "step", "close") if not hasattr(env, name)]
    if lacking:
        raise EnvError(f"environment {reference!r} steps in batches but has no {', '.join(lacking)}; see BatchedEnv")
    batched: BatchedEnv = env
    return batched


def _check_kwargs(where: str, factory: Any, kwargs: Mapping[str, Any]) -> None:
    """Say what a function takes before Python says only that it takes something else."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # written in C: calling it will tell
        return
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        taken = ", ".join(signature.parameters) or "nothing"
        raise EnvError(f"{where} cannot be made with env.kwargs: {error}; it takes: {taken}") from error


def _compare(name: str, step: int, here: TeamStep, there: TeamStep) -> None:
    for group in here.observations:
        mask, twin_mask = here.masks[group], there.masks[group]
        if mask is not None and twin_mask is not None:
            _same(name, step, f"action masks of group {group!r}", mask, twin_mask)
        _same(name, step, f"alive of group {group!r}", here.alive[group], there.alive[group])
        _same(name, step, f"observations of group {group!r}", here.observations[group], there.observations[group])
        _same(name, step, f"rewards of group {group!r}", here.rewards[group], there.rewards[group])
    _same(name, step, "state", here.state, there.state)


def _same(name: str, step: int, what: str, here: np.ndarray[Any, Any], there: np.ndarray[Any, Any]) -> None:
    where = f"environment {name!r} and its twin differ at step {step}: {what}"
    if here.shape != there.shape:
        raise EnvError(f"{where} of shapes {here.shape} and {there.shape}; correct the twin or remove env.twin")
    real, twin = here.astype(np.float64), there.astype(np.float64)
    equal = (real == twin) | (np.isnan(real) & np.isnan(twin))
    largest = float(np.nan_to_num(np.abs(np.where(equal, 0.0, real - twin)), nan=np.inf).max(initial=0.0))
    if largest > TWIN_TOLERANCE:
        raise EnvError(
            f"{where} by up to {largest:.3g} ({TWIN_TOLERANCE:g} is allowed); correct the twin or remove env.twin"
        )


def _measure_step(one: Copies) -> float:
    """Median seconds of a step of one copy under random actions."""
    env = TeamEnv(one, make_groups("per-agent", one.agents))
    policy = RandomPolicy(env.spec.actions, seed=0)
    shown = env.reset([0])
    started, times_s = time.perf_counter(), list[float]()
    while not times_s or time.perf_counter() - started < MEASURING_S:
        if shown.over:
            shown = env.reset([0])
        actions = policy.act(shown)
        before = time.perf_counter()
        shown = env.step(actions)
        times_s.append(time.perf_counter() - before)
    return median(times_s)
