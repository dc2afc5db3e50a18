"""`Watch`: how a search tells what it is doing. The library itself prints nothing."""

from dataclasses import dataclass
from typing import Protocol

from kdnas.study.preflight import Preflight


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a search stands."""

    total: int
    before: int
    """Trials that an earlier part of this search ended: `seconds` say nothing of them."""
    done: int
    """Trials that were played."""
    rejected: int
    """Trials that the gate refused, untrained."""
    outraced: int
    """Trials that were left behind, half trained or half played."""
    failed: int
    running: int
    trainings: int
    """Stages that this search trained: of ancestors, and of students rung by rung."""
    best_retention: float
    hypervolume: float
    seconds: float

    @property
    def ended(self) -> int:
        return self.done + self.rejected + self.outraced + self.failed

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before five trials were played, and before five ended in this part."""
        ended = self.ended - self.before
        return self.seconds / ended * (self.total - self.ended) if min(self.done, ended) >= 5 else None


class Watch(Protocol):
    """Called by the coordinator, between its own steps; it may take milliseconds and must not raise."""

    def preflight(self, report: Preflight) -> None:
        """Once, before anything is trained."""
        ...

    def message(self, text: str) -> None:
        """A new phase, or something that the user should know; of workers and of a full disk, from another thread."""
        ...

    def progress(self, progress: Progress) -> None:
        """Whenever a trial starts or ends, and a few times a second."""
        ...


class Silent:
    """Watches nothing."""

    def preflight(self, report: Preflight) -> None:
        return

    def message(self, text: str) -> None:
        return

    def progress(self, progress: Progress) -> None:
        return
