"""A batch made of B copies of a PettingZoo parallel environment, stepped one after the other in this process."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdnas.envs.batched import BatchedStep
from kdnas.envs.blame import blame
from kdnas.envs.spec import AgentSpec
from kdnas.errors import ConfigError, EnvError
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.policies.arrays import Actions, Bools, Floats
from kdnas.policies.masks import allows_all_factors


class _Shown(NamedTuple):
    """What one copy answered to a reset or a step."""

    observations: Mapping[str, Any]
    rewards: Mapping[str, float]
    infos: Mapping[str, Any]
    alive: frozenset[str]
    """Agents whose next action counts."""
    acted: frozenset[str]
    """Agents that were alive before, and so are rewarded."""


class Copies:
    """`BatchedEnv` over PettingZoo's ParallelEnv.

    Action masks are taken from where PettingZoo environments put them: `observation["action_mask"]` or
    `info["action_mask"]`. The state is `env.state()` where the environment has one, else all observations in a row.
    An agent is alive while it is in `env.agents` and was neither terminated nor truncated; one that has left does not
    come back in the same episode. Copies are made on demand and reused; `first` is a copy that is already made.

    Raises:
        EnvError: no parallel environment, actions of an unknown kind, or anything the environment raises.
    """

    def __init__(self, name: str, make: Callable[[], Any], *, first: Any = None) -> None:
        self.name = name
        self._make = make
        self._envs = [self._new() if first is None else first]
        first = self._envs[0]
        _check_parallel(name, first)
        with blame(f"environment {name!r} failed in reset(seed=0)"):
            observations, infos = first.reset(seed=0)
            self.agents: Mapping[str, AgentSpec] = {
                agent: _agent_spec(name, first, agent, observations.get(agent), infos.get(agent, {}))
                for agent in first.possible_agents
            }
        self._has_state = self._finds_state(first)
        flat = sum(spec.observation_size for spec in self.agents.values())
        self.state_size = int(np.asarray(first.state()).size) if self._has_state else flat
        self._alive: list[frozenset[str]] = []
        self._state: Floats = np.zeros((0, self.state_size), np.float32)

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        while len(self._envs) < len(seeds):
            self._envs.append(self._new())
        self._alive = [frozenset()] * len(seeds)
        self._state = np.zeros((len(seeds), self.state_size), np.float32)
        shown: list[_Shown | None] = []
        for env, seed in zip(self._envs, seeds, strict=False):
            with blame(f"environment {self.name!r} failed in reset(seed={int(seed)})"):
                observations, infos = env.reset(seed=int(seed))
            shown.append(_Shown(observations, {}, infos, alive=frozenset(env.agents), acted=frozenset()))
        return self._gather(shown)

    def step(self, actions: Mapping[str, Actions]) -> BatchedStep:
        shown: list[_Shown | None] = []
        for copy, acting in enumerate(self._alive):
            if not acting:  # over: PettingZoo forbids stepping on
                shown.append(None)
                continue
            env = self._envs[copy]
            with blame(f"environment {self.name!r} failed in step()"):
                observations, rewards, terminated, truncated, infos = env.step(
                    {agent: _native(actions[agent][copy]) for agent in env.agents if agent in acting}
                )
                # Some environments keep agents that are done in their list; their next action would not count.
                alive = frozenset(a for a in env.agents if not (terminated.get(a, False) or truncated.get(a, False)))
            shown.append(_Shown(observations, rewards, infos, alive=alive & acting, acted=acting))
        return self._gather(shown)

    def close(self) -> None:
        for env in self._envs:
            env.close()
        self._envs, self._alive = [], []

    def _new(self) -> Any:
        with blame(f"environment {self.name!r} cannot be made"):
            return self._make()

    def _gather(self, shown: Sequence[_Shown | None]) -> BatchedStep:
        batch = len(shown)
        specs = self.agents.items()
        seen: dict[str, Floats] = {a: np.zeros((batch, spec.observation_size), np.float32) for a, spec in specs}
        masks: dict[str, Bools] = {
            a: np.ones((batch, spec.actions.outputs), np.bool_) for a, spec in specs if spec.masked
        }
        alive: dict[str, Bools] = {a: np.zeros(batch, np.bool_) for a in self.agents}
        rewards: dict[str, Floats] = {a: np.zeros(batch, np.float32) for a in self.agents}
        for copy, answer in enumerate(shown):
            self._alive[copy] = frozenset() if answer is None else answer.alive
            if answer is None:
                continue
            with blame(f"environment {self.name!r} shows what cannot be read"):
                for agent in self.agents:
                    self._read(agent, answer, seen[agent][copy], masks[agent][copy] if agent in masks else None)
                    alive[agent][copy] = agent in answer.alive
                    rewards[agent][copy] = answer.rewards.get(agent, 0.0) if agent in answer.acted else 0.0
                self._state[copy] = self._state_of(copy, seen)
        # The state keeps what leaving agents saw last: a critic may ask for the value of where the episode was cut.
        for agent, rows in seen.items():
            rows[~alive[agent]] = 0.0
        return BatchedStep(observations=seen, masks=masks, alive=alive, rewards=rewards, state=self._state.copy())

    def _read(self, agent: str, answer: _Shown, seen: Floats, mask: Bools | None) -> None:
        """Write one agent's observation into `seen` (O,) and its legal actions into `mask` (N,)."""
        where = f"environment {self.name!r}: agent {agent!r}"
        if agent not in answer.observations:
            if agent in answer.alive:
                raise EnvError(f"{where} is in env.agents but has no observation")
            return
        vector, legal = _split(answer.observations[agent], answer.infos.get(agent, {}))
        if vector.size != seen.size:
            raise EnvError(f"{where} shows {vector.size} features; after reset(seed=0) it showed {seen.size}")
        seen[:] = vector
        if mask is None or legal is None or agent not in answer.alive:
            return
        if np.size(legal) != mask.size:
            raise EnvError(f"{where} sends an action mask of {np.size(legal)} entries for {mask.size} actions")
        mask[:] = np.reshape(legal, -1).astype(np.bool_)
        if not allows_all_factors(self.agents[agent].actions, mask):
            raise EnvError(f"{where} sends an action mask without a legal action; an agent that is done must leave")

    def _state_of(self, copy: int, seen: Mapping[str, Floats]) -> Floats:
        """The state (S,) of one copy."""
        if not self._has_state:
            return np.concatenate([rows[copy] for rows in seen.values()])
        state: Floats = np.asarray(self._envs[copy].state(), np.float32).reshape(-1)
        if state.size != self.state_size:
            raise EnvError(
                f"environment {self.name!r}: state() has {state.size} values; after reset(seed=0) it had "
                f"{self.state_size}. Give it one length, also when agents leave, or no state() at all"
            )
        return state

    def _finds_state(self, env: Any) -> bool:
        if not callable(getattr(env, "state", None)):
            return False
        try:
            with blame(f"environment {self.name!r} failed in state()"):
                env.state()
        except EnvError as error:
            if isinstance(error.__cause__, NotImplementedError | AttributeError):  # PettingZoo's way to have none
                return False
            raise
        return True


def _split(observation: Any, info: Any) -> tuple[Floats, Any]:
    """An agent's observation as (flat vector, action mask or None)."""
    mask = info.get("action_mask") if isinstance(info, Mapping) else None
    if isinstance(observation, Mapping):
        if "observation" not in observation:
            raise EnvError(
                f"an observation is a table with the keys {', '.join(map(repr, observation))}; kdnas reads an array, "
                "or a table with 'observation' and 'action_mask'; concatenate the others into 'observation'"
            )
        mask = observation.get("action_mask", mask)
        observation = observation["observation"]
    return np.asarray(observation, np.float32).reshape(-1), mask


def _check_parallel(name: str, env: Any) -> None:
    if hasattr(env, "agent_iter"):
        raise EnvError(
            f"environment {name!r} lets agents act in turn (PettingZoo's AEC API); kdnas needs the parallel one: "
            "return its parallel_env(), or pettingzoo.utils.aec_to_parallel(env)"
        )
    if not hasattr(env, "possible_agents"):
        raise EnvError(
            f"environment {name!r} is no PettingZoo parallel environment: {type(env).__name__} has no 'possible_agents'"
        )


def _native(action: Any) -> Any:
    """One agent's action as its environment takes it: an int, or an array of its own."""
    return int(action) if np.ndim(action) == 0 else action.copy()


def _agent_spec(name: str, env: Any, agent: str, observation: Any, info: Any) -> AgentSpec:
    where = f"environment {name!r}: agent {agent!r}"
    actions = _read_actions(where, env.action_space(agent))
    if observation is None:
        raise EnvError(f"{where} is possible but absent after reset(seed=0)")
    vector, mask = _split(observation, info)
    if mask is not None and isinstance(actions, Box):
        raise EnvError(f"{where} sends an action mask for continuous actions; masks are for discrete ones")
    return AgentSpec(observation_size=vector.size, actions=actions, masked=mask is not None)


def _read_actions(where: str, space: Any) -> ActionSpace:
    """A gymnasium action space, recognised by its name: gymnasium itself need not be installed."""
    kind = type(space).__name__
    if kind in ("Discrete", "MultiDiscrete"):
        starts = np.asarray(getattr(space, "start", 0)).reshape(-1)
        if starts.any():
            raise EnvError(f"{where} has actions that start at {starts.tolist()}, not at 0")
    if kind == "Discrete":
        return Discrete(int(space.n))
    if kind == "MultiDiscrete" and np.ndim(space.nvec) == 1:
        return MultiDiscrete(tuple(int(count) for count in space.nvec))
    if kind == "Box" and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        low, high = (tuple(float(value) for value in bound) for bound in (space.low, space.high))
        try:
            return Box(low, high)
        except ConfigError as error:
            raise EnvError(f"{where} has actions that are none: {error}") from error
    raise EnvError(
        f"{where} has the actions {space}; kdnas distills Discrete and MultiDiscrete ones, and vectors of real numbers "
        "(Box). Wrap the environment so that it takes one of these"
    )
