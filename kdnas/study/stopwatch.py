"""`Stopwatch`: how much of the time went into one thing."""

import time


class Stopwatch:
    """Adds up the seconds inside its `with` blocks, which must not lie inside one another.

    Example: two blocks of a second in the first ten seconds of its life are a share of 0.2.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._born = self._entered = time.monotonic()

    @property
    def share(self) -> float:
        """Of the time since it was made."""
        return self.seconds / max(time.monotonic() - self._born, 1e-9)

    def __enter__(self) -> None:
        self._entered = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._entered
