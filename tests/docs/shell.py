"""Runs the commands and Python blocks of a page one after the other in one process, so that imports are paid once.

    python shell.py < steps.json

A step is `["console", "kdnas front runs/spread"]` or `["python", "import kdnas"]`. What each wrote goes to stdout as a
JSON list; at the first step that fails it says which, and ends with exit code 1.
"""

import contextlib
import io
import json
import runpy
import shlex
import sys
import traceback

from typer.testing import CliRunner

from kdnas.cli.app import app


def run_command(line: str) -> str:
    words = shlex.split(line)
    if words[0] == "python":
        return run_python(lambda: runpy.run_path(words[1], run_name="__main__"))
    ended = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    if ended.exit_code and not (words[1] == "verify" and only_times_differ(ended.stdout)):
        raise RuntimeError(f"exit code {ended.exit_code}: {ended.output}")
    return ended.stdout


def only_times_differ(table: str) -> bool:
    """What `kdnas verify` may say on a busy machine, of which a test of a page is no judge."""
    differing = [line for line in table.splitlines() if line.rstrip().endswith("differs")]
    return bool(differing) and all(line.startswith("time of ") for line in differing)


def run_python(block) -> str:
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        block()
    return written.getvalue()


def main() -> int:
    sys.path.insert(0, "")
    outputs = []
    for kind, text in json.load(sys.stdin):
        try:
            if kind == "console":
                outputs.append(run_command(text))
            else:
                code = compile(text, "<page>", "exec")
                outputs.append(run_python(lambda code=code: exec(code, {"__name__": "__main__"})))
        except BaseException:
            print(f"{text}\n{traceback.format_exc()}", file=sys.stderr)
            return 1
    json.dump(outputs, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
