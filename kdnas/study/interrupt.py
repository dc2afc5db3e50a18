"""Ctrl-C in a search."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

ONCE_MORE_S = 0.05
"""How long after Ctrl-C met Python where it raises nothing it is sent again."""


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
    stop = CtrlC()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals belong to the main thread; whoever called from another one ends the search otherwise
        return
    hook, sent = sys.unraisablehook, list[threading.Timer]()

    def send_again(lost: "UnraisableHookArgs") -> None:  # it met a callback or the end of some object
        if not isinstance(lost.exc_value, SearchInterrupted):
            hook(lost)
            return
        main = threading.main_thread().ident
        sent.append(threading.Timer(ONCE_MORE_S, signal.pthread_kill, (main, signal.SIGINT)))
        sent[-1].start()

    previous = signal.signal(signal.SIGINT, stop)
    sys.unraisablehook = send_again
    try:
        yield stop
    except Exception as error:
        if stop.raised:
            raise SearchInterrupted from error
        raise
    finally:
        for timer in sent:
            timer.cancel()
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, previous)
