"""`Crew`: the thread that keeps a worker in every seat, hands them tasks and takes in what comes of them."""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from multiprocessing import connection
from typing import Any

from kdnas.errors import DiskFullError, describe
from kdnas.study.assignment import Assignment
from kdnas.study.leases import Leases
from kdnas.study.room import POLL_S, Room
from kdnas.study.seat import Seat
from kdnas.study.worker import Answer, OutOfMemoryError, TaskError

TICK_S = 0.5
"""Longest time between two looks at the leases and at who is still alive."""

ATTEMPTS = 3
"""How often a task is begun whose worker dies, hangs or runs out of memory; and a worker that dies as it starts."""

START_PAUSE_S = 5.0
"""Where the system has no process or no memory for a worker, it is asked again after so long."""


class WorkerLostError(Exception):
    """A task that no worker came back from, as often as it was begun; its text says why."""


class Crew(threading.Thread):
    """Starts the workers and hands out what is queued, until it is told to end or no worker can be had.

    One thread starts them all, for as long as they live: the kernel ends them with the thread that they come from.
    """

    def __init__(self, seats: Sequence[Seat], leases: Leases, room: Room | None, say: Callable[[str], None]) -> None:
        super().__init__(name="kdnas workers", daemon=True)
        self.busy_s = 0.0
        """Seconds that workers were at tasks, summed over them."""
        self._seats, self._leases, self._room, self._say = seats, leases, room, say
        self._full_until: float | None = None
        """When to look for room on the disk; None while there is some."""
        self._refused_until: float | None = None
        """When to ask for a process again; None while there are some."""
        self._queue: deque[Assignment] = deque()
        self._lock = threading.Lock()
        """Of the queue, of the switches, and of which processes there are."""
        self._ending = self._killing = self._paused = self._over = self._rung = False
        self._broken: BaseException | None = None
        """What ended this thread before it was told to end."""
        self._heard, self._bell = connection.Pipe(duplex=False)

    def add(self, task: Callable[..., Any], arguments: tuple[Any, ...]) -> Assignment:
        """Queue a task.

        Raises:
            BrokenExecutor: there are no workers any more.
        """
        assignment = Assignment(task, arguments, self._ring)
        with self._lock:
            if self._over:
                raise BrokenExecutor("there are no workers any more") from self._broken
            self._queue.append(assignment)
        self._ring()
        return assignment

    def stand_still(self) -> None:
        """Stop every process where it is, and begin nothing."""
        with self._lock:
            self._paused = True
            for seat in self._seats:
                seat.signal(signal.SIGSTOP)

    def move(self) -> None:
        """Go on after `stand_still`."""
        with self._lock:
            self._paused = False
            for seat in self._seats:
                seat.signal(signal.SIGCONT)
        self._ring()

    def end(self, *, kill: bool) -> None:
        """End the processes: after everything that was queued, or at once."""
        with self._lock:
            self._ending = True
            self._killing = kill
        self._ring()
        self.join()

    def _ring(self) -> None:
        """Wake the thread."""
        if not self._rung:
            self._rung = True
            self._bell.send_bytes(b".")

    def run(self) -> None:
        error = BrokenExecutor("the workers have been ended")
        try:
            last = time.monotonic()
            while self._go_on():
                self._start_processes()
                self._hand_out()
                doors = [item for seat in self._seats if seat.pipe for item in (seat.pipe, seat.sentinel)]
                heard = connection.wait([self._heard, *doors], TICK_S)
                if self._heard in heard:
                    self._heard.recv_bytes()
                    self._rung = False
                # While this process itself is stopped or starved, no lease runs out.
                passed_s, last = min(time.monotonic() - last, 2 * TICK_S), time.monotonic()
                for seat in self._seats:
                    self._look_after(seat, heard, passed_s)
        except BaseException as raised:
            error.__cause__ = self._broken = raised
        finally:
            self._dismiss(error)

    def _go_on(self) -> bool:
        with self._lock:
            if self._killing or not any(seat.failed_starts < ATTEMPTS for seat in self._seats):
                return False
            return not self._ending or bool(self._queue) or any(seat.assignment for seat in self._seats)

    def _start_processes(self) -> None:
        with self._lock:
            if self._refused_until is not None and time.monotonic() < self._refused_until:
                return
            for seat in self._seats:
                if seat.pipe is None and not self._paused and seat.failed_starts < ATTEMPTS:
                    try:
                        seat.start()
                    except OSError as error:  # no more processes, or no memory for one
                        if self._refused_until is None:
                            self._say(f"a worker cannot be started ({error.strerror or error}); asking again")
                        self._refused_until = time.monotonic() + START_PAUSE_S
                        return
                    self._refused_until = None

    def _hand_out(self) -> None:
        if self._full_until is not None and self._room is not None and time.monotonic() >= self._full_until:
            self._full_until = None if self._room.is_there() else time.monotonic() + POLL_S
        for seat in self._seats:
            while seat.ready and seat.assignment is None and (assignment := self._next()) is not None:
                try:
                    seat.give(assignment)
                except OSError:  # it died while it was idle
                    self._put_back(assignment)
                    self._replace(seat, kill=True)
                except Exception as error:  # it cannot be sent
                    assignment.end(error=TaskError(describe(error)))

    def _next(self) -> Assignment | None:
        with self._lock:
            if self._paused or self._full_until is not None:
                return None
            while self._queue:
                assignment = self._queue.popleft()
                if not assignment.cancelled():
                    return assignment
                assignment.set_running_or_notify_cancel()
            return None

    def _put_back(self, assignment: Assignment) -> None:
        with self._lock:
            self._queue.appendleft(assignment)

    def _look_after(self, seat: Seat, heard: Sequence[Any], passed_s: float) -> None:
        if seat.pipe is None:
            return
        if seat.pipe in heard:
            self._receive(seat)
        elif not seat.alive:
            self._lose(seat)
        elif seat.assignment is not None and seat.assignment.cancelled():
            assignment = seat.take_back()
            self._replace(seat, kill=True)
            assert assignment is not None
            assignment.set_running_or_notify_cancel()
        elif not self._paused and (seat.assignment is not None or not seat.ready):
            seat.spent_s += passed_s
            kind, failures = ("start", seat.failed_starts)
            if seat.assignment is not None:
                kind, failures = seat.assignment.kind, seat.assignment.failures
            lease_s = self._leases.lease_s(kind, failures)
            if seat.spent_s > lease_s:
                self._lose(
                    seat,
                    f"it hung: no answer after {lease_s:,.0f} s; raise search.patience_s if it is only slow",
                )

    def _receive(self, seat: Seat) -> None:
        """Take in what a worker says: that it is ready, or what came of its task."""
        assert seat.pipe is not None
        try:
            said: Answer | None = seat.pipe.recv()
        except (EOFError, OSError):  # it died, perhaps in the middle of it
            self._lose(seat)
            return
        except Exception as error:  # it cannot be read
            said = Answer(error=TaskError(describe(error)), seconds=seat.spent_s)
        if said is None:
            self._leases.took("start", seat.spent_s)
            seat.ready, seat.failed_starts = True, 0
            return
        assignment = seat.take_back()
        self.busy_s += said.seconds
        if assignment is None:
            return
        if said.error is None:
            self._leases.took(assignment.kind, said.seconds)
            if assignment.lacked_room and self._room is not None:
                self._room.was_enough()
            assignment.end(said.result)
        elif isinstance(said.error, OutOfMemoryError):
            self._replace(seat, kill=True)
            self._begin_again(assignment, f"out of memory: {said.error}")
        elif isinstance(said.error, DiskFullError) and self._room is not None:
            if self._room.is_elsewhere():
                self._begin_again(assignment, f"a disk is full, and it is not that of the run: {said.error}")
                return
            assignment.lacked_room = True
            self._put_back(assignment)
            self._room.announce(said.error)
            self._full_until = time.monotonic() + self._room.pause_s
        else:
            assignment.end(error=said.error)

    def _lose(self, seat: Seat, cause: str = "") -> None:
        """A worker has died, or hangs for the given cause."""
        assignment, ready = seat.take_back(), seat.ready
        how = self._replace(seat, kill=bool(cause))
        if assignment is not None:
            self.busy_s += seat.spent_s
            self._begin_again(assignment, cause or f"the worker process died ({how}); out of memory?")
        elif not ready:
            seat.failed_starts += 1
            if seat.failed_starts == ATTEMPTS and any(other.failed_starts < ATTEMPTS for other in self._seats):
                self._say(f"a worker died {ATTEMPTS} times as it started ({cause or how}); going on without it")

    def _begin_again(self, assignment: Assignment, cause: str) -> None:
        assignment.failures += 1
        if assignment.failures >= ATTEMPTS:
            assignment.end(error=WorkerLostError(f"{cause} (tried {ATTEMPTS} times)"))
        else:
            self._put_back(assignment)
            self._say(f"{assignment.kind} is begun again: {cause}")

    def _replace(self, seat: Seat, *, kill: bool) -> str:
        with self._lock:
            return seat.vacate(kill=kill)

    def _dismiss(self, error: BrokenExecutor) -> None:
        """Leave no process and nobody waiting."""
        with self._lock:
            self._over = True
            left = [*self._queue, *(seat.take_back() for seat in self._seats)]
            self._queue.clear()
        for assignment in left:
            if assignment is not None and assignment.cancelled():
                assignment.set_running_or_notify_cancel()
            elif assignment is not None:
                assignment.end(error=error)
        for seat in self._seats:
            if seat.pipe is not None and not self._killing:
                seat.pipe.close()  # all of them end at the same time
        for seat in self._seats:
            self._replace(seat, kill=self._killing)
