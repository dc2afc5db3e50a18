"""Ctrl-C in two steps: the first asks the search to end what runs, the second ends it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class _Stop:
    event: threading.Event

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            raise KeyboardInterrupt
        self.event.set()


@contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """While inside, the first Ctrl-C sets the event and the second one interrupts."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals belong to the main thread; whoever called from another one ends the search otherwise
        return
    previous = signal.signal(signal.SIGINT, _Stop(event))
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
