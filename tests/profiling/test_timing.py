from collections.abc import Iterator

import pytest

from kdnas.errors import ConfigError
from kdnas.profiling.timing import Timing


class _Clock:
    """Each call takes the next duration: the clock is read before and after it."""

    def __init__(self, durations_ns: Iterator[int]) -> None:
        self.durations, self.now, self.calls = durations_ns, 0, 0

    def __call__(self) -> int:
        return self.now

    def call(self) -> None:
        self.calls += 1
        self.now += next(self.durations)


def _timed(timing: Timing, durations_us: list[int]) -> tuple[float, float, int]:
    clock = _Clock(iter(1000 * duration for duration in durations_us))
    latency = timing.measure(clock.call, clock)
    return latency.p50_s, latency.p95_s, clock.calls


def test_percentiles_are_medians_over_chunks() -> None:
    timing = Timing(calls=63, chunks=3, warm_up=1, limit_s=1.0)
    # Chunks of 21 calls: the 11th smallest is the median, the 20th the 95th percentile. The second chunk is disturbed.
    quiet, disturbed = list(range(1, 22)), [500] * 21
    p50, p95, calls = _timed(timing, [1, *quiet, *disturbed, *quiet])
    assert (p50, p95) == pytest.approx((11e-6, 20e-6))
    assert calls == 1 + 63


def test_slow_calls_are_timed_less_often() -> None:
    # 4 ms for 5 chunks at 10 us a call are 80 calls a chunk instead of 400; at 10 ms a call the least, 20.
    assert _timed(Timing(limit_s=0.004), [10] * 5000)[2] == 100 + 5 * 80
    assert _timed(Timing(limit_s=0.004), [10_000] * 5000)[2] == 100 + 5 * 20


def test_a_protocol_that_times_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"1 <= chunks <= calls.*chunks=5, calls=3"):
        Timing(calls=3)
