"""`kdnas front` on a run that was made by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from fronts import cost, member, new_study, tell
from typer.testing import CliRunner

from kdnas.cli.app import app
from kdnas.study.front import make_front

FRONT = [member(0, 0.9, pair=cost(980, 1024)), member(1, 0.5, pair=cost(250, 512)), member(2, 0.8, pair=cost(300, 600))]
"""1,960, 500 and 600 FLOPs an agent."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three trials of the front, and three that were rejected for 3,000 FLOPs."""
    study = new_study(f"sqlite:///{tmp_path / 'study.db'}", "kdnas-abc")
    losses = {"pair": {"mean": 0.05, "low": 0.04, "high": 0.06, "episodes": 64}}
    for violation in (-0.02, -0.75, -0.7, 0.5, 0.5, 0.5):
        tell(study, {"flops<2000": violation}, losses=losses)
    members = [replace(one, path=Path(f"students/{one.trial:04d}")) for one in FRONT]
    card = {"schema_version": 1, "run_id": "abc", "storage": None, "identity": {}}
    (tmp_path / "run.json").write_text(json.dumps(card))
    (tmp_path / "front.json").write_text(json.dumps(make_front(members, final=True).as_json()))
    space = {"name": "home", "groups": {"default": {"bases": [{"hidden": [64], "prune": [0.75]}]}}}
    (tmp_path / "space.toml").write_text(tomli_w.dumps(space))
    study_file = {"name": "home", "space": "space.toml", "env": {"name": "x"}, "teacher": {"name": "x"}}
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study_file))
    return tmp_path


def told(*arguments: str | Path) -> str:
    """What a command printed, on both streams, in one line."""
    return " ".join(CliRunner().invoke(app, [str(argument) for argument in arguments]).output.split())


def test_the_front_and_what_binds_it(run: Path) -> None:
    output = told("front", run)
    assert output.startswith("trial retention 95 % interval")
    assert output.endswith(
        "flops<2000 binds: the front's most expensive student (trial 0) uses 98 % of it; 3 of 3 rejected candidates "
        "broke only it"
    )


def test_one_of_it(run: Path) -> None:
    # Retention 1, 0.75, 0; FLOPs 1, log(1.2) / log(3.92) = 0.133, 0; memory 1, log(1.17) / log(2) = 0.229, 0.
    output = told("front", run, "--best", "knee")
    assert output.endswith(f"knee: trial 2, {run}/students/0002")
    assert "binds" not in output
    assert [one["trial"] for one in json.loads(told("front", run, "--best", "knee", "--json"))] == [2]


def test_json_has_no_place_for_why(run: Path) -> None:
    assert "--json prints the students alone; leave out --why, or --json" in told("front", run, "--json", "--why")


def test_all_of_it_as_json(run: Path) -> None:
    assert [one["trial"] for one in json.loads(told("front", run, "--json"))] == [0, 2, 1]


def test_what_each_student_loses_alone(run: Path) -> None:
    output = told("front", run, "--why", "--best", "knee")
    assert "trial lost in all lost by each student alone among teachers 2 0.050 pair 0.050 ± 0.010" in output


def test_too_few_trials_to_say_why(run: Path) -> None:
    assert "cannot be told from 1 different candidates" in told("front", run, "--why")


def test_without_its_trials_the_front_is_shown_all_the_same(run: Path) -> None:
    (run / "study.db").unlink()
    ended = CliRunner().invoke(app, ["front", str(run)])
    assert ended.exit_code == 0
    assert ended.output.startswith("trial")
    assert "which limits bind is not known: storage sqlite" in ended.output


def test_a_selector_that_cannot_be_read(run: Path, tmp_path: Path) -> None:
    assert "error: selector 'nee': unknown rule 'nee': did you mean 'knee'?" in told("front", run, "--best", "nee")
    assert "unknown rule 'nee'" in told("search", "spread_tiny", "--best", "nee", "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["front", "search", "export"])
def test_help_teaches_selectors(command: str) -> None:
    help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "400"}).output
    for rule in ("max METRIC", "min METRIC", "knee METRIC", "one-se, min METRIC"):
        assert rule in help_text
