import csv
from pathlib import Path

import pytest

from kdnas.errors import ConfigError, TeacherError
from kdnas.study import evaluate
from kdnas.study.setup import open_study, read_study
from kdnas.study.teacher import evaluate_teacher, train_teacher
from kdnas.teachers import Progress

from .conftest import WriteStudy

TRAIN = {"hidden": [16], "copies": 64, "epochs": 4, "minibatches": 2, "steps_per_cycle": 3840, "learning_rate": 1e-2}
"""12 iterations of 64 episodes of 5 steps."""


@pytest.fixture
def study(write_study: WriteStudy) -> Path:
    return write_study("trained", teacher={"factory": None, "checkpoint": "teacher_of_echo", "train": TRAIN})


def train(study: Path, out: Path | None, **changes: object) -> tuple[Path, list[Progress]]:
    curve: list[Progress] = []
    arguments = {"out": out, "seed": None, "steps": None, "force": False, "report": curve.append} | changes
    return train_teacher(study, **arguments), curve  # type: ignore[arg-type]


def test_a_study_trains_its_own_teacher(study: Path, tmp_path: Path) -> None:
    folder, curve = train(study, tmp_path / "teacher")
    assert len(curve) == 12
    assert sorted(path.name for path in folder.iterdir()) == [
        "learning_curve.csv",
        "teacher.json",
        "teacher.safetensors",
    ]
    with (folder / "learning_curve.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert [int(row["env_steps"]) for row in rows] == [320 * (index + 1) for index in range(12)]
    assert float(rows[-1]["mean_return_per_agent"]) > float(rows[0]["mean_return_per_agent"]) + 0.5
    # It is the teacher of a study that names its folder, and better than random play there.
    text = study.read_text().replace("teacher_of_echo", str(folder))
    other = study.with_name("uses_it.toml")
    other.write_text(text)
    assert open_study(read_study(other)).pools["left"].groups == ("left", "right")
    played = evaluate_teacher(other, episodes=100, seed=3)
    assert played["teacher"].low > played["random"].high
    assert played["random"].mean == pytest.approx(5 / 3, abs=0.25)


def test_a_teacher_is_not_replaced_unasked(study: Path, tmp_path: Path) -> None:
    folder, _ = train(study, tmp_path / "teacher", steps=320)
    before = (folder / "teacher.safetensors").read_bytes()
    with pytest.raises(TeacherError, match=r"holds a teacher; choose another --out, or --force to replace it"):
        train(study, folder, steps=320, seed=1)
    assert (folder / "teacher.safetensors").read_bytes() == before
    train(study, folder, steps=320, seed=1, force=True)
    assert (folder / "teacher.safetensors").read_bytes() != before


def test_a_study_without_a_table(write_study: WriteStudy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"study 'echo': \[teacher.train\] and \[teacher\] checkpoint are needed"):
        train(write_study("plain"), tmp_path)


def test_a_folder_that_cannot_be_written_is_noticed_before_training(study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    curve: list[Progress] = []
    with pytest.raises(TeacherError, match=r"file/teacher: cannot be written: "):
        train_teacher(study, out=tmp_path / "file" / "teacher", seed=None, steps=None, force=False, report=curve.append)
    assert curve == []


def test_a_study_says_how_many_processes_play(write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it says nothing it is measured, which takes seconds, and may choose several."""

    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("it is measured")

    monkeypatch.setattr(evaluate, "choose_processes", refuse)
    told = write_study("told", **{"evaluation.processes": 1})
    assert set(evaluate_teacher(told, episodes=4, seed=0)) == {"teacher", "random"}
    with pytest.raises(AssertionError, match="it is measured"):
        evaluate_teacher(write_study("asks"), episodes=4, seed=0)
