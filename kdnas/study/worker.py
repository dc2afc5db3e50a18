"""The life of a worker process: it opens the study, and answers tasks until its pipe is closed or its parent dies."""

import ctypes
import errno
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from kdnas.errors import DiskFullError, KdnasError, describe
from kdnas.study.room import NO_ROOM, causes_of

_PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""


class TaskError(Exception):
    """What code that is not ours raised in a worker: its text says what, in which file and line.

    The exception itself stays there: some cannot be sent to another process.
    """


class OutOfMemoryError(TaskError):
    """A task that asked for more memory than there was; what it left in its process is given back with the process."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a task."""

    result: Any = None
    error: Exception | None = None
    seconds: float
    """How long the worker was busy with it."""


def serve(pipe: Connection, initializer: Callable[..., None], arguments: Sequence[Any]) -> None:
    """Say that the study is open, and answer each task (function, arguments) that comes through the pipe.

    What `initializer` raises is the answer to every task: a worker that ended would be replaced by one that ends.
    SIGTERM to a whole group is the coordinator's to handle, like SIGINT, which it keeps from its workers by itself.
    """
    signal.signal(signal.SIGTERM, _leave_it)
    die_with_parent()
    failed = _start(initializer, arguments)
    with suppress(EOFError, OSError):  # nobody listens any more
        pipe.send(None)
        while True:
            answer = _answer(_receive(pipe), failed)
            try:
                pipe.send(answer)
            except OSError:
                raise
            except Exception as error:  # what cannot be sent is found out before any of it is
                pipe.send(Answer(error=TaskError(describe(error)), seconds=answer.seconds))


def die_with_parent() -> None:
    """End this process as soon as its parent is gone, in whatever way the parent ended.

    On Linux the kernel sees to it, also for a process that is stopped, as it is while latency is measured, and for one
    that hangs inside a library. Elsewhere a thread does.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it died before it was asked for
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_outlive, args=(parent.sentinel,), daemon=True).start()


def _outlive(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _leave_it(number: int, frame: object) -> None:
    """A function, and not SIG_IGN, which whatever this process starts would inherit."""


def _start(initializer: Callable[..., None], arguments: Sequence[Any]) -> Exception | None:
    import torch

    warnings.filterwarnings("ignore")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    # Networks this small gain nothing from a second thread, lose four fifths of their speed to it on a busy machine,
    # and their sums would depend on it.
    torch.set_num_threads(1)
    try:
        initializer(*arguments)
    except Exception as error:
        return error
    return None


Task = tuple[Callable[..., Any], tuple[Any, ...]]
"""A module-level function and its arguments."""


def _receive(pipe: Connection) -> Task | Exception:
    """The next task; an error where this process cannot import it.

    Raises:
        EOFError, OSError: there will be none.
    """
    try:
        task: Task = pipe.recv()
    except (EOFError, OSError):
        raise
    except Exception as error:
        return error
    return task


def _answer(task: Task | Exception, failed: Exception | None) -> Answer:
    started = time.monotonic()
    try:
        if failed is not None:
            raise failed
        if isinstance(task, Exception):
            raise task
        function, arguments = task
        result, error = function(*arguments), None
    except Exception as raised:
        result, error = None, sendable(raised)
    return Answer(result=result, error=error, seconds=time.monotonic() - started)


def sendable(error: Exception) -> Exception:
    """An error as the coordinator is told of it, by what began it: no memory, no room on a disk, or itself.

    Those of the house travel as they are, others as their text.
    """
    causes = list(causes_of(error))
    if any(_is_memory(cause) for cause in causes):
        return OutOfMemoryError(str(error) if isinstance(error, KdnasError) else describe(error))
    if any(isinstance(cause, OSError) and cause.errno in NO_ROOM for cause in causes):
        return DiskFullError(str(error) if isinstance(error, KdnasError) else describe(error))
    return error if isinstance(error, KdnasError) else TaskError(describe(error))


def _is_memory(error: BaseException) -> bool:
    """Python and numpy say it with a class of their own; torch's class is that of all its errors, but for CUDA."""
    import torch

    said = str(error)
    torch_said = isinstance(error, RuntimeError) and ("can't allocate memory" in said or "not enough memory" in said)
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or torch_said
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    )
