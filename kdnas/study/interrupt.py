"""Ctrl-C in a search."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C: what ran has ended and is kept; the same call goes on."""


@dataclass
class CtrlC:
    """Ends a search at once, or asks it to end what runs first where it may (`gently`); the second one ends it anyway.

    It is remembered, for a library that is just being imported, or called from C, may take the exception for an error
    of its own, or for nothing at all.
    """

    pressed: bool = False
    raised: bool = False
    """Whether it has been raised, wherever that went."""
    _gentle: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        first, self.pressed = not self.pressed, True
        if first and self._gentle:
            return
        self.raised = True
        raise SearchInterrupted

    @contextmanager
    def gently(self) -> Iterator[None]:
        """While inside, the first one only leaves a note in `pressed`; afterwards the search ends.

        Raises:
            SearchInterrupted: it was pressed.
        """
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False
        self.check()

    def check(self) -> None:
        """End here what should have ended before.

        Raises:
            SearchInterrupted: it was pressed.
        """
        if self.pressed:
            raise SearchInterrupted


@contextmanager
def ctrl_c() -> Iterator[CtrlC]:
    """While inside, Ctrl-C is a search's.

    Raises:
        SearchInterrupted: it was pressed, also where something made another error of it.
    """
    pressed = CtrlC()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # signals belong to the main thread; whoever called from another one ends the search otherwise
        return
    previous = signal.signal(signal.SIGINT, pressed)
    try:
        yield pressed
    except Exception as error:
        if pressed.raised:
            raise SearchInterrupted from error
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
