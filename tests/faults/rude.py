"""The task of `echo.py`, in an environment that misbehaves in worker processes, when and as `plan.json` says.

The plan lies beside this file: `{"fault": "segfault", "seeds": 64, "first": 2, "times": 3}` crashes the process that
resets 64 copies for the third, fourth and fifth time, counted over all processes; the number of copies tells plays from
trainings. With `"every": 2` it is the third, fifth and seventh time. Without a plan it is the task itself.
"""

import ctypes
import json
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from echo import Echo
from echo import teach as teach

from kdnas.envs import BatchedStep

HERE = Path(__file__).parent


class Rude(Echo):
    """Pays `rewards` in place of its own while they are set."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._pays: float | None = None

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        self._pays = None
        if multiprocessing.parent_process() is not None:
            self._pays = misbehave(len(seeds))
        return super().reset(seeds)

    def step(self, actions: Mapping[str, np.ndarray]) -> BatchedStep:
        shown = super().step(actions)
        if self._pays is None:
            return shown
        return replace(shown, rewards={agent: rows + self._pays for agent, rows in shown.rewards.items()})


def make(**arguments: Any) -> Rude:
    return Rude(**arguments)


def misbehave(seeds: int) -> float | None:
    """Do what the plan has for this reset; a number is added to all rewards of the episode."""
    try:
        plan = json.loads((HERE / "plan.json").read_text())
    except FileNotFoundError:
        return None
    first, every = plan["first"], plan["every"]
    if seeds != plan["seeds"] or take_number() not in range(first, first + every * plan["times"], every):
        return None
    match plan["fault"]:
        case "hang":
            while True:
                time.sleep(1)
        case "segfault":
            ctypes.string_at(0)
        case "kill":  # as the kernel does it to whom it finds too large
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            exhaust_memory()
        case "error":
            raise ValueError("out of fuel")
    return {"nan": np.nan, "inf": np.inf}.get(plan["fault"])


def take_number() -> int:
    """0, 1, 2, ...: each number once, whichever process asks."""
    folder = HERE / "numbers"
    folder.mkdir(exist_ok=True)
    number = len(list(folder.iterdir()))
    while True:
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return number


def exhaust_memory() -> None:
    """Ask for more than the process may have from here on."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20), resource.RLIM_INFINITY))
    np.ones(1 << 30)
