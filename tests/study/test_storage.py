import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from kdnas.errors import RunError
from kdnas.study.room import Room
from kdnas.study.storage import (
    OBJECTIVES,
    driver_url,
    meets,
    open_storage,
    read_study_id,
    read_trials,
    shown_url,
    storage_errors,
)

SAMPLER = "multivariate-tpe"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path, print)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


@pytest.fixture
def study(file: Path, room: Room) -> Any:
    return open_storage(f"sqlite:///{file}", "kdnas-test", SAMPLER, 3, room)


def test_sqlite_writes_ahead(file: Path, study: Any) -> None:
    study.tell(study.ask(), [0.9, 10.0, 20.0])
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_objectives(study: Any) -> None:
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert study.metric_names == list(OBJECTIVES)


def test_what_was_told_is_read(file: Path, study: Any, room: Room) -> None:
    study.tell(study.ask(), [0.9, 10.0, 20.0])
    assert [trial.values for trial in read_trials(f"sqlite:///{file}", "kdnas-test")] == [[0.9, 10.0, 20.0]]
    again = open_storage(f"sqlite:///{file}", "kdnas-test", SAMPLER, 3, room)
    assert len(again.get_trials()) == 1
    assert read_study_id(f"sqlite:///{file}", "kdnas-test") == study._study_id
    # Another run on the same server is another study.
    assert open_storage(f"sqlite:///{file}", "kdnas-other", SAMPLER, 3, room).get_trials() == []


def drawn(study: Any, count: int = 5) -> list[float]:
    return [study.ask().suggest_float("x", 0, 1) for _ in range(count)]


def test_the_seed_decides_what_is_asked_and_a_continued_study_asks_on(
    tmp_path: Path, study: Any, file: Path, room: Room
) -> None:
    first = drawn(study)
    assert drawn(open_storage(f"sqlite:///{tmp_path / 'b.db'}", "x", SAMPLER, 3, room)) == first
    assert drawn(open_storage(f"sqlite:///{tmp_path / 'c.db'}", "x", SAMPLER, 4, room)) != first
    assert drawn(open_storage(f"sqlite:///{file}", "kdnas-test", SAMPLER, 3, room)) != first


def test_no_warnings_of_experiments(tmp_path: Path, room: Room, recwarn: pytest.WarningsRecorder) -> None:
    open_storage(f"sqlite:///{tmp_path / 'new.db'}", "x", SAMPLER, 0, room)
    assert [str(warning.message) for warning in recwarn if "xperimental" in str(warning.message)] == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:////dev/null/study.db", "storage sqlite:////dev/null/study.db: cannot be used: unable to open"),
        ("postgresql://me:secret@127.0.0.1:1/db", r"storage postgresql\+psycopg2://...@127.*: .*(refused|not)"),
        ("nonsense", "storage nonsense: cannot be used: Could not parse"),
        ("redis://localhost", "storage redis://localhost: cannot be used: "),
        ("oracle://me:secret@host/db", r"storage oracle://...@host/db: its driver is not installed"),
    ],
)
def test_a_storage_that_cannot_be_reached(room: Room, url: str, said: str) -> None:
    with pytest.raises(RunError, match=said) as caught:
        open_storage(driver_url(url), "x", SAMPLER, 0, room)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"this is no database at all" * 50, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_a_damaged_file(file: Path, room: Room, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"study.db: cannot be used: "):
        open_storage(f"sqlite:///{file}", "x", SAMPLER, 0, room)
    with pytest.raises(RunError, match=r"study.db: cannot be "):
        read_trials(f"sqlite:///{file}", "x")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_run_that_was_begun_does_not_go_on_with_a_database_that_was_cut(
    file: Path, study: Any, room: Room, share: float
) -> None:
    for _ in range(20):
        study.tell(study.ask(), [0.9, 10.0, 20.0])
    study._storage.remove_session()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert len(open_storage(f"sqlite:///{file}", "kdnas-test", SAMPLER, 3, room, begun=True).trials) == 20
    size = int(share * file.stat().st_size)
    with file.open("r+b") as opened:
        opened.truncate(size)
    with pytest.raises(RunError, match=r"study.db: is damaged \(.*\) although this run was begun; put a copy"):
        open_storage(f"sqlite:///{file}", "kdnas-test", SAMPLER, 3, room, begun=True)
    assert file.stat().st_size == size


def test_nor_with_one_that_is_gone_or_another_runs(file: Path, study: Any, room: Room) -> None:
    with pytest.raises(RunError, match=r"is damaged \(holds no trial of this run\)"):
        open_storage(f"sqlite:///{file}", "kdnas-else", SAMPLER, 3, room, begun=True)
    file.rename(file.with_name("elsewhere.db"))
    with pytest.raises(RunError, match=r"is damaged \(is not there\)"):
        open_storage(f"sqlite:///{file}", "kdnas-test", SAMPLER, 3, room, begun=True)
    assert not file.exists()


def test_a_constraint_that_is_not_there_is_not_met(study: Any) -> None:
    trial = study.ask()
    assert not meets(trial, ["flops<=96"])
    trial.set_constraint("flops<=96", 0.0)
    assert meets(trial, ["flops<=96"])
    trial.set_constraint("memory<1KiB", 0.1)
    assert not meets(trial, ["flops<=96", "memory<1KiB"])
    assert meets(study.ask(), [])  # without a budget


def test_every_call_waits_for_room_on_a_full_disk(make_disk: Callable[[int], Path]) -> None:
    disk = make_disk(8 << 10)
    said, ballast = list[str](), disk / "ballast"

    def make_room(text: str) -> None:
        said.append(text)
        ballast.unlink(missing_ok=True)

    study = open_storage(f"sqlite:///{disk}/study.db", "kdnas-test", SAMPLER, 3, Room(disk, make_room))
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    trials = [study.ask() for _ in range(30)]
    for number, trial in enumerate(trials):
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("note", "a" * 50_000)
        study.tell(trial, [float(number), 10.0, 20.0])
    assert [line.partition(" (")[0] for line in said] == [
        f"the disk of {disk} is full", "there is room again; the search goes on"
    ]  # fmt: skip
    told = read_trials(f"sqlite:///{disk}/study.db", "kdnas-test")
    assert [trial.values for trial in told] == [[float(number), 10.0, 20.0] for number in range(30)]
    assert {trial.user_attrs["note"] for trial in told} == {"a" * 50_000}


def test_what_is_not_there_is_not_made_by_reading(file: Path) -> None:
    with pytest.raises(RunError, match=r"study.db: is not there"):
        read_trials(f"sqlite:///{file}", "x")
    assert not file.exists()


def test_a_study_that_is_not_there(file: Path, study: Any) -> None:
    with pytest.raises(RunError, match=r"study.db: has no study 'kdnas-else'; was it deleted\?"):
        read_trials(f"sqlite:///{file}", "kdnas-else")


def test_a_storage_that_breaks_while_it_is_used(file: Path, study: Any) -> None:
    trial = study.ask()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE trial_values")
    with pytest.raises(RunError, match=r"study.db: cannot be used: no such table: trial_values"), storage_errors(
        f"sqlite:///{file}"
    ):
        study.tell(trial, [1.0, 2.0, 3.0])


def test_other_errors_pass(file: Path) -> None:
    with pytest.raises(ZeroDivisionError), storage_errors(f"sqlite:///{file}"):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("postgresql://me@host/db", "postgresql+psycopg2://me@host/db"),
        ("postgres://host/db", "postgresql+psycopg2://host/db"),
        ("postgresql+asyncpg://host/db", "postgresql+asyncpg://host/db"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
        ("postgresql", "postgresql"),
    ],
)
def test_drivers(url: str, used: str) -> None:
    assert driver_url(url) == used


def test_passwords_are_not_shown() -> None:
    assert shown_url("postgresql://me:p@ss@host:5432/db") == "postgresql://...@host:5432/db"
    assert shown_url("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
