"""`kdnas dashboard`."""

import errno
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from kdnas.cli.render import command, out

HOST = "127.0.0.1"
"""The dashboard has no login: it listens on loopback only."""


@command
def dashboard(
    run: Annotated[Path, typer.Argument(help="Run folder of a search, finished or running.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Serve optuna-dashboard on this run, on this machine only, until Ctrl-C."""
    from optuna_dashboard import run_server

    from kdnas.errors import RunError
    from kdnas.study.run_folder import read_run
    from kdnas.study.storage import read_study_id

    card = read_run(run)
    study_id = read_study_id(card["storage"], f"kdnas-{card['run_id']}")
    url = f"http://{HOST}:{port}/dashboard/studies/{study_id}"
    out.print(f"{url}   (Ctrl-C ends it)")
    if browser:
        webbrowser.open(url)
    try:
        run_server(card["storage"], host=HOST, port=port)
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror or error})"
        raise RunError(f"port {port} {why}; choose another with --port") from error
