"""`Leases`: how long a task may take before its worker counts as hung."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 600.0
"""No lease is shorter."""

GENEROSITY = 10.0
"""A lease is so many times as long as the longest task of its kind took; of a kind that is new, so many patiences."""


@dataclass(kw_only=True)
class Leases:
    """A lease for each kind of task, from what such tasks took so far.

    Example: with a patience of 600 s the first training may take 6000 s. When the longest so far took 30 s the next may
    take 600 s, and when it took 200 s, 2000 s. Each further attempt may take twice as long as the one before: what was
    merely slow comes through.
    """

    patience_s: float = PATIENCE_S
    longest_s: dict[str, float] = field(default_factory=dict)

    def took(self, kind: str, seconds: float) -> None:
        """Take in a task that has ended."""
        self.longest_s[kind] = max(self.longest_s.get(kind, 0.0), seconds)

    def lease_s(self, kind: str, failures: int = 0) -> float:
        """What the next attempt at a task may take, after so many that failed."""
        known = self.longest_s.get(kind)
        basis = self.patience_s if known is None else max(self.patience_s / GENEROSITY, known)
        return GENEROSITY * basis * 2.0**failures


def kind_of(task: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """Kind of a task: its function, and the switches that it is given.

    Example: plays in the twin and in the real environment, `play_team(..., False)` and `play_team(..., True)`, differ.
    """
    return " ".join([task.__name__, *(str(argument) for argument in arguments if isinstance(argument, bool))])
