import pytest

from kdnas.study import stopwatch
from kdnas.study.stopwatch import Stopwatch


def test_what_is_inside_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now)
    watch = Stopwatch()
    assert watch.share == 0.0
    for begins in (102.0, 105.0):
        now = begins
        with watch:
            now = begins + 1.0
    now = 110.0
    # Two seconds of ten.
    assert watch.seconds == 2.0
    assert watch.share == pytest.approx(0.2)
