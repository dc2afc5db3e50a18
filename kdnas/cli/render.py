"""The only file that writes to the terminal, and the way every command ends when something is wrong."""

import functools
import logging
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from kdnas.errors import KdnasError

if TYPE_CHECKING:
    from kdnas.report.tables import Table

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Outside a terminal every line stays whole: logs and tables are read by scripts too.
out = Console(markup=False, highlight=False, soft_wrap=True)
err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

EXIT_DIFFERS, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130


def command(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A command whose user errors end in their sentence and exit code 2, and Ctrl-C and SIGTERM in exit code 130."""

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        warnings.filterwarnings("ignore")  # of dependencies; our own messages are errors or log records
        logging.getLogger("fvcore").setLevel(logging.ERROR)
        try:
            with _terminated_like_ctrl_c():
                return function(*args, **kwargs)
        except KdnasError as error:
            err.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
            raise typer.Exit(EXIT_ERROR) from error
        except KeyboardInterrupt as error:
            err.print("interrupted", soft_wrap=True)
            raise typer.Exit(EXIT_INTERRUPTED) from error

    return wrapped


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """While inside, SIGTERM does what Ctrl-C does at the time."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        # Ignored, as in the background of a script, it would not interrupt anything.
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    previous = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def this_command() -> str:
    """The command line as the user may type it again."""
    return shlex.join(["kdnas", *sys.argv[1:]])


def print_table(table: "Table", title: str | None = None) -> None:
    """Print a table; numbers to the right, the last column wraps."""
    rich = RichTable(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(table.header):
        last = index == len(table.header) - 1
        rich.add_column(name, justify="left" if last or index == 0 else "right", overflow="fold", no_wrap=not last)
    for row in table.rows:
        rich.add_row(*row)
    # A table keeps all its columns: in a pipe for the scripts that read it, in a narrow terminal as well as it can.
    width = max(out.width, 120) if out.is_terminal else 240
    Console(file=sys.stdout, width=width, markup=False, highlight=False).print(rich)
