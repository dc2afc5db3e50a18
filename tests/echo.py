"""A task whose numbers can be worked out by hand, its teachers, and what workers are asked to do in tests.

Each agent sees random numbers and is paid 1 for naming the largest of the first N; an episode has 5 steps. A perfect
team returns 5, random play 5 / N.
"""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdnas.envs import AgentSpec, BatchedStep, EnvSpec
from kdnas.policies.actions import Discrete
from kdnas.teachers import Teacher, make_mlp

STEPS = 5


class Echo:
    """Steps in batches: `left` and `right` see 3 numbers and have 3 actions; with `kinds` `right` sees 4 and has 2."""

    def __init__(self, *, kinds: bool = False, masked: bool = False, step_s: float = 0.0, fails_at: int = 0) -> None:
        self.name = "echo"
        other = AgentSpec(observation_size=4, actions=Discrete(2), masked=masked)
        alike = AgentSpec(observation_size=3, actions=Discrete(3), masked=masked)
        self.agents = {"left": alike, "right": other if kinds else alike}
        self.state_size = sum(spec.observation_size for spec in self.agents.values())
        self._step_s, self._fails_at = step_s, fails_at

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        drawn = [np.random.default_rng(seed).standard_normal((STEPS + 1, self.state_size)) for seed in seeds]
        self._drawn = np.stack(drawn).astype(np.float32)
        self._step = 0
        return self._shown({agent: np.zeros(len(seeds), np.float32) for agent in self.agents})

    def step(self, actions: Mapping[str, np.ndarray]) -> BatchedStep:
        time.sleep(self._step_s)
        right = {agent: self._seen(agent)[:, : spec.action_count].argmax(1) for agent, spec in self.agents.items()}
        self._step += 1
        if self._step == self._fails_at:
            raise ValueError("out of\nfuel")
        return self._shown({agent: (actions[agent] == right[agent]).astype(np.float32) for agent in self.agents})

    def close(self) -> None:
        pass

    def _seen(self, agent: str) -> np.ndarray:
        own = self.agents[agent].observation_size
        rows = self._drawn[:, self._step]
        return rows[:, :own] if agent == "left" else rows[:, -own:]

    def _shown(self, rewards: dict[str, np.ndarray]) -> BatchedStep:
        copies, alive = len(self._drawn), self._step < STEPS
        return BatchedStep(
            observations={agent: self._seen(agent) * alive for agent in self.agents},
            masks={agent: np.ones((copies, s.action_count), np.bool_) for agent, s in self.agents.items() if s.masked},
            alive={agent: np.full(copies, alive) for agent in self.agents},
            rewards=rewards,
            state=self._drawn[:, self._step],
        )


def make(**kwargs: Any) -> Echo:
    return Echo(**kwargs)


def perfect(inputs: int, outputs: int, sharpness: float = 4.0) -> nn.Sequential:
    """A network of one hidden layer whose logits are the first observations, sharpened: x = relu(x) - relu(-x)."""
    network = make_mlp(inputs, (64,), outputs)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for index in range(outputs):
            network[0].weight[2 * index, index], network[0].weight[2 * index + 1, index] = 1.0, -1.0
            network[2].weight[index, 2 * index], network[2].weight[index, 2 * index + 1] = sharpness, -sharpness
    return network


def teach(spec: EnvSpec, *, sharpness: float = 4.0, wrong: bool = False) -> Teacher:
    """Knows the answer; groups with equal spaces share a network. `wrong` teachers know what is surely not."""
    networks: dict[AgentSpec, nn.Module] = {}
    for group in spec.groups:
        spaces = spec.group_spec(group)
        if spaces not in networks:
            sign = -1.0 if wrong else 1.0
            networks[spaces] = perfect(spaces.observation_size, spaces.actions.outputs, sign * sharpness)
    return Teacher(spec, {group: networks[spec.group_spec(group)] for group in spec.groups})


def teach_nothing(spec: EnvSpec) -> dict[str, int]:
    return {"policy": 3}


def teach_and_fail(spec: EnvSpec) -> Teacher:
    raise FileNotFoundError("weights.pt is not there")


def teach_nan(spec: EnvSpec) -> Teacher:
    network = perfect(3, 3)
    with torch.no_grad():
        network[0].weight[0, 0] = torch.nan
    return Teacher(spec, dict.fromkeys(spec.groups, network))


# Of workers.


def add(first: int, second: int) -> int:
    return first + second


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(3)


def fail() -> None:
    raise UnsendableError("a", "b")


class UnsendableError(Exception):
    """Pickles, but cannot be made again from its text."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def count_into(path: str, seconds: float) -> None:
    """Write a growing number into a file, every 5 ms."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        Path(path).write_text(str(number))
        time.sleep(0.005)
