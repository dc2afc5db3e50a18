"""The processes that train and play. They never touch the storage; a task that crashes takes only itself down."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, Self
from weakref import WeakKeyDictionary

from kdnas.errors import KdnasError, RunError
from kdnas.study.crew import Crew, WorkerLostError
from kdnas.study.leases import Leases
from kdnas.study.room import Room
from kdnas.study.seat import Seat
from kdnas.study.worker import TaskError

IDLE_WAIT_S = 0.2
"""Longest wait for a task to end before the coordinator looks at its signals again."""


class Workers:
    """Spawned processes, each with the study opened once and a pipe of its own, so that none can disturb another.

    A worker that dies (killed, segfault, out of memory) or outlasts its lease is replaced, and its task is begun again,
    three times at most; what a task raises itself ends it at once. Where a task finds the disk full, all that is not
    running waits for room. SIGINT goes to the coordinator alone, which decides what still ends. What `initializer`
    raises is raised again by every task.
    """

    def __init__(
        self,
        count: int,
        initializer: Callable[..., None],
        arguments: Sequence[Any],
        *,
        leases: Leases | None = None,
        room: Room | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`say` is told of what is begun again, and `room` of a full disk, both from another thread."""
        self.count = count
        self._started = time.monotonic()
        self._crew = Crew([Seat(initializer, arguments) for _ in range(count)], leases or Leases(), room, say)
        # Threads and processes inherit the mask: Ctrl-C in a terminal, which signals the whole group, passes them by.
        # The resource tracker lifts it when it starts, so that it has to be there before.
        resource_tracker.ensure_running()
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._crew.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        self._submitted: WeakKeyDictionary[Future[Any], int] = WeakKeyDictionary()
        self._tasks = 0

    def submit(self, task: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Run a module-level function in some worker.

        Raises:
            RunError: the workers die as soon as they are started.
        """
        try:
            future = self._crew.add(task, arguments)
        except BrokenExecutor as error:
            raise _no_workers(error) from error
        self._submitted[future] = self._tasks
        self._tasks += 1
        return future

    def wait(self, futures: Sequence["Future[Any]"]) -> list["Future[Any]"]:
        """Those that have ended, after at most `IDLE_WAIT_S`, in the order in which they were submitted."""
        ended = wait(futures, timeout=IDLE_WAIT_S, return_when=FIRST_COMPLETED).done
        return sorted(ended, key=self._submitted.__getitem__)

    @property
    def some_idle(self) -> bool:
        """Whether fewer tasks are under way than there are workers."""
        return sum(not future.done() for future in self._submitted) < self.count

    @property
    def utilisation(self) -> float:
        """Share of the time since the start that workers were at tasks; opening the study is none."""
        return self._crew.busy_s / (self.count * max(time.monotonic() - self._started, 1e-9))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still for as long as the block takes: latency is never measured beside a training worker."""
        self._crew.stand_still()
        try:
            yield
        finally:
            self._crew.move()

    def close(self, *, kill: bool = False) -> None:
        """End the processes: after everything that was submitted, or at once."""
        self._crew.end(kill=kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close(kill=kind is not None)
        except BaseException:  # Ctrl-C while it waits
            self.close(kill=True)
            raise


def failure_reason(error: BaseException) -> str:
    """One sentence on why a task failed."""
    known = KdnasError | TaskError | WorkerLostError
    return str(error) if isinstance(error, known) else f"{type(error).__name__}: {error}"


def result_of(future: "Future[Any]", what: str) -> Any:
    """The result of a task that nothing can go on without; `what` begins the complaint.

    Raises:
        KdnasError: the task failed.
    """
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, KdnasError):
        raise error
    if isinstance(error, BrokenExecutor):
        raise _no_workers(error) from error
    raise RunError(f"{what}: {failure_reason(error)}") from error


def _no_workers(error: BrokenExecutor) -> RunError:
    if (cause := error.__cause__) is not None:
        return RunError(f"the workers had to be ended: {type(cause).__name__}: {cause}; repeat the command to go on")
    return RunError(
        "the worker processes die before they do anything; if memory ran out, take fewer --workers; a script of your "
        "own that searches needs `if __name__ == '__main__':`"
    )


def default_workers() -> int:
    """One worker for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
