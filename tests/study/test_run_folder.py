import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdnas.errors import KdnasError, RunError
from kdnas.study.run_folder import identify, open_run, read_run, reopen_study, write_text
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.teacher import train_teacher

from .conftest import SPACE, WriteStudy


@pytest.fixture
def run(setup: Setup, tmp_path: Path) -> Path:
    """A run that was begun and closed."""
    path = tmp_path / "runs" / "echo"
    opened = open_run(path, setup, None)
    opened.keep(setup)
    opened.close()
    return path


def test_a_new_run(setup: Setup, run: Path) -> None:
    card = json.loads((run / "run.json").read_text())
    assert card["schema_version"] == 1
    assert card["storage"] is None  # its own file, wherever the folder is moved to
    assert read_run(run)["storage"] == f"sqlite:///{run}/study.db"
    names = {path.name for path in run.iterdir()} - {".lock"}
    assert names == {"run.json", "space.toml", "study.toml", "versions.json"}
    versions = json.loads((run / "versions.json").read_text())
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__


def test_the_study_is_kept_as_it_was_resolved(write_study: WriteStudy, tmp_path: Path) -> None:
    setup = open_study(read_study(write_study("plain"), budget=["flops<1k, memory<1KiB"], trials=9, seed=4))
    opened = open_run(tmp_path / "run", setup, None)
    opened.keep(setup)
    again = reopen_study(tmp_path / "run")
    assert again.modules == setup.file.modules.resolve()  # the environment is made by a module that lies there
    assert again.space == setup.file.space
    assert again.config.search == setup.config.search
    assert again.config.budget == ("flops<1k, memory<1KiB",)
    assert identify(open_study(again)) == opened.identity
    opened.close()
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert identify(open_study(read_study(moved / "study.toml"))) == opened.identity


def test_what_a_search_may_go_on_with_is_kept_too(write_study: WriteStudy, tmp_path: Path) -> None:
    for trials, sampler in ((9, "tpe"), (20, "random")):
        setup = open_study(read_study(write_study("plain"), trials=trials, sampler=sampler))
        opened = open_run(tmp_path / "run", setup, None)
        opened.keep(setup)
        opened.close()
        again = reopen_study(tmp_path / "run").config.search
        assert (again.trials, again.sampler) == (trials, sampler)


def test_the_teacher_is_kept_with_the_run(write_study: WriteStudy, tmp_path: Path) -> None:
    """The study goes on with the copy when its own is gone, and a teacher of another critic is another teacher."""
    steps = {"hidden": [4], "copies": 64, "epochs": 1, "minibatches": 1, "steps_per_cycle": 320}
    study = write_study("kept", teacher={"factory": None, "checkpoint": str(tmp_path / "teacher"), "train": steps})
    train_teacher(study, out=None, seed=None, steps=None, force=False, report=lambda _: None)
    setup = open_study(read_study(study))
    opened = open_run(tmp_path / "run", setup, None)
    opened.keep(setup)
    opened.keep(setup)  # there already
    opened.close()
    shutil.rmtree(tmp_path / "teacher")
    assert sorted(path.name for path in (tmp_path / "run" / "teacher").iterdir()) == [
        "teacher.json", "teacher.safetensors"
    ]  # fmt: skip
    again = open_study(read_study(tmp_path / "run" / "study.toml"))
    assert identify(again) == opened.identity
    assert again.teacher.value is not None
    with torch.no_grad():
        next(again.teacher.value.parameters()).add_(1.0)
    assert [part for part, was in opened.identity.items() if identify(again)[part] != was] == ["critic"]


def test_a_teacher_that_cannot_be_copied(write_study: WriteStudy, tmp_path: Path) -> None:
    setup = open_study(read_study(write_study("plain")))
    table = setup.config.teacher.model_copy(update={"factory": None, "checkpoint": str(tmp_path / "gone")})
    config = setup.config.model_copy(update={"teacher": table})
    opened = open_run(tmp_path / "run", setup, None)
    with pytest.raises(RunError, match=r"run/teacher: the teacher cannot be copied: No such file or directory"):
        opened.keep(replace(setup, file=replace(setup.file, config=config)))
    opened.close()


def test_the_same_search_opens_it_again(setup: Setup, run: Path) -> None:
    first = read_run(run)["run_id"]
    opened = open_run(run, setup, None)
    assert opened.run_id == first
    assert opened.study_name == f"kdnas-{first}"
    opened.close()
    moved = run.rename(run.with_name("moved"))
    opened = open_run(moved, setup, None)
    assert (opened.run_id, opened.storage) == (first, f"sqlite:///{moved}/study.db")
    opened.close()


def test_what_was_being_written_when_it_was_killed_is_swept_away(setup: Setup, run: Path) -> None:
    files = ["front.json.part", ".room.part", "returns/team-0003.part.npy"]
    files += ["bank/0a.safetensors.77.part", "refined/0b.safetensors.78.part", "teacher/teacher.json.part"]
    folders = ["students/0004.part", "students/0004.old.part", "demonstrations/1f.part"]
    kept = ["students/0004/student.json", "bank/0a.safetensors", "notes.part"]

    def leave() -> None:
        for name in [*files, *(f"{folder}/file" for folder in folders), *kept]:
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_text("")

    def left() -> list[str]:
        return [name for name in [*files, *folders, *kept] if (run / name).exists()]

    leave()
    opened = open_run(run, setup, None)
    assert opened.begun
    assert left() == kept
    leave()  # a worker that was killed while the search went on
    opened.close()
    assert left() == kept


def test_a_student_that_was_set_aside_is_put_back(setup: Setup, run: Path) -> None:
    """Killed between the two steps in which a student folder takes the place of an older one."""
    aside, whole = run / "students/0004.old.part", run / "students/0004"
    aside.mkdir(parents=True)
    (aside / "student.json").write_text("{}")
    open_run(run, setup, None).close()
    assert [path.name for path in (run / "students").iterdir()] == ["0004"]
    assert (whole / "student.json").read_text() == "{}"


def changed(write_study: WriteStudy, change: dict[str, Any]) -> Setup:
    arguments = {name: change.pop(name) for name in ("budget", "seed", "trials", "workers") if name in change}
    return open_study(read_study(write_study("changed", **change), **arguments))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": ["flops<9k"]}, r"\(budget was none, is flops<9000\)"),
        ({"seed": 5}, r"\(seed was 0, is 5\)"),
        ({"name": "other"}, r"\(study was echo, is other\)"),
        ({"distill.batch": 7}, r"\(distill.batch was 128, is 7\)"),
        ({"distill.rungs": [0.5, 1.0]}, r"\(distill.rungs was \[0.11, 0.33, 1.0\], is \[0.5, 1.0\]\)"),
        ({"evaluation.first_episodes": 32}, r"\(evaluation.first_episodes was 64, is 32\)"),
        ({"evaluation.search_episodes": 7}, r"\(evaluation.search_episodes was 64, is 7\)"),
        ({"env.max_steps": 4, "distill.batch": 7}, r"\(env.max_steps was 5, is 4; distill.batch was 128, is 7\)"),
        ({"target.kwargs": {"calls": 500}}, r'\(target.kwargs was {}, is {"calls": 500}\)'),
        ({"teacher.kwargs": {"sharpness": 2.0}}, r"\(teacher was left:\w+ right:\w+, is left:\w+ right:\w+\)"),
        (
            {"space": SPACE | {"groups": {"default": {"bases": [{"hidden": [16], "prune": [0.5]}]}}}},
            r"\(space was echo_space \w+, is echo_space \w+\)",
        ),
    ],
)
def test_another_search_is_refused(write_study: WriteStudy, run: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=rf"^{run}: belongs to another search {said}; choose another --out$"):
        open_run(run, changed(write_study, change), None)
    # It is not locked by having been refused.
    open_run(run, changed(write_study, {}), None).close()


@pytest.mark.parametrize(
    "change",
    [
        {"trials": 500},
        {"workers": 7},
        {"description": "words"},
        {"evaluation.processes": 3},
        {"search": {"sampler": "nsga2", "reduction": 4, "propose": False, "anchors": False, "free_groups": 1}},
        {"search": {"front": 2}},
        {"space": SPACE | {"description": "words"}},
    ],
)
def test_what_does_not_make_another_search(write_study: WriteStudy, run: Path, change: dict[str, Any]) -> None:
    open_run(run, changed(write_study, change), None).close()


def test_the_order_of_a_budget_does_not_matter(write_study: WriteStudy) -> None:
    one, two = (
        identify(open_study(read_study(write_study("plain"), budget=budget)))
        for budget in (["flops<2k", "memory<1KiB"], ["memory<1024B, flops<2000", "flops<2k"])
    )
    assert one == two


def test_one_search_at_a_time(setup: Setup, run: Path) -> None:
    opened = open_run(run, setup, None)
    with pytest.raises(RunError, match=r"another search is using this run; wait for it or choose another --out"):
        open_run(run, setup, None)
    opened.close()
    open_run(run, setup, None).close()


def test_another_storage_is_refused(setup: Setup, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"its study lies in sqlite:///.*study.db; leave out --storage") as caught:
        open_run(run, setup, "postgresql://me:secret@host/db")
    assert "secret" not in str(caught.value)
    away = tmp_path / "away"
    opened = open_run(away, setup, "postgresql://me:secret@host/db")
    opened.keep(setup)
    opened.close()
    for storage in (None, "postgresql://me:secret@host/db"):
        again = open_run(away, setup, storage)
        assert again.storage == "postgresql+psycopg2://me:secret@host/db"
        again.close()
    with pytest.raises(RunError, match=r"its study lies in postgresql\+psycopg2://...@host/db; leave out") as caught:
        open_run(away, setup, "sqlite:////tmp/x.db")
    assert "secret" not in str(caught.value)


def test_a_run_that_nothing_came_of_leaves_nothing(setup: Setup, tmp_path: Path) -> None:
    open_run(tmp_path / "run", setup, None).close()
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    open_run(tmp_path / "mine", setup, None).close()
    assert (tmp_path / "mine" / "notes.txt").exists()


@pytest.mark.parametrize("below", ["file", "file/run", "file/a/b"])
def test_a_folder_that_cannot_be_written(setup: Setup, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match=rf"{below}: cannot be written: .*; choose another folder with --out"):
        open_run(tmp_path / below, setup, None)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_no_address_can_hold(setup: Setup, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot hold \{ \}; choose another --out"):
        open_run(tmp_path / "{x}", setup, None)
    open_run(tmp_path / "{x}", setup, "sqlite:///elsewhere.db").close()


def test_what_is_no_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=r"is no kdnas run \(it has no run.json\); give the folder of --out"):
            read_run(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is no kdnas run"):
        read_run(tmp_path / "file")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema_version": 1}', '{"schema_version": 1, "run_id": 3, "storage": null, '
     '"identity": {}}', '{"schema_version": 1, "run_id": "a", "storage": null, '
     '"identity": 7}'],
)  # fmt: skip
def test_a_damaged_card(setup: Setup, run: Path, text: str) -> None:
    (run / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run.json: cannot be read: "):
        open_run(run, setup, None)


def test_a_card_of_another_version(run: Path) -> None:
    card = json.loads((run / "run.json").read_text()) | {"schema_version": 2}
    (run / "run.json").write_text(json.dumps(card))
    with pytest.raises(RunError, match=r"has schema version 2, this kdnas reads 1; use the kdnas that made it"):
        read_run(run)


def test_a_damaged_study_in_a_run(run: Path) -> None:
    (run / "study.toml").write_text("name = ")
    with pytest.raises(KdnasError, match=r"study.toml: is not TOML"):
        reopen_study(run)


def test_returns_are_kept_in_the_run(setup: Setup, tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", setup, None)
    run.returns.keep("final-teacher", np.array([1.5, -2.0]))
    assert np.load(tmp_path / "run" / "returns" / "final-teacher.npy").tolist() == [1.5, -2.0]
    run.close()


def test_the_password_of_a_storage_is_its_owners(setup: Setup, tmp_path: Path) -> None:
    for url, mode in ((None, 0o644), (f"sqlite:///{tmp_path / 'study.db'}", 0o600)):
        run = open_run(tmp_path / f"run {mode}", setup, url)
        run.keep(setup)
        assert (run.path / "run.json").stat().st_mode & 0o777 == mode
        run.close()


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "x", "old")

    def full(self: Path, text: str, **_: Any) -> None:
        with self.open("w") as opened:
            opened.write(text[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match=r"x: cannot be written: No space left on device; make room"):
        write_text(tmp_path / "x", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]
