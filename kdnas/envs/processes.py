"""A batch of PettingZoo copies spread over processes, for environments that take milliseconds a step."""

import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from kdnas.envs.batched import BatchedStep
from kdnas.envs.copies import Copies
from kdnas.envs.spec import AgentSpec
from kdnas.errors import EnvError, KdnasError, describe
from kdnas.policies.arrays import Actions

_CLOSING_S = 2.0
"""A process that is busy in its environment gets so long to end by itself."""


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """What a process answers when its environment raised."""

    text: str


class Processes:
    """`BatchedEnv` with the same episodes as `Copies`, stepped by several processes.

    The copies are dealt out in order, as evenly as they go: 5 copies on 2 processes are copies 0 to 2 and 3 to 4.
    `make` travels to the processes, so it must be picklable (`make.EnvMaker` is). The processes are daemons: they end
    with the one that started them.

    Raises:
        EnvError: what `Copies` raises, and when a process dies.
    """

    def __init__(self, name: str, make: Callable[[], Any], *, processes: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[Any, Connection]] = []
        self._shares: list[slice] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_serve, args=(name, make, theirs), name=f"kdnas {name}", daemon=True)
            worker.start()
            theirs.close()  # or the death of the process would go unnoticed
            self._workers.append((worker, ours))
        try:
            self.agents: Mapping[str, AgentSpec]
            self.agents, self.state_size = self._answers(processes)[0]
        except EnvError:
            self.close()
            raise

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        if not self._workers:
            raise EnvError(f"environment {self.name!r} is closed; make it again")
        each, more = divmod(len(seeds), len(self._workers))
        edges = [each * k + min(k, more) for k in range(len(self._workers) + 1)]
        # With fewer copies than processes the last ones stay idle; a batch of none is still answered.
        self._shares = [slice(low, high) for low, high in pairwise(edges) if high > low or not len(seeds)]
        return self._ask([list(seeds[share]) for share in self._shares])

    def step(self, actions: Mapping[str, Actions]) -> BatchedStep:
        return self._ask([{agent: rows[share] for agent, rows in actions.items()} for share in self._shares])

    def close(self) -> None:
        for _, pipe in self._workers:
            pipe.close()  # ends the process at its next look into the pipe
        for worker, _ in self._workers:
            worker.join(_CLOSING_S)
            if worker.is_alive():
                worker.kill()
                worker.join()
        self._workers, self._shares = [], []

    def _ask(self, requests: Sequence[object]) -> BatchedStep:
        for (_, pipe), request in zip(self._workers, requests, strict=False):
            with suppress(OSError):  # it has died: its missing answer will say so
                pipe.send(request)
        return _join(self._answers(len(requests)))

    def _answers(self, count: int) -> list[Any]:
        """One answer of each of the first processes; all are read before one is judged, to stay in step."""
        answers: list[Any] = []
        for worker, pipe in self._workers[:count]:
            try:
                answers.append(pipe.recv())
            except (EOFError, OSError):
                worker.join(_CLOSING_S)
                answers.append(_Failure(text=_obituary(self.name, worker.exitcode)))
        failures = [answer for answer in answers if isinstance(answer, _Failure)]
        if failures:
            raise EnvError(failures[0].text)
        return answers


def _join(steps: Sequence[BatchedStep]) -> BatchedStep:
    """The shares of a batch, one after the other."""

    def rows(of: Callable[[BatchedStep], Mapping[str, Any]]) -> dict[str, Any]:
        return {agent: np.concatenate([of(step)[agent] for step in steps]) for agent in of(steps[0])}

    return BatchedStep(
        observations=rows(lambda step: step.observations),
        masks=rows(lambda step: step.masks),
        alive=rows(lambda step: step.alive),
        rewards=rows(lambda step: step.rewards),
        state=np.concatenate([step.state for step in steps]),
    )


def _obituary(name: str, exit_code: int | None) -> str:
    return (
        f"environment {name!r}: a process that steps it died (exit code {exit_code}). If memory ran out, play fewer "
        "copies; a script of your own that starts processes needs `if __name__ == '__main__':`; "
        "evaluation.processes = 1 steps the environment without processes"
    )


def _serve(name: str, make: Callable[[], Any], pipe: Connection) -> None:
    """The life of one process: seeds are a reset, a table of actions is a step, a closed pipe is the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with suppress(EOFError, OSError):  # a closed pipe, whichever way it is noticed
        try:
            copies = Copies(name, make)
        except KdnasError as error:
            pipe.send(_Failure(text=str(error)))
            return
        pipe.send((copies.agents, copies.state_size))
        try:
            while True:
                pipe.send(_answer(copies, pipe.recv()))
        finally:
            copies.close()


def _answer(copies: Copies, request: list[int] | dict[str, Actions]) -> BatchedStep | _Failure:
    try:
        return copies.reset(request) if isinstance(request, list) else copies.step(request)
    except KdnasError as error:
        return _Failure(text=str(error))
    except Exception as error:
        return _Failure(text=f"environment {copies.name!r}: {describe(error)}")
