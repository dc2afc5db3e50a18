"""`Room`: what a search does on a full disk, which is to wait until there is room."""

import errno
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from kdnas.errors import DiskFullError, ScratchError
from kdnas.units import format_quantity

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

POLL_S = 1.0
"""Between two looks whether there is room."""

LEAST, MOST = 1 << 20, 1 << 26
"""Bytes that must be free before anything goes on: twice as many each time that they were not enough."""


class Room:
    """Watches the disk of a run folder, for the coordinator and for what comes back from workers.

    The first who finds the disk full says so, whoever finds room says that too, and all of them wait.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.stopping: Callable[[], bool] = lambda: False
        """Whether Ctrl-C was pressed, where that does not interrupt by itself."""
        self._say = say
        self._lock = threading.Lock()
        self._full = False
        self._needed = LEAST

    def keep_trying(
        self, step: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Do a step that writes and that may be done again; while the disk is full, wait and repeat it.

        Raises:
            KeyboardInterrupt: Ctrl-C while it waits.
        """
        waited = False
        while True:
            try:
                result = step(*args, **kwargs)
            except Exception as error:
                if not self.lacks(error):
                    raise
                self.announce(error)
                waited = True
            else:
                if waited:
                    self.was_enough()
                return result
            looks = self.pause_s
            while True:
                time.sleep(POLL_S)
                looks -= POLL_S
                if self.stopping():
                    raise KeyboardInterrupt
                if looks <= 0 and self.is_there():
                    break

    @property
    def pause_s(self) -> float:
        """How long to wait before the first look: longer each time that there was room and it was not enough."""
        return POLL_S * self._needed / LEAST

    def lacks(self, error: BaseException) -> bool:
        """Whether an error means that the disk is full; that of temporary folders may be another one.

        Some do not say what they mean: numpy a count of bytes, SQLite "disk I/O error" where it cannot enlarge its
        index. Then a look at the disk decides.
        """
        causes = list(causes_of(error))
        if any(isinstance(cause, ScratchError) for cause in causes):
            return False
        for cause in causes:
            if isinstance(cause, DiskFullError) or (isinstance(cause, OSError) and cause.errno in NO_ROOM):
                return True
            if isinstance(cause, sqlite3.Error):
                name = getattr(cause, "sqlite_errorname", "")
                if name == "SQLITE_FULL":
                    return True
                if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and self._probe() in NO_ROOM:
                    return True
            if isinstance(cause, OSError) and cause.errno is None and self._probe() in NO_ROOM:
                return True
        return False

    def announce(self, error: BaseException) -> None:
        """Say once that everything waits, and why."""
        with self._lock:
            if self._full:
                return
            self._full = True
        needed = format_quantity(self._needed, "memory")
        self._say(
            f"the disk of {self.folder} is full ({error}); the search waits until {needed} are free and then goes on; "
            "Ctrl-C ends it"
        )

    def is_there(self) -> bool:
        """Whether there is room again; says so once."""
        if self._probe() in NO_ROOM:
            return False
        with self._lock:
            if self._full:
                self._full = False
                self._needed = min(2 * self._needed, MOST)
                self._say("there is room again; the search goes on")
        return True

    def was_enough(self) -> None:
        """What had to wait for room is written: the next one that has to begins with `LEAST` again."""
        self._needed = LEAST

    def is_elsewhere(self) -> bool:
        """Whether it must be another disk that is full: there has been room for the most that is asked for, and is."""
        return self._needed >= MOST and self._probe() is None

    def _probe(self) -> int | None:
        """What comes of writing as much as is needed: the number of the error, or None."""
        probe = self.folder / ".room.part"
        try:
            with probe.open("wb") as file:
                file.write(bytes(self._needed))
        except OSError as error:
            return error.errno
        finally:
            with suppress(OSError):
                probe.unlink()
        return None


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised from or while handling."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
