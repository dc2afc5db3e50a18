import pytest

from kdnas.study.watch import Progress, Silent


def progress(**changes: float) -> Progress:
    start = {"total": 20, "before": 0, "done": 0, "rejected": 0, "outraced": 0, "failed": 0, "running": 1}
    end = {"trainings": 0, "best_retention": 0.5, "hypervolume": 1.0, "seconds": 60.0}
    return Progress(**{**start, **end, **changes})


def test_time_left_by_hand() -> None:
    # 10 of 20 ended in a minute.
    assert progress(done=6, rejected=2, outraced=1, failed=1).seconds_left == pytest.approx(60.0)
    assert progress(done=20).seconds_left == 0


def test_a_pace_is_not_guessed_from_what_costs_nothing() -> None:
    assert progress(rejected=15).seconds_left is None
    assert progress(outraced=15).seconds_left is None


def test_what_an_earlier_part_ended_says_nothing_of_the_pace() -> None:
    # 5 of the 15 in this minute, and 5 are left.
    assert progress(before=10, done=15).seconds_left == pytest.approx(60.0)
    assert progress(before=11, done=15).seconds_left is None


def test_silence() -> None:
    watch = Silent()
    watch.message("nothing")
    watch.progress(progress())
