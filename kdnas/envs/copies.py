"""A batch made of B copies of a PettingZoo parallel environment, stepped one after the other in this process."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kdnas.policies.arrays import Bools, Floats, Ints
from kdnas.envs.batched import BatchedStep
from kdnas.envs.spec import AgentSpec
from kdnas.errors import EnvError


class Copies:
    """`BatchedEnv` over PettingZoo's ParallelEnv.

    Action masks are taken from where PettingZoo environments put them: `observation["action_mask"]` or
    `info["action_mask"]`. The state is `env.state()` where the environment has one, else all observations in a row.
    Copies are made on demand and reused.
    """

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self.name = name
        self._make = make
        self._envs = [make()]
        first = self._envs[0]
        if not hasattr(first, "possible_agents"):
            raise EnvError(f"environment {name!r} is no PettingZoo parallel environment: it has no 'possible_agents'")
        observations, infos = first.reset(seed=0)
        self.agents: dict[str, AgentSpec] = {
            agent: _agent_spec(name, first, agent, observations.get(agent), infos.get(agent, {}))
            for agent in first.possible_agents
        }
        self._has_state = _has_state(first)
        flat = sum(spec.observation_size for spec in self.agents.values())
        self.state_size = int(np.asarray(first.state()).size) if self._has_state else flat
        self._running: list[Any] = []

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        while len(self._envs) < len(seeds):
            self._envs.append(self._make())
        self._running = self._envs[: len(seeds)]
        shown = [env.reset(seed=int(seed)) for env, seed in zip(self._running, seeds, strict=True)]
        return self._gather([(observations, {}, infos) for observations, infos in shown])

    def step(self, actions: Mapping[str, Ints]) -> BatchedStep:
        shown: list[tuple[Mapping[str, Any], Mapping[str, float], Mapping[str, Any]]] = []
        for copy, env in enumerate(self._running):
            if not env.agents:
                shown.append(({}, {}, {}))
                continue
            observations, rewards, _, _, infos = env.step({agent: int(actions[agent][copy]) for agent in env.agents})
            shown.append((observations, rewards, infos))
        return self._gather(shown)

    def close(self) -> None:
        for env in self._envs:
            env.close()
        self._envs, self._running = [], []

    def _gather(self, shown: Sequence[tuple[Mapping[str, Any], Mapping[str, float], Mapping[str, Any]]]) -> BatchedStep:
        batch = len(shown)
        observations: dict[str, Floats] = {}
        masks: dict[str, Bools] = {}
        alive: dict[str, Bools] = {}
        rewards: dict[str, Floats] = {}
        for agent, spec in self.agents.items():
            observations[agent] = np.zeros((batch, spec.observation_size), np.float32)
            alive[agent] = np.array([agent in env.agents for env in self._running], np.bool_)
            rewards[agent] = np.array([row[1].get(agent, 0.0) for row in shown], np.float32)
            if spec.masked:
                masks[agent] = np.ones((batch, spec.action_count), np.bool_)
            for copy, (seen, _, infos) in enumerate(shown):
                if not alive[agent][copy]:
                    continue
                vector, mask = _split(seen[agent], infos.get(agent, {}))
                observations[agent][copy] = vector
                if spec.masked and mask is not None:
                    masks[agent][copy] = mask
        return BatchedStep(
            observations=observations, masks=masks, alive=alive, rewards=rewards, state=self._states(observations)
        )

    def _states(self, observations: Mapping[str, Floats]) -> Floats:
        if not self._has_state:
            return np.concatenate([observations[agent] for agent in self.agents], axis=1)
        rows = [np.asarray(env.state(), np.float32).reshape(-1) for env in self._running]
        return np.stack(rows)


def _split(observation: Any, info: Mapping[str, Any]) -> tuple[Any, Any]:
    """An agent's observation as (flat vector, action mask or None)."""
    mask = info.get("action_mask") if isinstance(info, Mapping) else None
    if isinstance(observation, Mapping):
        mask = observation.get("action_mask", mask)
        observation = observation["observation"]
    return np.asarray(observation, np.float32).reshape(-1), mask


def _has_state(env: Any) -> bool:
    try:
        env.state()
    except (NotImplementedError, AttributeError):
        return False
    return True


def _agent_spec(name: str, env: Any, agent: str, observation: Any, info: Mapping[str, Any]) -> AgentSpec:
    action_space = env.action_space(agent)
    kind = type(action_space).__name__
    if kind != "Discrete":
        raise EnvError(
            f"environment {name!r}: agent {agent!r} has {kind} actions; kdnas distills Discrete ones. "
            "Make the environment with discrete actions (in mpe2: continuous_actions = false)"
        )
    if int(getattr(action_space, "start", 0)) != 0:
        raise EnvError(f"environment {name!r}: the actions of agent {agent!r} start at {action_space.start}, not at 0")
    if observation is None:
        raise EnvError(f"environment {name!r}: agent {agent!r} is possible but absent after reset(seed=0)")
    vector, mask = _split(observation, info)
    return AgentSpec(observation_size=vector.size, action_count=int(action_space.n), masked=mask is not None)
