"""Real processes: one pool is shared, because each takes seconds to start."""

import operator
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any

import echo
import pytest

from kdnas.errors import EnvError, RunError, StudentError
from kdnas.study.workers import Workers, default_workers, failure_reason, result_of


@pytest.fixture(scope="module")
def tasks() -> ModuleType:
    return echo


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers(1, os.getpid, ()) as workers:
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


def test_waiting_for_nothing_that_ends_takes_a_moment(pool: Workers) -> None:
    future = pool.submit(time.sleep, 0.5)
    started = time.monotonic()
    assert pool.wait([future]) == []
    assert time.monotonic() - started < 0.4
    finish(pool, future)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (echo.segfault, "the worker process died (signal SIGSEGV); out of memory?"),
        (echo.leave, "the worker process died (exit code 3); out of memory?"),
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
