"""`kdnas evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from kdnas.cli.render import command, print_table


@command
def evaluate(
    path: Annotated[
        Path, typer.Argument(metavar="STUDENT_OR_RUN", help="A student folder, or a run: its whole front.")
    ],
    episodes: Annotated[int, typer.Option(min=2, help="Episodes, the same for students, teacher and random.")] = 500,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Episodes derive from it; the study's own plays its final episodes again. [default: the study's + 1]",
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Study with environment and teacher, for a student folder outside its run.")
    ] = None,
) -> None:
    """Play students again in the real environment, beside the teacher and random play."""
    from kdnas.report.tables import Table
    from kdnas.study.evaluate import evaluate as run_evaluate

    scores = run_evaluate(path, episodes=episodes, seed=seed, study=study)
    rows = [
        (
            name,
            f"{score.returned.mean:.3f}",
            f"{score.returned.low:.3f} to {score.returned.high:.3f}",
            f"{score.retention.mean:.3f}",
            f"{score.retention.low:.3f} to {score.retention.high:.3f}",
        )
        for name, score in scores.items()
    ]
    header = ("team", "return", "95 % interval", "retention", "95 % interval")
    print_table(Table(header=header, rows=tuple(rows)))
