"""Ctrl-C in a search: at once, gently, and where something else takes the exception."""

import signal
import threading
import time
from contextlib import suppress

import pytest

from kdnas.study.interrupt import SearchInterrupted, ctrl_c


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_ends_a_search_at_once_and_is_the_callers_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SearchInterrupted), ctrl_c():
        press()
    assert signal.getsignal(signal.SIGINT) is before


def test_gently_it_is_noted_and_ends_the_search_afterwards() -> None:
    done = []

    def search() -> None:
        with ctrl_c() as stop:
            with stop.gently():
                press()
                done.append(stop.pressed)
            done.append("more")

    with pytest.raises(SearchInterrupted):
        search()
    assert done == [True]


def test_the_second_one_does_not_wait() -> None:
    done = []

    def search() -> None:
        with ctrl_c() as stop, stop.gently():
            press()
            done.append("after the first")
            press()
            done.append("after the second")

    with pytest.raises(SearchInterrupted):
        search()
    assert done == ["after the first"]


def test_it_is_not_gentle_any_more_after_the_block() -> None:
    done = []

    def search() -> None:
        with ctrl_c() as stop:
            with stop.gently():
                done.append("trials")
            press()
            done.append("more")

    with pytest.raises(SearchInterrupted):
        search()
    assert done == ["trials"]


def test_an_error_that_something_made_of_it_is_an_interruption() -> None:
    def search() -> None:
        with ctrl_c():
            try:
                press()
            except SearchInterrupted:
                raise ValueError("could not determine the shape") from None

    with pytest.raises(SearchInterrupted) as caught:
        search()
    assert isinstance(caught.value.__cause__, ValueError)


def test_one_that_something_swallowed_is_found_by_the_next_check() -> None:
    done = []

    def search() -> None:
        with ctrl_c() as stop:
            with suppress(BaseException):
                press()
            done.append("on")
            stop.check()
            done.append("more")

    with pytest.raises(SearchInterrupted):
        search()
    assert done == ["on"]


def test_where_nothing_can_be_raised_it_comes_a_moment_later(capsys: pytest.CaptureFixture[str]) -> None:
    class Ends:
        def __del__(self) -> None:
            press()

    done = []

    def search() -> None:
        with ctrl_c():
            Ends()
            time.sleep(60)
            done.append("more")

    with pytest.raises(SearchInterrupted):
        search()
    assert done == []
    assert capsys.readouterr().err == ""


def test_errors_of_what_is_being_ended_are_what_they_are() -> None:
    def search() -> None:
        with ctrl_c() as stop, stop.gently():
            press()
            raise ValueError("the disk broke meanwhile")

    with pytest.raises(ValueError, match="disk"):
        search()


def test_in_another_thread_it_is_left_to_the_main_one() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with ctrl_c() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.pressed))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
