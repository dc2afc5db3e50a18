"""The command line: one file a command, each of which reads its arguments, calls one function and renders."""

import typer

from kdnas.cli import dashboard, evaluate, export, front, plugins, profile, search, target, teacher, verify

app = typer.Typer(
    name="kdnas",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Find small student teams of a multi-agent teacher, under hard budgets.

    Start with **kdnas search --budget "latency<2ms"**; then **kdnas front runs/spread**,
    **kdnas export runs/spread --best "retention>=95%, min flops"**.""",
)
app.command()(search.search)
app.command()(profile.profile)
app.command()(front.front)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command()(verify.verify)
app.command()(dashboard.dashboard)
app.command()(plugins.plugins)
app.add_typer(teacher.app, name="teacher")
app.add_typer(target.app, name="target")


def main() -> None:
    """Entry point of the `kdnas` script."""
    app()
