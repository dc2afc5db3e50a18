"""Small environments whose numbers can be worked out by hand."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from pettingzoo import ParallelEnv

from kdnas.envs import AgentSpec, BatchedEnv, BatchedStep
from kdnas.policies import actions
from kdnas.policies.team_policy import draw_uniformly


class Counting(ParallelEnv):
    """`early` leaves with step 2, `late` with step 4; a reward is action x step, `early`'s ten times that.

    An agent sees (step, sum of its actions, the episode's random number) and has 3 actions; of them step % 3 is
    illegal where masks are sent, and playing it is an error.
    """

    metadata: ClassVar = {"name": "counting", "render_modes": []}
    render_mode = None

    def __init__(
        self,
        *,
        masks: str | None = None,
        state: bool = False,
        lingers: bool = False,
        raises_at: int = 0,
        dies_at: int = 0,
    ) -> None:
        self.possible_agents = ["early", "late"]
        self._masks, self._lingers, self._raises_at, self._dies_at = masks, lingers, raises_at, dies_at
        if state:
            self.state = self._global_state  # else PettingZoo's own, which raises NotImplementedError

    def observation_space(self, agent: str) -> Box:
        return Box(-np.inf, np.inf, (3,))

    def action_space(self, agent: str) -> Space:
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self._luck = np.random.default_rng(seed).random()
        self._step = 0
        self._sums = dict.fromkeys(self.possible_agents, 0)
        self.agents = list(self.possible_agents)
        return self._shown(self.agents)

    def step(self, actions: Mapping[str, Any]) -> Any:
        acting = [agent for agent in self.possible_agents if self._step < self._last(agent)]
        if sorted(actions) != acting:
            raise KeyError(f"actions of {sorted(actions)}, but {acting} act")
        if self._masks and any(np.ravel(action)[0] == self._step % 3 for action in actions.values()):
            raise ValueError("an illegal action")
        self._step += 1
        if self._step == self._raises_at:
            raise ValueError("out of\nfuel")
        if self._step == self._dies_at:
            os._exit(3)
        values = {agent: self._value(action) for agent, action in actions.items()}
        for agent, value in values.items():
            self._sums[agent] += value
        rates = {"early": 10.0, "late": 1.0}
        rewards = {agent: rates[agent] * value * self._step for agent, value in values.items()}
        done = {agent: self._step >= self._last(agent) for agent in self.possible_agents}
        observations, infos = self._shown(acting)
        if not self._lingers:
            self.agents = [agent for agent in acting if not done[agent]]
        return observations, rewards, done, dict.fromkeys(done, False), infos

    def _value(self, action: Any) -> float:
        assert type(action) is int
        return action

    def _last(self, agent: str) -> int:
        return 2 if agent == "early" else 4

    def _shown(self, agents: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        mask = self._mask()
        seen: dict[str, Any] = {agent: np.array([self._step, self._sums[agent], self._luck]) for agent in agents}
        if self._masks == "observation":
            seen = {agent: {"observation": row, "action_mask": mask} for agent, row in seen.items()}
        return seen, {agent: {"action_mask": mask} if self._masks == "info" else {} for agent in agents}

    def _mask(self) -> np.ndarray:
        return np.array([action != self._step % 3 for action in range(3)], np.int8)

    def _global_state(self) -> np.ndarray:
        return np.array([100.0 + self._step, self._luck])


class Batched:
    """Steps in batches: one agent `solo` sees the step, is paid its action, and leaves with step 3."""

    def __init__(self, *, action_count: int = 2, name: str = "solo", reward: float = 1.0) -> None:
        self.name = "batched"
        self.agents = {name: AgentSpec(observation_size=1, actions=actions.Discrete(action_count))}
        self.state_size = 1
        self._agent, self._reward = name, reward

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        self._step = 0
        return self._shown(np.zeros(len(seeds)))

    def step(self, actions: Mapping[str, np.ndarray]) -> BatchedStep:
        self._step += 1
        return self._shown(self._reward * actions[self._agent])

    def close(self) -> None:
        pass

    def _shown(self, rewards: np.ndarray) -> BatchedStep:
        seen = np.full((len(rewards), 1), self._step, np.float32)
        return BatchedStep(
            observations={self._agent: seen},
            masks={},
            alive={self._agent: np.full(len(rewards), self._step < 3)},
            rewards={self._agent: rewards.astype(np.float32)},
            state=seen,
        )


def make(**kwargs: Any) -> Counting:
    return Counting(**kwargs)


def make_batched(**kwargs: Any) -> Batched:
    return Batched(**kwargs)


class Slow(Counting):
    """A step takes 2 ms."""

    def step(self, actions: Mapping[str, int]) -> Any:
        time.sleep(0.002)
        return super().step(actions)


class Continuous(Counting):
    """Two real numbers count for one action: the first, and ten times the second, which has no upper bound."""

    def action_space(self, agent: str) -> Box:
        return Box(np.array([-1, 0], np.float32), np.array([1, np.inf], np.float32))

    def _value(self, action: Any) -> float:
        assert action.dtype == np.float32
        assert self.action_space("early").contains(action)
        return float(action[0]) + 10 * float(action[1])


class Paired(Counting):
    """Two choices of 3 and 2 count for one action: the first, and ten times the second, which is never masked."""

    def action_space(self, agent: str) -> MultiDiscrete:
        return MultiDiscrete([3, 2])

    def _value(self, action: Any) -> float:
        assert action.dtype == np.int64
        assert self.action_space("early").contains(action)
        return float(action[0]) + 10 * float(action[1])

    def _mask(self) -> np.ndarray:
        return np.append(super()._mask(), [1, 1]).astype(np.int8)


class Acts(Counting):
    """Has an action space that it is given."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self._space = space

    def action_space(self, agent: str) -> Space:
        return self._space


def make_binary() -> Counting:
    return Acts(MultiBinary(2))


class Shrinking(Counting):
    """Its observations lose a feature with step 1."""

    def _shown(self, agents: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        seen, infos = super()._shown(agents)
        return {agent: row[: 3 - self._step] for agent, row in seen.items()}, infos


class Strangled(Counting):
    """Its masks allow nothing from step 1 on."""

    def _shown(self, agents: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        seen, _ = super()._shown(agents)
        return seen, {agent: {"action_mask": np.full(3, self._step < 1)} for agent in agents}


class HalfStrangled(Paired):
    """Its masks allow nothing of the second factor from step 1 on."""

    def _mask(self) -> np.ndarray:
        return np.array([1, 1, 1, *[self._step < 1] * 2], np.int8)


def take_size(size: int) -> Counting:
    return Counting()


def make_nothing() -> None:
    return None


def fail() -> Counting:
    raise RuntimeError("no licence")


NUMBER = 3


def play_random(env: BatchedEnv, seeds: Sequence[int]) -> list[BatchedStep]:
    """All that is shown in whole episodes of uniformly random legal actions."""
    generator = np.random.default_rng(9)
    steps = [env.reset(seeds)]
    while any(alive.any() for alive in steps[-1].alive.values()):
        masks = steps[-1].masks
        steps.append(
            env.step(
                {
                    agent: draw_uniformly(spec.actions, (len(seeds),), masks.get(agent), generator)
                    for agent, spec in env.agents.items()
                }
            )
        )
    return steps


def assert_same(ours: Sequence[BatchedStep], theirs: Sequence[BatchedStep]) -> None:
    """Equal to the last bit."""
    assert len(ours) == len(theirs)
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine.state, yours.state, strict=True)
        for name in ("observations", "masks", "alive", "rewards"):
            assert list(getattr(mine, name)) == list(getattr(yours, name))
            for agent, rows in getattr(mine, name).items():
                np.testing.assert_array_equal(rows, getattr(yours, name)[agent], strict=True)
