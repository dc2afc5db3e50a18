"""How commands end, in processes of their own."""

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import signal, sys, time
import typer
from kdnas.cli.render import command

app = typer.Typer()

@app.command()
@command
def wait(ignored: bool = False) -> None:
    if ignored:  # as a shell does it for what it runs in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(60)

app()
"""


@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGINT, []), (signal.SIGTERM, []), (signal.SIGTERM, ["--ignored"])]
)
def test_a_command_that_is_told_to_end_says_so(number: signal.Signals, options: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a script runs in the background inherits that Ctrl-C is ignored, and these tests may be that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    os.kill(process.pid, number)
    said = process.communicate(timeout=30)[1]
    assert (process.returncode, said) == (130, "interrupted\n")
    assert time.monotonic() - started < 20
