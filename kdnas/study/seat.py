"""`Seat`: a place for one worker, and the process that has it at present."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

from kdnas.study.assignment import Assignment
from kdnas.study.worker import serve

ENDING_S = 5.0
"""A process that was asked to end gets so long to do it by itself."""


class Seat:
    """A process with a pipe that nobody else has: whatever becomes of it, what others say comes through."""

    def __init__(self, initializer: Callable[..., None], arguments: Sequence[Any]) -> None:
        self.pipe: Connection | None = None
        self.ready = False
        """The process has opened the study."""
        self.assignment: Assignment | None = None
        self.spent_s = 0.0
        """What it took so far: of its start, or of its assignment; time in which everything stood still is none."""
        self.failed_starts = 0
        self._serves = (initializer, tuple(arguments))
        self._process: Any = None

    def start(self) -> None:
        """Spawn a process; it says by itself when it is ready.

        Raises:
            OSError: there can be none now.
        """
        self.pipe, theirs = Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, *self._serves), name="kdnas worker"
        )
        try:
            process.start()
        except OSError:
            self.pipe.close()
            self.pipe = None
            raise
        finally:
            theirs.close()  # or its death would go unnoticed
        self._process, self.ready, self.spent_s = process, False, 0.0

    @property
    def sentinel(self) -> int:
        """Becomes readable when the process ends."""
        sentinel: int = self._process.sentinel
        return sentinel

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.exitcode is None

    def signal(self, number: signal.Signals) -> None:
        """Signal the process, if there is one."""
        if self.alive:
            with suppress(ProcessLookupError):  # a moment ago it was
                os.kill(self._process.pid, number)

    def give(self, assignment: Assignment) -> None:
        """Hand a task to a process that has none.

        Raises:
            OSError: it has died.
        """
        assert self.pipe is not None
        self.pipe.send((assignment.task, assignment.arguments))
        self.assignment, self.spent_s = assignment, 0.0
        assignment.taken = True

    def take_back(self) -> Assignment | None:
        """The task that the process had."""
        assignment, self.assignment = self.assignment, None
        if assignment is not None:
            assignment.taken = False
        return assignment

    def vacate(self, *, kill: bool) -> str:
        """End the process, and say how it ended: `signal SIGSEGV`, `exit code 3`.

        One that is asked to end (not killed) does so when it next looks into its pipe.
        """
        process, pipe = self._process, self.pipe
        self._process = self.pipe = None
        self.ready = False
        if pipe is not None:
            pipe.close()
        if process is None:
            return "no process"
        if not kill:
            process.join(ENDING_S)
        if process.exitcode is None:
            with suppress(ProcessLookupError):
                process.kill()
            process.join()
        code = process.exitcode
        process.close()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
