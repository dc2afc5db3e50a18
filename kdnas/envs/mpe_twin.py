"""Two MPE tasks in NumPy, B copies at once: mpe2 1.1's dynamics, some 250 times faster.

Same seed, same actions, same observations, states and rewards as `mpe2`, to the last bit: each copy's start is drawn as
mpe2 draws it, from a `PCG64` generator of its own. `tests/envs/test_mpe_twin.py` holds both against each other.
Dynamics: Lowe et al. 2017 (arXiv 1706.02275), as coded in `mpe2/_mpe_utils/core.py`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kdnas.envs.batched import BatchedStep
from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Box, Discrete
from kdnas.policies.arrays import Actions, Floats

Doubles = NDArray[np.float64]

DT_S, DAMPING, CONTACT_FORCE, CONTACT_MARGIN = 0.1, 0.25, 1e2, 1e-3
"""World constants of MPE: step, velocity lost a step, stiffness and softness of a contact."""

FORCES: Doubles = 5.0 * np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float64)
"""Action -> force on the agent: stay, left, right, down, up, times MPE's sensitivity."""


class SpreadTwin:
    """`mpe2.simple_spread_v3`: N agents cover as many landmarks and avoid each other."""

    def __init__(
        self,
        *,
        N: int = 3,  # noqa: N803 (mpe2's name)
        max_cycles: int = 25,
        local_ratio: float = 0.5,
        continuous_actions: bool = False,
    ) -> None:
        self.name = "mpe/simple_spread"
        observation_size = 4 + 2 * N + 4 * (N - 1)
        actions = Box((0.0,) * 5, (1.0,) * 5) if continuous_actions else Discrete(5)
        spaces = AgentSpec(observation_size=observation_size, actions=actions)
        self._continuous = continuous_actions
        self.agents: Mapping[str, AgentSpec] = {f"agent_{i}": spaces for i in range(N)}
        self.state_size = N * observation_size
        self._count, self._max_cycles, self._local_ratio = N, max_cycles, local_ratio
        self._others = np.array([[j for j in range(N) if j != i] for i in range(N)], np.int64).reshape(N, N - 1)
        self._first, self._second = np.triu_indices(N, 1)

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        count = self._count
        draws = np.stack([_generator(seed).uniform(-1, 1, (2 * count, 2)) for seed in seeds])
        self._position, self._landmark = draws[:, :count], draws[:, count:]
        self._velocity = np.zeros_like(self._position)
        self._steps = 0
        return self._show(np.zeros((len(seeds), count)))

    def step(self, actions: Mapping[str, Actions]) -> BatchedStep:
        if self._steps >= self._max_cycles:  # over: nothing moves any more
            return self._show(np.zeros(self._position.shape[:2]))
        chosen = np.stack([actions[agent] for agent in self.agents], axis=1)
        if self._continuous:
            # mpe2 subtracts in the numbers' own type, float32, and goes on in float64.
            pushes: Floats = chosen.astype(np.float32)
            force = 5.0 * (pushes[..., [2, 4]] - pushes[..., [1, 3]]).astype(np.float64)
        else:
            force = FORCES[chosen]
        gap, distance = self._pair_gaps()
        penetration = np.logaddexp(0, -(distance - 0.3) / CONTACT_MARGIN) * CONTACT_MARGIN
        contact = CONTACT_FORCE * gap / distance[..., None] * penetration[..., None]
        for pair, (i, j) in enumerate(zip(self._first, self._second, strict=True)):
            force[:, i] += contact[:, pair]
            force[:, j] -= contact[:, pair]
        # mpe2 moves by the old velocity first, then changes the velocity.
        self._position = self._position + self._velocity * DT_S
        self._velocity = self._velocity * (1 - DAMPING) + force * DT_S
        self._steps += 1
        return self._show(self._rewards())

    def close(self) -> None:
        """Nothing to release."""

    def _pair_gaps(self) -> tuple[Doubles, Doubles]:
        gap = self._position[:, self._first] - self._position[:, self._second]
        return gap, np.sqrt((gap * gap).sum(-1))

    def _rewards(self) -> Doubles:
        to_landmark = self._landmark[:, :, None] - self._position[:, None]
        nearest = np.sqrt((to_landmark**2).sum(-1)).min(2)
        # One after the other, as mpe2 adds; `sum` adds in pairs from eight landmarks on and differs in the last bit.
        covered = -nearest.cumsum(1)[:, -1]
        collided = self._pair_gaps()[1] < 0.3
        local = np.zeros(self._position.shape[:2])
        for pair, (i, j) in enumerate(zip(self._first, self._second, strict=True)):
            local[:, i] -= collided[:, pair]
            local[:, j] -= collided[:, pair]
        rewards: Doubles = covered[:, None] * (1 - self._local_ratio) + local * self._local_ratio
        return rewards

    def _show(self, rewards: Doubles) -> BatchedStep:
        batch, count = self._position.shape[:2]
        landmarks = (self._landmark[:, None] - self._position[:, :, None]).reshape(batch, count, -1)
        others = (self._position[:, self._others] - self._position[:, :, None]).reshape(batch, count, -1)
        silence = np.zeros((batch, count, 2 * (count - 1)))
        seen = np.concatenate([self._velocity, self._position, landmarks, others, silence], -1).astype(np.float32)
        alive = self._steps < self._max_cycles
        return _team_step(list(self.agents), [seen[:, i] for i in range(count)], rewards, alive)


class SpeakerListenerTwin:
    """`mpe2.simple_speaker_listener_v4` with discrete actions: one sees the goal, the other walks there."""

    _COLORS = np.array([[0.65, 0.15, 0.15], [0.15, 0.65, 0.15], [0.15, 0.15, 0.65]])

    def __init__(self, *, max_cycles: int = 25) -> None:
        self.name = "mpe/simple_speaker_listener"
        self.agents: Mapping[str, AgentSpec] = {
            "speaker_0": AgentSpec(observation_size=3, actions=Discrete(3)),
            "listener_0": AgentSpec(observation_size=11, actions=Discrete(5)),
        }
        self.state_size = 14
        self._max_cycles = max_cycles

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        generators = [_generator(seed) for seed in seeds]
        self._goal = np.array([int(generator.integers(3)) for generator in generators])
        # Drawn in mpe2's order: the speaker (which never moves and is never seen), the listener, three landmarks.
        draws = np.stack([generator.uniform(-1, 1, (5, 2)) for generator in generators])
        self._position, self._landmark = draws[:, 1], draws[:, 2:]
        self._velocity = np.zeros_like(self._position)
        self._message = np.zeros((len(generators), 3))
        self._steps = 0
        return self._show(np.zeros((len(generators), 2)))

    def step(self, actions: Mapping[str, Actions]) -> BatchedStep:
        if self._steps >= self._max_cycles:
            return self._show(np.zeros((len(self._goal), 2)))
        self._position = self._position + self._velocity * DT_S
        self._velocity = self._velocity * (1 - DAMPING) + FORCES[actions["listener_0"]] * DT_S
        self._message = np.eye(3)[actions["speaker_0"]]
        self._steps += 1
        goal = self._landmark[np.arange(len(self._goal)), self._goal]
        reward = -((self._position - goal) ** 2).sum(-1)
        return self._show(np.stack([reward, reward], axis=1))

    def close(self) -> None:
        """Nothing to release."""

    def _show(self, rewards: Doubles) -> BatchedStep:
        batch = len(self._goal)
        speaker = self._COLORS[self._goal].astype(np.float32)
        landmarks = (self._landmark - self._position[:, None]).reshape(batch, 6)
        listener = np.concatenate([self._velocity, landmarks, self._message], -1).astype(np.float32)
        return _team_step(list(self.agents), [speaker, listener], rewards, self._steps < self._max_cycles)


def _generator(seed: int) -> np.random.Generator:
    """gymnasium's generator of an episode seed (`gymnasium.utils.seeding.np_random`)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed))))


def _team_step(agents: list[str], seen: list[Floats], rewards: Doubles, alive: bool) -> BatchedStep:
    batch = len(rewards)
    state = np.concatenate(seen, axis=1)
    if not alive:  # as `Copies` shows agents that have left
        seen = [np.zeros_like(rows) for rows in seen]
    return BatchedStep(
        observations=dict(zip(agents, seen, strict=True)),
        masks={},
        alive={agent: np.full(batch, alive) for agent in agents},
        rewards={agent: rewards[:, i].astype(np.float32) for i, agent in enumerate(agents)},
        state=state,
    )
