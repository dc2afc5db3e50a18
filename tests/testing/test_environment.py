"""The contract of environments passes on every built-in, and fails on those that break it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from pettingzoo import ParallelEnv

import kdnas
from kdnas import plugins
from kdnas.envs import BatchedStep
from kdnas.testing import check_environment

SPACES = kdnas.AgentSpec(observation_size=3, actions=kdnas.Discrete(2))


@pytest.mark.parametrize("name", sorted(plugins.installed("kdnas.environments")))
def test_built_in_environments(name):
    check_environment(plugins.load("kdnas.environments", name))


class Pair(ParallelEnv):
    """Two agents see luck, the step and the sum of all actions; `a` leaves with step 3, `b` with step 5."""

    metadata: ClassVar = {"name": "pair", "render_modes": []}
    possible_agents: ClassVar = ["a", "b"]

    def __init__(self, masked: bool = False) -> None:
        self.masked = masked

    def observation_space(self, agent: str) -> Box:
        return Box(-np.inf, np.inf, (3,))

    def action_space(self, agent: str) -> Space:
        return Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents, self.now, self.total = list(self.possible_agents), 0, 0.0
        self.luck = self.draw(seed)
        return self.seen(), self.infos()

    def draw(self, seed: int | None) -> float:
        return float(np.random.default_rng(seed).random())

    def step(self, actions: Mapping[str, int]) -> Any:
        self.now += 1
        self.total += float(sum(np.sum(action) for action in actions.values()))
        done = {"a": self.now >= 3, "b": self.now >= 5}
        told = (
            self.seen(),
            {agent: self.reward() for agent in self.agents},
            done,
            dict.fromkeys(done, False),
            self.infos(),
        )
        self.agents = [agent for agent in self.agents if not done[agent]]
        return told

    def reward(self) -> float:
        return self.total

    def seen(self) -> dict[str, Any]:
        return {agent: np.array([self.luck, self.now, self.total]) for agent in self.agents}

    def infos(self) -> dict[str, Any]:
        return {agent: {"action_mask": self.mask()} if self.masked else {} for agent in self.agents}

    def mask(self) -> np.ndarray:
        return np.array([True, self.now % 2 == 0])


class Unseeded(Pair):
    def draw(self, seed: int | None) -> float:
        return float(np.random.default_rng().random())


class GlobalNumpy(Pair):
    def draw(self, seed: int | None) -> float:
        np.random.seed(seed)
        return float(np.random.random())


class GlobalPython(Pair):
    def draw(self, seed: int | None) -> float:
        random.seed(seed)
        return random.random()


class GlobalTorch(Pair):
    def draw(self, seed: int | None) -> float:
        torch.manual_seed(seed or 0)
        return float(torch.rand(()))


class Shared(Pair):
    """All copies draw from one generator."""

    generator: ClassVar = np.random.default_rng(0)

    def draw(self, seed: int | None) -> float:
        return float(self.generator.random())


class Remembers(Pair):
    """Its sum goes on in the next episode."""

    sums: ClassVar[list[float]] = []

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        before = getattr(self, "total", 0.0)
        super().reset(seed)
        self.total = before
        return self.seen(), self.infos()


class NotANumber(Pair):
    def seen(self) -> dict[str, Any]:
        return {agent: np.array([self.luck, np.nan, 0.0]) for agent in self.agents}


class Rich(Pair):
    def reward(self) -> float:
        return float("inf")


class Raises(Pair):
    def step(self, actions: Mapping[str, int]) -> Any:
        raise RuntimeError("out of fuel")


class Continuous(Pair):
    def action_space(self, agent: str) -> Space:
        return Box(np.array([-1, 0], np.float32), np.array([1, np.inf], np.float32))


class Factored(Pair):
    def action_space(self, agent: str) -> Space:
        return MultiDiscrete([2, 3])

    def mask(self) -> np.ndarray:
        return np.array([True, self.now % 2 == 0, self.now % 2 == 1, True, True])


class Binary(Pair):
    def action_space(self, agent: str) -> Space:
        return MultiBinary(2)


class Strict(Continuous):

    def step(self, actions: Mapping[str, Any]) -> Any:
        for agent, action in actions.items():
            if not self.action_space(agent).contains(action):
                raise ValueError("out of bounds")
        return super().step(actions)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [Pair, Factored])
def test_a_good_environment(make, masked):
    check_environment(make, {"masked": masked})


def test_a_good_environment_with_continuous_actions():
    check_environment(Continuous)


def test_actions_of_a_check_are_within_their_bounds():
    check_environment(Strict)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Unseeded, "differ at step 0 when the episodes of the seeds [5, 7] are played again in a batch of 2"),
        (Shared, "everything must come from the episode's seed and its actions"),
        (Remembers, "differ at step 0 when the episodes of the seeds [11]"),
        (GlobalNumpy, "it seeds or draws from the global generator of NumPy, which all code shares"),
        (GlobalPython, "the global generator of Python"),
        (GlobalTorch, "the global generator of PyTorch"),
        (NotANumber, "the state after the reset holds NaN or infinity"),
        (Rich, "the reward of 'a' after step 1 holds NaN or infinity"),
        (Raises, "failed in step(): RuntimeError: out of fuel"),
        (Binary, "agent 'a' has the actions MultiBinary(2); kdnas distills Discrete and MultiDiscrete ones"),
        (partial(Continuous, masked=True), "agent 'a' sends an action mask for continuous actions"),
        (lambda: None, "has no 'possible_agents'"),
    ],
)
def test_an_environment_that_breaks_the_contract(said_by, make, said):
    assert said in said_by(check_environment, make)


class Walk:
    """Steps in batches: each agent sees how far it has walked; agent `a` leaves with step 2, `b` with step 4."""

    def __init__(self) -> None:
        self.name, self.state_size = "walk", 2
        self.agents = {
            "a": replace(SPACES, observation_size=1, masked=True),
            "b": replace(SPACES, observation_size=1),
        }

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        self.now = 0
        self.places = np.array([[seed, seed] for seed in seeds], np.float32)
        return self.show(np.zeros_like(self.places))

    def step(self, actions: Mapping[str, Any]) -> BatchedStep:
        acting = np.array([self.now < 2, self.now < 4])
        moved = np.stack([actions["a"], actions["b"]], 1).astype(np.float32) * acting
        self.places = self.places + moved
        self.now += 1
        return self.show(moved)

    def show(self, rewards: Any) -> BatchedStep:
        alive = {"a": np.full(len(rewards), self.now < 2), "b": np.full(len(rewards), self.now < 4)}
        return BatchedStep(
            observations={
                agent: self.places[:, [index]] * alive[agent][:, None] for index, agent in enumerate(self.agents)
            },
            masks={"a": np.ones((len(rewards), 2), np.bool_)},
            alive=alive,
            rewards={agent: rewards[:, index] for index, agent in enumerate(self.agents)},
            state=self.places.copy(),
        )

    def close(self) -> None:
        pass


def test_a_good_batched_environment():
    check_environment(Walk)


def walks_with(change: Any) -> Any:
    """A `Walk` whose every answer is changed: (the environment, the answer) -> another one."""

    class Faulty(Walk):
        def show(self, rewards: Any) -> BatchedStep:
            return change(self, super().show(rewards))

    return Faulty


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda env, shown: replace(shown, observations={"a": env.places[:, :1], "b": env.places[:, 1:]}),
            "after step 2, 'a' has left, but its observation is not zeros",
        ),
        (
            lambda env, shown: replace(shown, masks={"a": shown.masks["a"] & shown.alive["a"][:, None]}),
            "after step 2, 'a' has left, but its mask forbids actions",
        ),
        (
            lambda env, shown: replace(shown, masks={"a": np.zeros_like(shown.masks["a"])}),
            "after the reset, the mask of 'a' allows nothing",
        ),
        (lambda env, shown: replace(shown, masks={}), "after the reset, masks are those of [] and not of ['a']"),
        (
            lambda env, shown: replace(
                shown, alive=shown.alive | {"a": np.full(len(env.places), env.now in (0, 1, 3))}
            ),
            "after step 3, 'a' is back although it had left the episode",
        ),
        (
            lambda env, shown: replace(
                shown, rewards=shown.rewards | {"a": np.full(len(env.places), env.now > 2, np.float32)}
            ),
            "after step 3, 'a' is rewarded although it did not act",
        ),
        (
            lambda env, shown: replace(shown, rewards={agent: rows + 1 for agent, rows in shown.rewards.items()}),
            "after the reset, 'a' is rewarded although it did not act",
        ),
        (
            lambda env, shown: replace(shown, state=shown.state + env.now),
            "after step 5, the state of an episode changed although all its agents had left",
        ),
        (
            lambda env, shown: replace(shown, state=shown.state.astype(np.float64)),
            "the state after the reset is float64 and not float32",
        ),
        (
            lambda env, shown: replace(shown, state=shown.state[:1]),
            "the state after the reset has the shape (1, 2) and not (3, 2)",
        ),
        (
            lambda env, shown: replace(shown, observations=shown.observations | {"b": shown.observations["b"][:, 0]}),
            "the observation of 'b' after the reset has the shape (3,) and not (3, 1)",
        ),
        (
            lambda env, shown: replace(
                shown, state=shown.state + np.arange(len(env.places), dtype=np.float32)[:, None]
            ),
            "states differ at step 0 when the episodes of the seeds [5, 7]",
        ),
    ],
)
def test_a_batched_environment_that_breaks_the_contract(said_by, change, said):
    assert said in said_by(check_environment, walks_with(change))


def test_a_batched_environment_that_is_not_whole(said_by):
    class Halved:
        agents: ClassVar = {"a": SPACES}

    assert said_by(check_environment, Halved).endswith(
        "it steps in batches, but has no name, state_size, reset, step, close"
    )


def test_an_environment_that_changes_when_it_is_made_again(said_by):
    sizes = iter([1, 2])

    class Grows(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.state_size = next(sizes)

    assert "made twice with the same arguments" in said_by(check_environment, Grows)


@pytest.mark.parametrize(
    ("spaces", "said"),
    [
        ({"actions": kdnas.Discrete(1)}, "agent 'b' has one action and so nothing to decide"),
        ({"actions": kdnas.MultiDiscrete((1, 1))}, "agent 'b' has one action and so nothing to decide"),
        (
            {"actions": kdnas.Box((0.0,), (1.0,)), "masked": True},
            "agent 'b' is masked, but continuous actions have no mask",
        ),
    ],
)
def test_spaces_of_which_nothing_can_be_learned(said_by, spaces, said):
    class Spaced(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.agents["b"] = replace(self.agents["b"], **spaces)

    assert said in said_by(check_environment, Spaced)


def test_a_mask_that_leaves_a_factor_without_a_choice(said_by):
    class Halved(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.agents["a"] = replace(self.agents["a"], actions=kdnas.MultiDiscrete((2, 2)))

        def show(self, rewards: Any) -> BatchedStep:
            mask = np.array([[True, True, False, False]] * len(rewards))
            return replace(super().show(rewards), masks={"a": mask})

    assert "after the reset, the mask of 'a' allows nothing" in said_by(check_environment, Halved)
