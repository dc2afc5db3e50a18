"""The package that CONTRIBUTING prints is installed as a user would, and does what its page says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
FILES = ("pyproject.toml", "kdnas_example.py", "test_kdnas_example.py", "example.toml", "example_space.toml")


def printed() -> dict[str, str]:
    """The files of the page: each is named before its block, and blocks come in the order of `FILES`."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:toml|python)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    places = [text.index(f"`{name}`") for name in FILES]
    assert places == sorted(places)
    return dict(zip(FILES, blocks, strict=True))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The printed files in a folder; what pip made of them is in `site` there."""
    folder = tmp_path_factory.mktemp("example")
    for name, content in printed().items():
        (folder / name).write_text(content, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    ended = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name in ("kdnas_example.py", "pyproject.toml"):
        (folder / name).unlink()  # what is used is what was installed
    return folder


@pytest.mark.slow
def test_its_own_tests_pass(package):
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_kdnas_example.py"],
        cwd=package,
        env=os.environ | {"PYTHONPATH": str(package / "site")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "5 passed" in ended.stdout


@pytest.mark.slow
def test_the_commands_of_the_page(package, read_steps, run_steps):
    commands = [text for kind, text in read_steps(PAGE) if kind == "console" and text.startswith("kdnas ")]
    assert [command.split()[1] for command in commands] == ["plugins", "search", "export"]
    small = [command + " --trials 4" * ("kdnas search" in command) for command in commands]
    steps = [("console", command) for command in small]
    outputs = dict(zip(commands, run_steps(package, steps, PYTHONPATH=str(package / "site")), strict=True))

    listed = outputs["kdnas plugins"]
    for kind, name in [
        ("environments", "largest"),
        ("teachers", "largest"),
        ("students", "plain"),
        ("targets", "chip"),
        ("exporters", "npz"),
    ]:
        assert re.search(rf"^kdnas\.{kind} +{name} +kdnas_example:\w+ +kdnas-example", listed, re.MULTILINE), listed
    card = json.loads((package / "left-and-right/student.json").read_text(encoding="utf-8"))
    # n hidden units: 3*n + n*3 multiply-accumulates of 40 ns, two operations each. With six they take 1.44 us, eight
    # would take 1.92 us, and 1.5 us are allowed.
    assert {entry["spec"]["family"] for entry in card["groups"].values()} == {"plain"}
    largest = max(entry["spec"]["hidden"][0] for entry in card["groups"].values())
    assert largest in (4, 6)
    assert card["cost"]["worst_agent"]["flops"] == 12 * largest
    assert card["cost"]["worst_agent"]["latency_s"]["p95"] == pytest.approx(0.24e-6 * largest)
    copied = {path.name for path in (package / "left-and-right").iterdir()}
    assert {"left.npz", "right.npz", "team.onnx", "student.safetensors", "student.json"} <= copied
