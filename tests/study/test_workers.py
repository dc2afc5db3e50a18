"""Real processes: one pool is shared, because each takes seconds to start."""

import errno
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import echo
import pytest

from kdnas.errors import EnvError, RunError, StudentError
from kdnas.study import crew
from kdnas.study.crew import WorkerLostError
from kdnas.study.leases import Leases
from kdnas.study.room import Room
from kdnas.study.seat import Seat
from kdnas.study.workers import Workers, default_workers, failure_reason, result_of


@pytest.fixture(scope="module")
def tasks() -> ModuleType:
    return echo


@pytest.fixture(scope="module")
def notes() -> list[str]:
    return []


@pytest.fixture(scope="module")
def pool(notes: list[str]) -> Iterator[Workers]:
    # Leases of five seconds for what may hang here, and of minutes for a start and for everything else.
    leases = Leases(patience_s=1, longest_s={"stumble": 0.5} | dict.fromkeys(("start", "sleep", "count_into"), 20.0))
    with Workers(1, os.getpid, (), leases=leases, say=notes.append) as workers:
        yield workers


def finish(pool: Workers, future: "Future[Any]", limit_s: float = 60.0) -> "Future[Any]":
    end = time.monotonic() + limit_s
    while not pool.wait([future]):
        assert time.monotonic() < end
    return future


def test_results_come_back(pool: Workers) -> None:
    futures = [pool.submit(echo.add, one, 10) for one in range(5)]
    assert [finish(pool, future).result() for future in futures] == [10, 11, 12, 13, 14]


def test_what_has_ended_comes_in_the_order_of_submission(pool: Workers) -> None:
    futures = [pool.submit(echo.add, one, 10) for one in range(8)]
    finish(pool, futures[-1])  # the last of all
    assert pool.wait([futures[place] for place in (5, 2, 7, 0)]) == [futures[place] for place in (0, 2, 5, 7)]


def test_whether_some_worker_has_nothing_to_do(pool: Workers) -> None:
    future = pool.submit(time.sleep, 2.0)
    assert not pool.some_idle
    finish(pool, future)
    assert pool.some_idle


def test_waiting_for_nothing_that_ends_takes_a_moment(pool: Workers) -> None:
    future = pool.submit(time.sleep, 3.0)
    started = time.monotonic()
    assert pool.wait([future]) == []
    assert time.monotonic() - started < 2
    finish(pool, future)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (echo.segfault, "the worker process died (signal SIGSEGV); out of memory? (tried 3 times)"),
        (echo.leave, "the worker process died (exit code 3); out of memory? (tried 3 times)"),
    ],
)
def test_a_process_that_dies_fails_its_task_alone(pool: Workers, task: Any, reason: str) -> None:
    waiting = pool.submit(echo.add, 1, 1)
    finish(pool, waiting)
    before = finish(pool, pool.submit(os.getpid)).result()
    broken, after = pool.submit(task), pool.submit(echo.add, 1, 2)
    assert failure_reason(finish(pool, broken).exception()) == reason
    assert finish(pool, after).result() == 3
    assert finish(pool, pool.submit(os.getpid)).result() != before
    with pytest.raises(RunError, match=r"playing the teacher: the worker process died \("):
        result_of(broken, "playing the teacher")


def test_a_worker_that_is_killed_while_it_is_idle_is_replaced(pool: Workers) -> None:
    before = finish(pool, pool.submit(os.getpid)).result()
    os.kill(before, signal.SIGKILL)
    time.sleep(0.5)
    assert finish(pool, pool.submit(os.getpid)).result() != before


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("kill", "the worker process died (signal SIGKILL); out of memory?"),
        ("hang", "it hung: no answer after 5 s; raise search.patience_s if it is only slow"),
        ("memory", "out of memory: ValueError: cannot play (*)"),
        ("torch memory", "out of memory: RuntimeError: *"),
    ],
)
def test_a_task_is_begun_again_in_another_process(
    pool: Workers, notes: list[str], tmp_path: Path, how: str, cause: str
) -> None:
    notes.clear()
    future = finish(pool, pool.submit(echo.stumble, str(tmp_path), 1, how))
    (fallen,) = (path.name.rpartition("-")[2] for path in tmp_path.iterdir())
    assert str(future.result()) != fallen
    assert [fnmatch(said, f"stumble is begun again: {cause}") for said in notes] == [True]


def test_it_is_begun_three_times_at_most(pool: Workers, notes: list[str], tmp_path: Path) -> None:
    notes.clear()
    future = finish(pool, pool.submit(echo.stumble, str(tmp_path), 9, "kill"))
    assert isinstance(future.exception(), WorkerLostError)
    assert len(list(tmp_path.iterdir())) == 3
    assert len(notes) == 2


def test_a_task_that_is_cancelled_while_it_runs_takes_its_worker_with_it(pool: Workers, tmp_path: Path) -> None:
    path = tmp_path / "number"
    future, waiting = pool.submit(echo.open_and_hang, str(path)), pool.submit(time.sleep, 3600)
    while not path.exists() or not path.read_text() or not future.running():
        time.sleep(0.01)
    assert not waiting.running()
    assert future.cancel()
    assert waiting.cancel()
    assert str(finish(pool, pool.submit(os.getpid)).result()) != path.read_text()


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    notes: list[str] = []
    room = Room(tmp_path, notes.append)
    with Workers(1, os.getpid, (), room=room, say=notes.append) as pool:
        pid = finish(pool, pool.submit(echo.stumble, str(tmp_path), 2, "disk")).result()
    assert room.pause_s == 1.0  # it is written, and who comes next asks for one mebibyte again
    # It is no failure, however often; nobody died of it.
    assert {path.name.rpartition("-")[2] for path in tmp_path.iterdir()} == {str(pid)}
    assert [said.partition(" (")[0] for said in notes] == [
        f"the disk of {tmp_path} is full", "there is room again; the search goes on"
    ] * 2  # fmt: skip


def test_another_full_disk_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "is_elsewhere", lambda room: True)
    with Workers(1, os.getpid, (), room=Room(tmp_path, print)) as pool:
        error = finish(pool, pool.submit(echo.stumble, str(tmp_path), 9, "disk")).exception()
    assert isinstance(error, WorkerLostError)
    assert fnmatch(str(error), "a disk is full, and it is not that of the run: *No space left*(tried 3 times)")
    assert len(list(tmp_path.iterdir())) == 3


def test_where_nothing_can_be_said_any_more_the_workers_end_in_a_sentence(tmp_path: Path) -> None:
    def say(text: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Workers(1, os.getpid, (), say=say) as pool:
        future = finish(pool, pool.submit(echo.stumble, str(tmp_path), 1, "kill"))
        for go_on in (lambda: result_of(future, "stumbling"), lambda: pool.submit(echo.add, 1, 2)):
            with pytest.raises(RunError, match=r"had to be ended: OSError: .*Input/output error; repeat the command"):
                go_on()


def test_utilisation_is_the_share_of_time_at_tasks() -> None:
    started = time.monotonic()
    with Workers(1, os.getpid, ()) as pool:
        finish(pool, pool.submit(time.sleep, 1.0))
        assert 0.9 < pool.utilisation * (time.monotonic() - started) < 2.0
        time.sleep(2.0)
        assert 0.9 < pool.utilisation * (time.monotonic() - started) < 2.0


ORPHAN = """
import sys, time
sys.path.insert(0, sys.argv[1])
import echo
from kdnas.study.crew import WorkerLostError
from kdnas.study.leases import Leases
from kdnas.study.room import Room
from kdnas.study.workers import Workers

if __name__ == "__main__":
    with Workers(1, print, ()) as pool:
        pool.submit(echo.open_and_hang, sys.argv[2])
        while not open(sys.argv[2], "a+").tell():
            time.sleep(0.05)
        if sys.argv[3] == "stopped":
            pool.paused().__enter__()
        print("ready", flush=True)
        time.sleep(3600)
"""


def gone(process: Path) -> bool:
    """Whether a process of /proc has ended, also where nobody has asked for its exit code yet."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_workers_end_with_their_coordinator(tmp_path: Path, state: str) -> None:
    """Also one that hangs, and one that stands still because latency is measured."""
    script, path = tmp_path / "script.py", tmp_path / "number"
    script.write_text(ORPHAN)
    process = subprocess.Popen(
        [sys.executable, str(script), str(Path(echo.__file__).parent), str(path), state],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    worker = Path("/proc") / path.read_text()
    assert worker.exists()
    process.kill()
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 10
    while not gone(worker):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_a_task_raises_comes_with_its_place(pool: Workers) -> None:
    future = finish(pool, pool.submit(echo.fail))
    # An exception that cannot be made again in another process would break the pool.
    reason = failure_reason(future.exception())
    assert reason.startswith("UnsendableError: a and b (")
    assert "echo.py, line " in reason
    with pytest.raises(RunError, match=r"^training: UnsendableError: a and b \("):
        result_of(future, "training")
    assert finish(pool, pool.submit(echo.add, 2, 2)).result() == 4


def test_paused_workers_stand_still(pool: Workers, tmp_path: Path) -> None:
    path = tmp_path / "count"
    future = pool.submit(echo.count_into, str(path), 3.0)
    while not path.exists():
        time.sleep(0.01)
    with pool.paused():
        time.sleep(0.05)  # what was under way is written
        before = path.read_text()
        time.sleep(0.3)
        assert path.read_text() == before
    time.sleep(0.3)
    assert path.read_text() != before
    finish(pool, future)


def test_they_go_on_when_the_measurement_fails(pool: Workers) -> None:
    with pytest.raises(ZeroDivisionError), pool.paused():
        operator.truediv(1, 0)
    assert finish(pool, pool.submit(echo.add, 3, 3)).result() == 6


def test_what_the_initializer_raises_is_raised_by_every_task() -> None:
    with Workers(1, operator.truediv, (1, 0)) as pool:
        for _ in range(2):
            future = finish(pool, pool.submit(echo.add, 1, 2))
            assert failure_reason(future.exception()).startswith("ZeroDivisionError: ")


def test_where_the_system_has_no_process_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """More often than a worker may die as it starts."""
    refusals, said, start = [OSError(11, "Resource temporarily unavailable")] * 5, list[str](), Seat.start

    def start_later(seat: Seat) -> None:
        if refusals:
            raise refusals.pop()
        start(seat)

    monkeypatch.setattr(Seat, "start", start_later)
    monkeypatch.setattr(crew, "START_PAUSE_S", 0.01)
    with Workers(1, os.getpid, (), leases=Leases(patience_s=20), say=said.append) as workers:
        assert finish(workers, workers.submit(echo.add, 1, 10)).result() == 11
    assert said == ["a worker cannot be started (Resource temporarily unavailable); asking again"]


def test_workers_that_die_at_once_end_in_a_sentence() -> None:
    with Workers(1, os._exit, (1,)) as pool:
        future = finish(pool, pool.submit(echo.add, 1, 2))
        for go_on in (lambda: result_of(future, "adding"), lambda: pool.submit(echo.add, 1, 2)):
            with pytest.raises(RunError, match=r"the worker processes die before they .*; .*take fewer --workers"):
                go_on()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StudentError("student mlp 8: the loss became nan"), "student mlp 8: the loss became nan"),
        (EnvError("environment broke"), "environment broke"),
        (ValueError("out of fuel"), "ValueError: out of fuel"),
    ],
)
def test_reasons(error: Exception, reason: str) -> None:
    assert failure_reason(error) == reason


def test_results_of_the_house_pass_as_they_are() -> None:
    future: Future[int] = Future()
    future.set_exception(EnvError("environment broke"))
    with pytest.raises(EnvError, match=r"^environment broke$"):
        result_of(future, "anything")
    done: Future[int] = Future()
    done.set_result(3)
    assert result_of(done, "anything") == 3


def test_one_worker_for_each_core() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)
