"""What each student of a front loses alone, as a table."""

from collections.abc import Mapping

from kdnas.evaluation.score import Interval
from kdnas.report.tables import Table


def losses_table(losses: Mapping[int, Mapping[str, Interval]]) -> Table:
    """One row a trial: the sum of its students' losses, and each with its 95 % interval, the largest first."""
    rows = []
    for trial, own in sorted(losses.items()):
        ordered = sorted(own.items(), key=lambda item: (-item[1].mean, item[0]))
        each = ", ".join(f"{group} {loss.mean:.3f} ± {(loss.high - loss.low) / 2:.3f}" for group, loss in ordered)
        rows.append((str(trial), f"{sum(loss.mean for loss in own.values()):.3f}", each))
    return Table(header=("trial", "lost in all", "lost by each student alone among teachers"), rows=tuple(rows))
