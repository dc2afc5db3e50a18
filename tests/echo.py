"""A task whose numbers can be worked out by hand, its teachers, and what workers are asked to do in tests.

Each agent sees random numbers and is paid 1 for naming the largest of the first N; an episode has 5 steps. A perfect
team returns 5, random play 5 / N.

With "multi-discrete" actions it names the larger of the first two and the largest of the next three, for 1/2 each:
random play returns 5 (1/4 + 1/6) = 2.08. With "box" actions it says two numbers x again, clipped to [-1, 1], and is
paid 1 less the mean square of what it is off: random play returns 5 (1 - 1/3 - E[clip(x)^2]) = 5 (2/3 - 0.516) = 0.75.
"""

import errno
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kdnas.envs import AgentSpec, BatchedStep, EnvSpec
from kdnas.policies.actions import Box, Discrete, MultiDiscrete
from kdnas.teachers import GaussianActor, Teacher, make_mlp

STEPS = 5

ALIKE = {
    "discrete": AgentSpec(observation_size=3, actions=Discrete(3)),
    "multi-discrete": AgentSpec(observation_size=5, actions=MultiDiscrete((2, 3))),
    "box": AgentSpec(observation_size=2, actions=Box((-1.0, -1.0), (1.0, 1.0))),
}


class Echo:
    """Steps in batches: `left` and `right` see 3 numbers and have 3 actions; with `kinds` `right` sees 4 and has 2.

    Behind them all see `still` numbers that never change.
    """

    def __init__(
        self,
        *,
        actions: str = "discrete",
        kinds: bool = False,
        masked: bool = False,
        still: int = 0,
        step_s: float = 0.0,
        fails_at: int = 0,
    ) -> None:
        self.name = "echo"
        other = AgentSpec(observation_size=4, actions=Discrete(2), masked=masked)
        alike = replace(ALIKE[actions], masked=masked)
        agents = {"left": alike, "right": other if kinds else alike}
        self.agents = {
            agent: replace(spaces, observation_size=spaces.observation_size + still) for agent, spaces in agents.items()
        }
        self._still = still
        self.state_size = sum(spec.observation_size for spec in self.agents.values())
        self._step_s, self._fails_at = step_s, fails_at

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        drawn = [np.random.default_rng(seed).standard_normal((STEPS + 1, self.state_size)) for seed in seeds]
        self._drawn = np.stack(drawn).astype(np.float32)
        self._step = 0
        return self._shown({agent: np.zeros(len(seeds), np.float32) for agent in self.agents})

    def step(self, actions: Mapping[str, np.ndarray]) -> BatchedStep:
        time.sleep(self._step_s)
        rewards = {agent: self._paid(agent, chosen) for agent, chosen in actions.items()}
        self._step += 1
        if self._step == self._fails_at:
            raise ValueError("out of\nfuel")
        return self._shown(rewards)

    def close(self) -> None:
        pass

    def _seen(self, agent: str) -> np.ndarray:
        own = self.agents[agent].observation_size
        rows = self._drawn[:, self._step].copy()
        seen = rows[:, :own] if agent == "left" else rows[:, -own:]
        seen[:, own - self._still :] = 0.5
        return seen

    def _paid(self, agent: str, chosen: np.ndarray) -> np.ndarray:
        space, seen = self.agents[agent].actions, self._seen(agent)
        if isinstance(space, Box):
            return 1 - np.square(chosen - seen.clip(-1, 1)).mean(1)
        factors = np.split(seen[:, : space.outputs], np.cumsum(space.counts)[:-1], axis=1)
        right = np.stack([factor.argmax(1) for factor in factors], 1)
        return (chosen.reshape(right.shape) == right).mean(1, dtype=np.float32)

    def _shown(self, rewards: dict[str, np.ndarray]) -> BatchedStep:
        copies, alive = len(self._drawn), self._step < STEPS
        return BatchedStep(
            observations={agent: self._seen(agent) * alive for agent in self.agents},
            masks={
                agent: np.ones((copies, spaces.actions.outputs), np.bool_)
                for agent, spaces in self.agents.items()
                if spaces.masked
            },
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
            inputs, outputs, sign = spaces.observation_size, spaces.actions.outputs, -1.0 if wrong else 1.0
            if isinstance(spaces.actions, Box):  # the numbers themselves
                networks[spaces] = GaussianActor(perfect(inputs, outputs, sign), outputs)
            else:
                networks[spaces] = perfect(inputs, outputs, sign * sharpness)
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


def stumble(folder: str, times: int, how: str) -> int:
    """Come to grief in some way, so many times, counted by files in a folder; then say by which process."""
    fallen = len(list(Path(folder).glob("fall-*")))
    if fallen < times:
        (Path(folder) / f"fall-{fallen}-{os.getpid()}").touch()
        match how:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
            case "memory":
                raise ValueError("cannot play") from MemoryError("Unable to allocate 8 GiB")
            case "torch memory":
                torch.ones(1 << 45)
            case "disk":
                raise OSError(errno.ENOSPC, "No space left on device")
    return os.getpid()


def open_and_hang(path: str) -> None:
    """Say which process this is, and never end."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(3600)


def count_into(path: str, seconds: float) -> None:
    """Write a growing number into a file, every 5 ms."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        Path(f"{path}.next").write_text(str(number))
        Path(f"{path}.next").replace(path)  # never seen half-written
        time.sleep(0.005)
