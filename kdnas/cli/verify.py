"""`kdnas verify`."""

from pathlib import Path
from typing import Annotated

import typer

from kdnas.cli.render import EXIT_DIFFERS, command, err, print_table


@command
def verify(
    student: Annotated[Path, typer.Argument(help="A student folder: runs/STUDY/students/NNNN, or an exported copy.")],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="onnx, c, ...: which artifact. [default: the target's]"),
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=2, help="Episodes to play. [default: as many as the card's]")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Study with environment and teacher, for a folder outside its run.")
    ] = None,
) -> None:
    """Run an artifact itself in the environment and on its target, and compare all with the card.

    Exit code 1 when something differs: changed files, other actions, a return whose interval does not meet the card's,
    other bytes, or a time more than 25 % off, after scaling with the target's reference kernel.
    """
    from kdnas.report.tables import Table
    from kdnas.study.verify import verify as run_verify

    checks = run_verify(student, form=form, episodes=episodes, study=study)
    rows = tuple((check.what, check.said, check.found, check.verdict) for check in checks)
    print_table(Table(header=("", "card", "found", "verdict"), rows=rows))
    differing = [check.what for check in checks if check.differs]
    if differing:
        err.print(f"{student}: {', '.join(differing)} {'differs' if len(differing) == 1 else 'differ'} from the card")
        raise typer.Exit(EXIT_DIFFERS)
