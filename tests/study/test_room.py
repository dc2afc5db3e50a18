"""On a real disk of one mebibyte and a half, where it may be mounted."""

import errno
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kdnas.errors import DiskFullError, RunError, ScratchError
from kdnas.study.room import Room


@pytest.fixture
def disk(make_disk: Callable[[int], Path]) -> Path:
    return make_disk(1536)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def room(disk: Path, said: list[str]) -> Room:
    return Room(disk, said.append)


def take(disk: Path, size: int) -> Path:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(size))
    return ballast


def test_a_step_waits_until_there_is_room(disk: Path, room: Room, said: list[str]) -> None:
    ballast = take(disk, 1 << 20)
    tried = []

    def write() -> str:
        if not tried:
            threading.Timer(1.5, ballast.unlink).start()
        tried.append(time.monotonic())
        (disk / "weights").write_bytes(bytes(1 << 20))
        return "written"

    assert room.keep_trying(write) == "written"
    # Half a mebibyte is free until the ballast goes: it is tried again only when there is a whole one.
    assert len(tried) == 2
    assert tried[1] - tried[0] > 1
    assert said == [
        f"the disk of {disk} is full ([Errno 28] No space left on device); the search waits until 1 MiB are free and "
        "then goes on; Ctrl-C ends it",
        "there is room again; the search goes on",
    ]
    assert sorted(path.name for path in disk.iterdir()) == ["weights"]


@pytest.mark.parametrize("full", [True, False])
def test_numpy_does_not_say_that_the_disk_is_full(disk: Path, room: Room, full: bool) -> None:
    if full:
        take(disk, 1 << 20)
        with pytest.raises(OSError, match=r"\d+ requested and \d+ written") as caught:
            np.save(disk / "rows.npy", np.ones(1 << 20))
        assert caught.value.errno is None
    error = RunError("rows.npy: cannot be written")
    error.__cause__ = OSError("1048576 requested and 65536 written")
    assert room.lacks(error) is full


def test_a_database_on_a_full_disk(disk: Path, room: Room) -> None:
    connection = sqlite3.connect(disk / "study.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE rows (content BLOB)")
    connection.commit()
    take(disk, (1 << 20) + (300 << 10))

    def write() -> None:
        for _ in range(100):
            connection.execute("INSERT INTO rows VALUES (?)", (bytes(1 << 14),))
            connection.commit()

    with pytest.raises(sqlite3.OperationalError) as caught:
        write()
    assert room.lacks(caught.value)
    connection.close()


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (DiskFullError("bank/x: cannot be written"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (RunError("x: belongs to another search"), False),
        (sqlite3.OperationalError("no such table: trials"), False),
    ],
)
def test_what_means_that_the_disk_is_full(tmp_path: Path, error: Exception, lacks: bool) -> None:
    assert Room(tmp_path, print).lacks(error) is lacks
    wrapped = RunError("cannot be written")
    wrapped.__cause__ = error
    assert Room(tmp_path, print).lacks(wrapped) is lacks


def test_other_errors_pass(room: Room, said: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        room.keep_trying(lambda: 1 // 0)
    assert said == []


def test_what_was_to_end_does_not_wait(disk: Path, room: Room) -> None:
    take(disk, 1 << 20)
    room.stopping = lambda: True
    with pytest.raises(KeyboardInterrupt):
        room.keep_trying(lambda: (disk / "weights").write_bytes(bytes(1 << 20)))


def test_more_is_asked_for_when_a_mebibyte_was_not_enough(tmp_path: Path, said: list[str]) -> None:
    room, left = Room(tmp_path, said.append), [OSError(errno.ENOSPC, "No space left on device")] * 2
    started = time.monotonic()

    def write() -> None:
        if left:
            raise left.pop()

    room.keep_trying(write)
    assert time.monotonic() - started >= 1 + 2
    assert len(said) == 4
    assert room.pause_s == 1.0


def test_who_writes_little_does_not_forget_what_was_not_enough(tmp_path: Path, said: list[str]) -> None:
    room = Room(tmp_path, said.append)
    for times in range(7):
        assert room.is_elsewhere() == (times > 5)  # 1, 2, 4, 8, 16, 32 and at last 64 MiB were free
        room.announce(OSError(errno.ENOSPC, "No space left on device"))
        assert room.is_there()
        room.keep_trying(lambda: None)
    assert room.pause_s == 64.0
    assert [line.partition("until ")[2].partition(" are")[0] for line in said[::2]] == [
        f"{size} MiB" for size in (1, 2, 4, 8, 16, 32, 64)
    ]


def test_a_full_disk_of_temporary_files_is_none_of_the_run(tmp_path: Path) -> None:
    """Room in the run's folder would be no sign that there is some."""
    full = OSError(errno.ENOSPC, "No space left on device")
    room = Room(tmp_path, print)
    assert room.lacks(full)
    error = ScratchError("/tmp: cannot be written: No space left on device; make room")
    error.__cause__ = full
    assert not room.lacks(error)
