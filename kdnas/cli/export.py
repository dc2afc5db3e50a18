"""`kdnas export`."""

from pathlib import Path
from typing import Annotated

import typer

from kdnas.cli.front import BestOption
from kdnas.cli.render import command, out


@command
def export(
    run: Annotated[Path, typer.Argument(help="Run folder of a search.")],
    trial: Annotated[int | None, typer.Option(min=0, help="Any trial that ended as COMPLETE.")] = None,
    best: BestOption = None,
    to: Annotated[Path | None, typer.Option(help="Folder to write. [default: ./student-NNNN]")] = None,
    form: Annotated[str, typer.Option("--format", help="An exporter; 'kdnas plugins' lists them.")] = "onnx",
) -> None:
    """Take one team out of a run: weights, card and artifact, in a folder of its own."""
    from kdnas.errors import ConfigError
    from kdnas.study.export import export_best, export_trial

    if (trial is None) == (best is None):
        raise ConfigError('say which team: either --trial N or --best SELECTOR, for example --best "max retention"')
    folder = export_trial(run, trial, to, form) if trial is not None else export_best(run, best or "", to, form)
    out.print(str(folder))
