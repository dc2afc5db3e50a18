"""`kdnas front`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from kdnas.cli.render import command, out, print_table


@command
def front(
    run: Annotated[Path, typer.Argument(help="Run folder of a search.")],
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects, in base units.")] = False,
) -> None:
    """Show the Pareto front of a finished search."""
    from kdnas.report.tables import front_table
    from kdnas.study.front import read_front
    from kdnas.study.run_folder import read_run

    read_run(run)
    members = read_front(run / "front.json")
    if as_json:
        out.print(json.dumps(members.as_json(), indent=2), soft_wrap=True, markup=False)
    else:
        print_table(front_table(members))
