"""`kdnas target`: where students can run."""

import typer

from kdnas.cli.render import command, print_table

app = typer.Typer(no_args_is_help=True, help="Devices and runtimes on which students are measured.")


@app.command("list")
@command
def list_targets() -> None:
    """List the targets, what each measures, and what must be installed before it can."""
    from kdnas.report.tables import targets_table
    from kdnas.study.targets import list_targets as found

    print_table(targets_table(found()))
