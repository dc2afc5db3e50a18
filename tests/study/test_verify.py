"""Artifacts against their cards: what is true agrees, and each thing that is not differs."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdnas.errors import RunError
from kdnas.evaluation.score import Interval
from kdnas.study.export import export_best
from kdnas.study.front import read_front
from kdnas.study.verify import Check, check_return, verify

from .conftest import Finished


@pytest.fixture
def student(copied: Path) -> Path:
    """A student folder in a run that may be changed."""
    path = read_front(copied / "front.json").best().path
    assert path is not None
    return path


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    card = json.loads((folder / "student.json").read_text())
    change(card)
    (folder / "student.json").write_text(json.dumps(card))


def differing(checks: list[Check]) -> list[str]:
    return [check.what for check in checks if check.differs]


def patient(checks: list[Check]) -> list[str]:
    """What differs but for times, which a busy machine may change."""
    return [what for what in differing(checks) if not what.startswith("time")]


def test_an_artifact_is_what_its_card_says(student: Path) -> None:
    checks = verify(student)
    assert [check.what for check in checks] == [
        "files", "actions", "return", "memory of the team", "time of left on onnx", "time of right on onnx"
    ]  # fmt: skip
    assert patient(checks) == []
    returned = checks[2]
    assert returned.said == returned.found  # the same episodes, played by onnxruntime
    few = verify(student, episodes=16)[2]
    assert few.found.endswith("16 episodes")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda card: card["artifacts"][0]["hashes"].update({"team.onnx": "0" * 64}), "files"),
        (lambda card: card["score"]["return"].update(mean=50.0, low=49.0, high=51.0), "return"),
        (lambda card: card["cost"].update(memory_bytes=1), "memory of the team"),
    ],
)
def test_what_is_not_true_differs(student: Path, change: Callable[[Any], object], what: str) -> None:
    edit(student, change)
    assert patient(verify(student)) == [what]


def test_an_artifact_that_is_not_the_cards_is_not_run(student: Path) -> None:
    (student / "team.onnx").write_bytes(b"no graph at all")
    (files,) = verify(student, episodes=16)
    assert (files.what, files.found, files.differs) == ("files", "changed: team.onnx", True)


def test_another_teams_graph_acts_otherwise(student: Path) -> None:
    """Of a team with a smaller student, whose ports are the same, and with a card that was made to fit."""
    others = [path for path in student.parent.iterdir() if path != student]
    assert others
    shutil.copyfile(others[0] / "team.onnx", student / "team.onnx")
    digest = hashlib.sha256((student / "team.onnx").read_bytes()).hexdigest()
    edit(student, lambda card: card["artifacts"][0]["hashes"].update({"team.onnx": digest}))
    assert patient(verify(student))[0] == "actions"


@pytest.mark.parametrize(("mean", "differs"), [(18.0, False), (25.0, True)])
def test_a_few_equal_episodes_are_as_uncertain_as_the_cards(mean: float, differs: bool) -> None:
    # The card's 400 episodes are within 1; four of them, ten times fewer by the root, within 10: 8 to 28, or 15 to 35.
    card = Interval(mean=10.0, low=9.0, high=11.0, episodes=400)
    assert check_return(card, Interval(mean=mean, low=mean, high=mean, episodes=4)).differs == differs


def test_times_are_compared_with_those_of_the_reference_kernel(student: Path) -> None:
    def slower(card: Any) -> None:
        for group in card["cost"]["groups"].values():
            group["latency_s"]["p50"] *= 10

    edit(student, slower)
    assert [check.what for check in verify(student) if check.differs] == [
        "time of left on onnx", "time of right on onnx"
    ]  # fmt: skip

    def slower_machine(card: Any) -> None:
        for group in card["cost"]["groups"].values():
            group["latency_s"]["reference"] *= 10

    edit(student, slower_machine)
    assert patient(verify(student)) == []


def test_where_a_target_is_not_at_hand(student: Path) -> None:
    edit(student, lambda card: card["target"].update(name="board"))
    assert verify(student, episodes=16)[-1].verdict == "not checked: the study's target is onnx"


def test_folders_that_cannot_be_verified(student: Path, finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no 'c' \(but onnx\); add it with kdnas export --format c"):
        verify(student, form="c")
    away = export_best(finished[0], "min flops", tmp_path / "away", "onnx")
    with pytest.raises(RunError, match="is not inside a run; name its environment and teacher with --study"):
        verify(away)
