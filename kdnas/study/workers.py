"""The processes that train and play. They never touch the storage; a task that crashes takes only itself down."""

import logging
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary

from kdnas.errors import KdnasError, RunError, describe

IDLE_WAIT_S = 0.2
"""Longest wait for a task to end before the coordinator looks at its signals again."""


class TaskError(Exception):
    """What code that is not ours raised in a worker: its text says what, in which file and line.

    The exception itself stays there: some cannot be sent to another process, and would break the pool.
    """


class Workers:
    """A pool of spawned processes, each with the study opened once.

    A worker that dies (segfault, out of memory) fails the task that it ran and is replaced. SIGINT goes to the
    coordinator alone, which decides what still ends. What `initializer` raises is raised again by every task.
    """

    def __init__(self, count: int, initializer: Callable[..., None], arguments: Sequence[Any]) -> None:
        from pebble import ProcessPool

        # Threads and processes inherit the mask: Ctrl-C in a terminal, which signals the whole group, passes them by.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._pool: Any = ProcessPool(
                max_workers=count,
                initializer=_start,
                initargs=(initializer, *arguments),
                context=multiprocessing.get_context("spawn"),
            )
            # pebble starts its threads with the first task.
            self._pool.schedule(os.getpid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        self.count = count
        self._submitted: WeakKeyDictionary[Future[Any], int] = WeakKeyDictionary()
        self._tasks = 0

    def submit(self, task: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Run a module-level function in some worker.

        Raises:
            RunError: the workers die as soon as they are started.
        """
        try:
            future: Future[Any] = self._pool.schedule(_run, args=(task, *arguments))
        except RuntimeError as error:
            raise _no_workers() from error
        self._submitted[future] = self._tasks
        self._tasks += 1
        return future

    def wait(self, futures: Sequence["Future[Any]"]) -> list["Future[Any]"]:
        """Those that have ended, after at most `IDLE_WAIT_S`, in the order in which they were submitted."""
        ended = wait(futures, timeout=IDLE_WAIT_S, return_when=FIRST_COMPLETED).done
        return sorted(ended, key=self._submitted.__getitem__)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still for as long as the block takes: latency is never measured beside a training worker."""
        children = [process.pid for process in multiprocessing.active_children() if process.pid is not None]
        _signal_all(children, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal_all(children, signal.SIGCONT)

    def close(self, *, kill: bool = False) -> None:
        """End the processes: after what they run now, or at once."""
        if kill:
            self._pool.stop()
        else:
            self._pool.close()
        self._pool.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(kill=kind is not None)


def failure_reason(error: BaseException) -> str:
    """One sentence on why a task failed."""
    from pebble import ProcessExpired

    if isinstance(error, ProcessExpired):
        code = getattr(error, "exitcode", None)
        cause = f"signal {signal.Signals(-code).name}" if isinstance(code, int) and code < 0 else f"exit code {code}"
        return f"the worker process died ({cause}); out of memory?"
    return str(error) if isinstance(error, KdnasError | TaskError) else f"{type(error).__name__}: {error}"


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
        raise _no_workers() from error
    raise RunError(f"{what}: {failure_reason(error)}") from error


def _no_workers() -> RunError:
    return RunError(
        "the worker processes die before they do anything; if memory ran out, take fewer --workers; a script of your "
        "own that searches needs `if __name__ == '__main__':`"
    )


_FAILED_START: list[Exception] = []
"""What the initializer of this worker raised."""


def _run(task: Callable[..., Any], *arguments: Any) -> Any:
    try:
        if _FAILED_START:
            raise _FAILED_START[0]
        return task(*arguments)
    except KdnasError:
        raise
    except Exception as error:
        raise TaskError(describe(error)) from error


def _start(initializer: Callable[..., None], *arguments: Any) -> None:
    import torch

    warnings.filterwarnings("ignore")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    # Networks this small gain nothing from a second thread, lose four fifths of their speed to it on a busy machine,
    # and their sums would depend on it.
    torch.set_num_threads(1)
    try:
        initializer(*arguments)
    except Exception as error:  # a worker that ends here would be replaced by one that ends here
        _FAILED_START.append(error)


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def default_workers() -> int:
    """One worker for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


