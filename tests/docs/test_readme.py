"""What the README says can be done is done, in small form and in one run."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import typer

from kdnas.budgets import parse_budget
from kdnas.cli.app import app
from kdnas.study.selector import parse_selector

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")

COMMANDS = re.findall(r"^\|.*\| `(kdnas [^`]+)` \|$", TEXT, re.MULTILINE)
"""The examples in the table of commands."""

RUN = "runs/spread"
SMALLER = (
    (r"kdnas search \w+ (.*) --trials \d+", rf"kdnas search spread_tiny \1 --trials 3 --workers 2 --out {RUN}"),
    (r"--episodes \d+", "--episodes 20"),
    (r"(kdnas teacher evaluate .*)", r"\1 --episodes 20"),
    (r"(kdnas teacher train .*)", r"\1 --steps 6400"),
    (r"retention>=95%", "retention>=1%"),
    # The run that is there is taken up, and has all its trials.
    (r'trials=\d+, out="[\w/]+"', f'trials=3, out="{RUN}"'),
)
"""Pattern -> what takes its place here: the same, in less time."""


def smaller(text: str) -> str:
    for pattern, instead in SMALLER:
        text = re.sub(pattern, instead, text)
    return text


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, read_steps, run_steps):
    """What each command of the table and each Python block wrote; all but the dashboard, which does not end."""
    folder = tmp_path_factory.mktemp("readme")
    steps = [("console", command) for command in COMMANDS if "dashboard" not in command]
    steps += [step for step in read_steps(README) if step[0] == "python" or step[1].startswith("kdnas ")]
    wrote = run_steps(folder, [(kind, smaller(text)) for kind, text in steps])
    return {"folder": folder} | dict(zip([text for _, text in steps], wrote, strict=True))


def leaves(group: typer.Typer, *names: str) -> Iterator[str]:
    click = typer.main.get_command(group)
    for name, command in click.commands.items():
        nested = getattr(command, "commands", None)
        yield from (" ".join([*names, name, own]) for own in nested) if nested else [" ".join([*names, name])]


def test_every_command_has_a_line_and_an_example():
    named = re.findall(r"^\| `kdnas ([a-z ]+)` \|", TEXT, re.MULTILINE)
    assert sorted(named) == sorted(leaves(app))
    examples = [
        next(name for name in sorted(named, reverse=True) if f"{c} ".startswith(f"kdnas {name} ")) for c in COMMANDS
    ]
    assert examples == named


def test_make_does_what_it_says():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^(?:\$ )?make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert 'kdnas search --budget "latency<2ms"' in TEXT
    assert 'kdnas search --budget "latency<2ms"' in makefile


def test_it_is_no_longer_than_a_page():
    assert len(TEXT.splitlines()) < 200


def test_links_lead_somewhere():
    for page in (README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_budgets_and_selectors_can_be_read():
    grammar = re.search(r"^\[SCOPE\.\]METRIC .*?NUMBER\[UNIT\] +(.*)$", TEXT, re.MULTILINE)
    assert grammar is not None
    assert len(parse_budget(grammar[1].split()).constraints) >= 4
    sentence = re.search(r"A selector is .*?\n\n", TEXT, re.DOTALL)
    assert sentence is not None
    for selector in re.findall(r'`"(.*?)"`', sentence[0]):
        parse_selector(selector)


@pytest.mark.slow
def test_the_commands_and_blocks_run(outputs):
    assert re.search(r"^trial +retention ", outputs[next(c for c in COMMANDS if "kdnas search" in c)], re.MULTILINE)
    assert (outputs["folder"] / "my-teacher/teacher.safetensors").is_file()
    exported = list(outputs["folder"].glob("student-*"))
    assert len(exported) == 1
    said = re.search(r"^A student folder.*?(?=^## )|^## A student folder$.*?(?=^## )", TEXT, re.DOTALL | re.MULTILINE)
    assert said is not None
    files = {path.name for path in exported[0].iterdir()}
    assert files == set(re.findall(r"`((?:student|team|README)\.\w+)`", said[0]))
    look_at_the_dashboard(outputs["folder"])  # no test of its own: the run might be made twice, by two processes


def look_at_the_dashboard(folder):
    command = next(command for command in COMMANDS if "dashboard" in command).split()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with started([*command, "--no-browser", "--port", str(port)], folder) as server:
        url = server.stdout.readline().split()[0]
        assert url.startswith(f"http://127.0.0.1:{port}/dashboard/studies/")
        assert b"<html" in fetch(url).lower()
        study = url.rpartition("/")[2]
        assert b"retention" in fetch(f"http://127.0.0.1:{port}/api/studies/{study}")
        assert interrupt(server) in (0, 130)


@contextmanager
def started(command: list[str], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A `kdnas` that runs until the block ends."""
    program = Path(sys.executable).with_name(command[0])
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [program, *command[1:]],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        # As a terminal would start it: jobs in the background ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def interrupt(process: "subprocess.Popen[str]") -> int | None:
    """Ctrl-C, and its exit code. Python's own web server shrugs one off that meets it in the middle of an answer."""
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            continue
    return None


def fetch(url: str) -> bytes:
    """The body of a page, waited for while its server starts."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urlopen(url, timeout=10) as answer:
                assert answer.status == 200
                return answer.read()
        except OSError:  # not there yet, or it stalls
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
