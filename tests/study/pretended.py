"""The coordinator with workers that are none: each task ends as it is told, when it is told."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

from kdnas.distill.stage import Stage
from kdnas.students import Student, load_family
from kdnas.study.device_profile import fresh_profile
from kdnas.study.objective import Objective
from kdnas.study.run_folder import open_run
from kdnas.study.search import make_gate, make_objective
from kdnas.study.setup import Setup
from kdnas.study.tasks import make_bank, play_team, train_student

TEACHER, RANDOM = 5.0, 5 / 3
"""What both return in every episode."""


class Asked(Future[Any]):
    """A task's future that ends it when it is asked for what came of it."""

    def __init__(self, workers: "Pretended") -> None:
        super().__init__()
        self._workers = workers

    def exception(self, timeout: float | None = None) -> BaseException | None:
        if not self.done():
            self._workers.wait([self])
        return super().exception(timeout)


class Pretended:
    """Takes tasks, and ends the oldest one a wait."""

    count = 2

    def __init__(self, setup: Setup, run: Path) -> None:
        self.setup, self.bank = setup, make_bank(setup, run)
        self.tasks: list[tuple[str, Any, tuple[Any, ...], Future[Any]]] = []
        self.log: list[str] = []
        self.outcomes: dict[str, BaseException] = {}
        self.returns = 4.0
        """Of every episode that students play."""
        self.other: dict[str, Any] = {}
        """Name of a play -> what it returns instead."""

    def submit(self, task: Any, *arguments: Any) -> "Future[Any]":
        future = Asked(self)
        self.tasks.append((name_of(task, arguments), task, arguments, future))
        return future

    @property
    def some_idle(self) -> bool:
        return len(self.tasks) < self.count

    def wait(self, futures: Sequence["Future[Any]"]) -> list["Future[Any]"]:
        for entry in self.tasks:
            name, task, arguments, future = entry
            if future in futures and not future.cancelled():
                self.tasks.remove(entry)
                self.end(name, task, arguments, future)
                return [future]
        return []

    def end(self, name: str, task: Any, arguments: Any, future: "Future[Any]") -> None:
        self.log.append(name)
        if name in self.outcomes:
            future.set_exception(self.outcomes[name])
        elif task is play_team:
            played = self.other.get(name, self.returns)
            future.set_result(np.broadcast_to(np.asarray(played, np.float64), len(arguments[1])).copy())
        else:
            self.store(*arguments)
            future.set_result(None)

    def store(self, group: str, stage: Stage) -> None:
        """What a training leaves behind."""
        pool = self.setup.pools[group]
        network = load_family("mlp").build(stage.spec, pool.spaces, torch.Generator().manual_seed(0))
        self.bank.store(pool, Student(stage.spec, pool.spaces, network), stage)


def name_of(task: Any, arguments: tuple[Any, ...]) -> str:
    """`train left mlp 8 float, rung 1`, `play left mlp 8 float, rung 1` among teachers, `team 8-4 of 16 episodes`."""
    if task is train_student:
        return f"train {arguments[0]} {arguments[1]}"
    players, seeds = arguments[:2]
    if len(players) == 1:
        ((group, stage),) = players.items()
        return f"play {group} {stage}"
    return f"team {'-'.join(str(stage.spec.hidden[0]) for stage in players.values())} of {len(seeds)} episodes"


def make_study() -> "optuna.Study":
    """A study in memory, with a sampler that learns nothing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )


def pretend(setup: Setup, path: Path, study: "optuna.Study | None" = None) -> Objective:
    """An objective whose workers are none; the teacher returns 5 in every episode, and random play 5 / 3."""
    run = open_run(path, setup, None)
    run.lock.release()
    episodes = setup.config.evaluation.search_episodes
    target = setup.make_target()
    return make_objective(
        setup,
        run.returns,
        make_bank(setup, path),
        study if study is not None else make_study(),
        make_gate(setup, target, fresh_profile(target)),
        Pretended(setup, path),  # type: ignore[arg-type]
        (np.full(episodes, TEACHER), np.full(episodes, RANDOM)),
    )


UNITS = {12: 0.25, 8: 0.5, 6: 0.625, 4: 0.75}
"""Width -> share of 16 units that is pruned."""


def parameters(left: int, right: int) -> dict[str, Any]:
    """Those of a team, by its widths."""
    ratios = {"left.0.prune.0": UNITS[left], "right.0.prune.0": UNITS[right]}
    return ratios | {"left.base": 0, "right.base": 0, "left.bits": "float", "right.bits": "float"}


def ask(objective: Objective, left: int, right: int) -> None:
    """Ask for a team by its widths."""
    objective.drafts.enqueue(parameters(left, right))
    objective.ask()


def finish(objective: Objective) -> None:
    """Go on until nothing is left to do."""
    for _ in range(100):
        objective.advance()
        if not objective.busy:
            return
        objective.settle()
    raise AssertionError("it does not end")


def last(objective: Objective) -> Any:
    return objective.drafts.stored.get_trials()[-1]


def log_of(objective: Objective) -> list[str]:
    workers = objective.workers
    assert isinstance(workers, Pretended)
    return workers.log
