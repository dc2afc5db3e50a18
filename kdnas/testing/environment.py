"""The contract of an environment: see `kdnas.envs.batched.BatchedEnv`, to which every environment is brought."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdnas.envs.batched import BatchedEnv, BatchedStep
from kdnas.envs.copies import Copies
from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Box
from kdnas.policies.arrays import Actions
from kdnas.policies.masks import allows_all_factors
from kdnas.policies.team_policy import draw_uniformly
from kdnas.testing.contract import contract, no_global_draws

SEEDS = (7, 11, 5)
"""Episodes that are played together first, and apart and in another order afterwards."""

STEPS_AFTER_THE_END = 2
"""Steps of a batch whose agents have all left."""


def check_environment(
    make: Callable[..., Any], kwargs: Mapping[str, Any] | None = None, *, max_steps: int = 100
) -> None:
    """Play a few episodes of random legal actions, at most `max_steps` long, and replay them in other batches.

    Args:
        make: what is registered under `kdnas.environments`: returns a PettingZoo parallel environment, or one that
            steps in batches.
        kwargs: arguments of `make`, as a study's `env.kwargs` gives them.

    Raises:
        AssertionError: arrays of other shapes or types than `BatchedStep` says, numbers that are not finite, agents
            that leave traces or come back, episodes that depend on anything but their seed and the actions, or a
            global generator that was touched.
    """
    with contract(f"environment {getattr(make, '__qualname__', make)!r}"), no_global_draws():
        first, second = (_open(make, kwargs or {}) for _ in range(2))
        try:
            _check_spaces(first, second)
            actions, shown = _play(first, max_steps)
            _check_replay(second, actions, shown, [2, 0])
            _check_replay(first, actions, shown, [1])
        finally:
            for env in (first, second):
                env.close()
                env.close()


def _open(make: Callable[..., Any], kwargs: Mapping[str, Any]) -> BatchedEnv:
    made = make(**kwargs)
    if isinstance(getattr(made, "agents", None), Mapping):
        lacking = [name for name in ("name", "state_size", "reset", "step", "close") if not hasattr(made, name)]
        assert not lacking, f"it steps in batches, but has no {', '.join(lacking)}"
        batched: BatchedEnv = made
        return batched
    return Copies(getattr(make, "__qualname__", "it"), partial(make, **kwargs), first=made)


def _check_spaces(first: BatchedEnv, second: BatchedEnv) -> None:
    assert first.agents, "it has no agents"
    for agent, spaces in first.agents.items():
        assert isinstance(spaces, AgentSpec), f"agent {agent!r} has {type(spaces).__name__} and not AgentSpec"
        assert spaces.observation_size > 0, f"agent {agent!r} observes nothing"
        continuous = isinstance(spaces.actions, Box)
        assert not (continuous and spaces.masked), f"agent {agent!r} is masked, but continuous actions have no mask"
        one = not isinstance(spaces.actions, Box) and max(spaces.actions.counts) < 2
        assert not one, f"agent {agent!r} has one action and so nothing to decide"
    ours, theirs = [(list(env.agents.items()), env.state_size) for env in (first, second)]
    assert ours == theirs, f"made twice with the same arguments, it has {ours} and then {theirs}"


def _play(env: BatchedEnv, max_steps: int) -> tuple[list[dict[str, Actions]], list[BatchedStep]]:
    """Actions and what they led to; `shown` is one longer."""
    generator = np.random.default_rng(0)
    shown = [env.reset(SEEDS)]
    _check_step(env, shown[0], None, 0)
    actions: list[dict[str, Actions]] = []
    after_the_end = 0
    while len(actions) < max_steps and after_the_end < STEPS_AFTER_THE_END:
        after_the_end += not any(rows.any() for rows in shown[-1].alive.values())
        masks = shown[-1].masks
        actions.append(
            {
                agent: draw_uniformly(spaces.actions, (len(SEEDS),), masks.get(agent), generator)
                for agent, spaces in env.agents.items()
            }
        )
        shown.append(env.step(actions[-1]))
        _check_step(env, shown[-1], shown[-2], len(actions))
    return actions, shown


def _check_step(env: BatchedEnv, shown: BatchedStep, before: BatchedStep | None, number: int) -> None:
    """What is shown after step `number` (0: the reset), coming from `before`."""
    when = f"after step {number}" if number else "after the reset"
    masked = [agent for agent, spaces in env.agents.items() if spaces.masked]
    for part in ("observations", "masks", "alive", "rewards"):
        have, want = sorted(getattr(shown, part)), sorted(masked if part == "masks" else env.agents)
        assert have == want, f"{when}, {part} are those of {have} and not of {want}"
    _check_array(f"the state {when}", shown.state, np.float32, env.state_size)
    was_over = np.logical_and.reduce([~alive for alive in before.alive.values()]) if before else np.zeros(0, np.bool_)
    if before:
        same = (shown.state == before.state)[was_over].all()
        assert same, f"{when}, the state of an episode changed although all its agents had left"
    for agent, spaces in env.agents.items():
        seen, alive, rewards = shown.observations[agent], shown.alive[agent], shown.rewards[agent]
        _check_array(f"the observation of {agent!r} {when}", seen, np.float32, spaces.observation_size)
        _check_array(f"alive of {agent!r} {when}", alive, np.bool_)
        _check_array(f"the reward of {agent!r} {when}", rewards, np.float32)
        assert not seen[~alive].any(), f"{when}, {agent!r} has left, but its observation is not zeros"
        acted = before.alive[agent] if before else np.zeros(len(SEEDS), np.bool_)
        assert not before or not (alive & ~acted).any(), f"{when}, {agent!r} is back although it had left the episode"
        assert not rewards[~acted].any(), f"{when}, {agent!r} is rewarded although it did not act"
        if spaces.masked:
            mask = shown.masks[agent]
            _check_array(f"the mask of {agent!r} {when}", mask, np.bool_, spaces.actions.outputs)
            assert mask[~alive].all(), f"{when}, {agent!r} has left, but its mask forbids actions"
            allowed = allows_all_factors(spaces.actions, mask).all()
            assert allowed, f"{when}, the mask of {agent!r} allows nothing; an agent that is done must leave"


def _check_array(what: str, array: Any, kind: type[np.generic], *features: int) -> None:
    assert isinstance(array, np.ndarray), f"{what} is {type(array).__name__} and no NumPy array"
    shape = (len(SEEDS), *features)
    assert array.shape == shape, f"{what} has the shape {array.shape} and not {shape}"
    assert array.dtype == kind, f"{what} is {array.dtype} and not {np.dtype(kind)}"
    assert np.isfinite(array).all(), f"{what} holds NaN or infinity"


def _check_replay(
    env: BatchedEnv, actions: Sequence[Mapping[str, Actions]], shown: Sequence[BatchedStep], order: list[int]
) -> None:
    """Play the episodes `order` of the first batch alone, with the actions that they had there."""
    seeds = [SEEDS[index] for index in order]
    here = env.reset(seeds)
    for number, there in enumerate(shown):
        if number:
            here = env.step({agent: chosen[order] for agent, chosen in actions[number - 1].items()})
        for what, mine, theirs in _parts(here, there):
            same = mine.shape[0] == len(order) and np.array_equal(mine, theirs[order])
            assert same, (
                f"{what} differ at step {number} when the episodes of the seeds {seeds} are played again in a batch of "
                f"{len(order)}; everything must come from the episode's seed and its actions"
            )


def _parts(here: BatchedStep, there: BatchedStep) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    parts: list[tuple[str, NDArray[Any], NDArray[Any]]] = [("states", here.state, there.state)]
    for part in ("observations", "masks", "alive", "rewards"):
        mine, theirs = getattr(here, part), getattr(there, part)
        parts += [(f"{part} of {agent!r}", mine[agent], theirs[agent]) for agent in theirs]
    return parts
