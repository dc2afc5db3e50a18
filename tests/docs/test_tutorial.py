"""The tutorial's page shows its files, and running the page from top to bottom takes them through a search."""

import json
import re
import shutil
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[2] / "docs/tutorial"
PAGE = (TUTORIAL / "README.md").read_text(encoding="utf-8")
FILES = sorted(path.name for path in TUTORIAL.iterdir() if path.suffix in (".py", ".toml"))
SHOWN = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)```$", PAGE, re.DOTALL | re.MULTILINE))

SMALLER = {"kdnas teacher evaluate": " --episodes 20", "kdnas search": " --trials 2"}
"""Beginning of a command -> what is added to it here."""


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_file(name):
    assert SHOWN[name] == (TUTORIAL / name).read_text(encoding="utf-8")


def test_the_page_shows_no_other_file():
    assert sorted(SHOWN) == FILES


def test_it_is_short():
    """About thirty lines of the user's own."""
    code = [line for name in ("envs.py", "teacher.py") for line in SHOWN[name].splitlines()]
    own = [line for line in code if line.strip() and not line.startswith(('"""', "import ", "from "))]
    assert len(own) <= 33


@pytest.mark.slow
def test_the_page_from_top_to_bottom(tmp_path, read_steps, run_steps):
    folder = tmp_path / "tutorial"
    shutil.copytree(TUTORIAL, folder, ignore=shutil.ignore_patterns("runs", "*.pt", "__pycache__"))
    steps = [step for step in read_steps(TUTORIAL / "README.md") if step[1] not in SHOWN.values()]
    small = [(kind, text + SMALLER.get(" ".join(text.split()[:-1]), "")) for kind, text in steps]
    outputs = dict(zip([text for _, text in steps], run_steps(folder, small), strict=True))

    table = outputs["kdnas teacher evaluate my_study.toml"]
    returns = dict(re.findall(r"^(teacher|random) +(-[\d.]+) ", table, re.MULTILINE))
    assert float(returns["teacher"]) > float(returns["random"]) + 5
    front = json.loads((folder / "runs/drones/front.json").read_text(encoding="utf-8"))
    assert front
    for team in front:
        assert set(team["groups"]) == {"red", "blue"}
        # The teacher: 4*64 + 64*64 + 64*5 = 4,672 multiply-accumulates, 9,344 FLOPs; the budget is 20 % of them.
        assert team["groups"]["red"]["teacher_cost"]["flops"] == 9344
        assert team["worst_agent"]["flops"] < 1869
        assert team["groups"]["blue"]["cost"]["memory_bytes"] < 1024
