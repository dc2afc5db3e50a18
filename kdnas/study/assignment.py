"""`Assignment`: a task on its way to a worker and back, which may be begun more than once."""

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from kdnas.study.leases import kind_of


class Assignment(Future[Any]):
    """A function and its arguments, and what will have come of them.

    For `Future` it waits until it ends: what is begun again waits again. Cancelled while it runs, it takes its worker
    with it, which is replaced.
    """

    def __init__(self, task: Callable[..., Any], arguments: tuple[Any, ...], changed: Callable[[], None]) -> None:
        super().__init__()
        self.task, self.arguments = task, arguments
        self.kind = kind_of(task, arguments)
        self.failures = 0
        """How often it was begun for nothing."""
        self.lacked_room = False
        """It found the disk full."""
        self.taken = False
        """Some worker is at it."""
        self._changed = changed

    def running(self) -> bool:
        return self.taken and not self.done()

    def cancel(self) -> bool:
        cancelled = super().cancel()
        self._changed()
        return cancelled

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Say what came of it; of one that was cancelled nobody wants to know."""
        self.taken = False
        with suppress(InvalidStateError):
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(result)
