"""Reading pages, and running what stands in them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

SHELL = Path(__file__).parent / "shell.py"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

Step = tuple[str, str]
"""`console` and a command line, or `python` and a block."""


@pytest.fixture(scope="session")
def read_steps() -> Callable[[Path], list[Step]]:
    """What a page tells its reader to run, in its order: the lines of console blocks, and the Python blocks."""

    def read(page: Path) -> list[Step]:
        steps: list[Step] = []
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind == "python":
                steps.append(("python", text))
            elif kind in ("console", "bash"):
                lines = [line.removeprefix("$ ").partition("  #")[0].strip() for line in text.splitlines()]
                steps += [("console", line) for line in lines if line]
        return steps

    return read


@pytest.fixture(scope="session")
def run_steps() -> Callable[..., list[str]]:
    """Run steps in a folder; what each wrote. Fails with the output of the first that does not end well."""

    def run(folder: Path, steps: Sequence[Step], **environment: str) -> list[str]:
        ended = subprocess.run(
            [sys.executable, str(SHELL)],
            cwd=folder,
            env=os.environ | environment,
            input=json.dumps(steps),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        outputs: list[str] = json.loads(ended.stdout.splitlines()[-1])
        return outputs

    return run
