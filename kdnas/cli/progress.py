"""How a search is watched: a live bar on a terminal, a log line now and then when it is not one."""

import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from kdnas.cli.render import err, print_table

if TYPE_CHECKING:
    from kdnas.study.preflight import Preflight
    from kdnas.study.watch import Progress as SearchProgress

LOG_EVERY_S = 10.0


class Screen:
    """A `Watch` on the terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._logged_s = float("-inf")
        self._logged_ended = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def preflight(self, report: "Preflight") -> None:
        show_preflight(report)

    def message(self, text: str) -> None:
        console = self._bar.console if self._bar is not None else err
        with suppress(OSError):  # the log may lie on the disk that is full: a search does not end for want of a line
            console.print(Text.assemble((time.strftime("%H:%M:%S"), "dim"), " ", text))

    def progress(self, progress: "SearchProgress") -> None:
        if err.is_terminal:
            self._draw(progress)
        elif progress.ended != self._logged_ended and (
            time.monotonic() - self._logged_s > LOG_EVERY_S or progress.ended == progress.total
        ):
            self._logged_s, self._logged_ended = time.monotonic(), progress.ended
            self.message(f"{progress.ended}/{progress.total} {describe(progress)}")

    def _draw(self, progress: "SearchProgress") -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("search"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"), console=err
            )
            self._bar.add_task("search", total=progress.total, told="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], total=progress.total, completed=progress.ended, told=describe(progress))
        if progress.ended >= progress.total:
            self._bar.stop()


def describe(progress: "SearchProgress") -> str:
    """Where a search stands, in one line."""
    left = progress.seconds_left
    parts = [
        f"done {progress.done}",
        f"rejected {progress.rejected}",
        f"outraced {progress.outraced}",
        f"running {progress.running}",
        f"failed {progress.failed}",
        f"trainings {progress.trainings}",
        f"best retention {progress.best_retention:.3f}" if progress.done else "best retention -",
        f"hypervolume {progress.hypervolume:.3f}",
        f"left {_minutes(left)}" if left is not None else "left -",
    ]
    return " | ".join(parts)


def show_preflight(report: "Preflight") -> None:
    """Print what the budget leaves of the space."""
    from kdnas.report.tables import preflight_table

    print_table(preflight_table(report))
    counts = ", ".join(f"{group} {count}" for group, count in report.specs_per_group.items())
    err.print(
        f"{100 * report.feasible_share:.3g} % of random candidates are feasible; students to choose from: {counts}"
    )


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
