from collections.abc import Iterator, Sequence
from itertools import repeat

import pytest

from kdnas.errors import ConfigError
from kdnas.profiling import Measurement
from kdnas.profiling.timing import ATTEMPTS, DRIFT, SETTLING, Timing, steadiest, summarise


class _Clock:
    """Read before and after a call, each of which takes the next of its durations."""

    def __init__(self) -> None:
        self.now, self.called = 0, ""

    def __call__(self) -> int:
        return self.now

    def call(self, name: str, durations_us: Iterator[int]) -> None:
        self.called += name
        self.now += 1000 * next(durations_us)


def _timed(timing: Timing, own_us: Iterator[int], reference_us: Iterator[int]) -> tuple[Measurement, str]:
    """What is measured, and the calls in their order: `o` of what is timed, `r` of the reference kernel."""
    clock = _Clock()
    measured = timing.measure(lambda: clock.call("o", own_us), lambda: clock.call("r", reference_us), clock)
    return measured, clock.called


def test_percentiles_are_medians_over_chunks() -> None:
    timing = Timing(calls=303, chunks=3, warm_up=1, limit_s=1.0)
    # Chunks of 101 calls: the 51st smallest is the median, the 96th the 95th percentile, the 100th the 99th. The second
    # chunk is disturbed, and so are the calls at the beginning of each turn, which are not timed.
    settling, quiet, disturbed = [900] * SETTLING, list(range(1, 102)), [500] * 101
    own = iter([1, *settling, *quiet, *settling, *disturbed, *settling, *quiet])
    measured, _ = _timed(timing, own, repeat(20))
    assert (measured.p50_s, measured.p95_s, measured.p99_s) == pytest.approx((51e-6, 96e-6, 100e-6))
    assert (measured.reference_s, measured.drift) == pytest.approx((20e-6, 0.0))
    assert list(own) == []


def test_the_reference_kernel_takes_turns_with_what_is_timed() -> None:
    # 4 ms for each of them, in 5 chunks: at 10 us a call 80 a chunk instead of 400, at 1 us all 400, and with a call of
    # 10 ms the least, 20. Both are warmed up before.
    timing, warm = Timing(limit_s=0.004), 100
    for own_us, reference_us, own, reference in ((10, 1, 80, 400), (1, 10_000, 400, 20)):
        _, called = _timed(timing, repeat(own_us), repeat(reference_us))
        assert called == "o" * warm + "r" * warm + 5 * ("o" * (SETTLING + own) + "r" * (SETTLING + reference))


def test_drift_is_the_slowest_chunk_of_the_reference_over_the_fastest() -> None:
    # Medians of the reference: 10, 12 and 11 us, whatever single calls take.
    measured = summarise([[5000]] * 3, [[10_000, 10_000, 99_000], [12_000], [11_000, 11_000, 1_000]])
    assert (measured.reference_s, measured.drift) == pytest.approx((11e-6, 0.2))
    counted = summarise([[5000, 5000]])
    assert (counted.reference_s, counted.drift) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("drifts", "taken", "count"),
    [
        ([0.02, 0.5, 0.5], 0.02, 1),
        ([0.5, DRIFT, 0.0], DRIFT, 2),  # as much as that is allowed
        ([0.5, 0.2, 0.3], 0.2, ATTEMPTS),
    ],
)
def test_a_restless_measurement_is_made_again(drifts: Sequence[float], taken: float, count: int) -> None:
    left = [Measurement(p50_s=1.0, p95_s=1.0, p99_s=1.0, drift=drift) for drift in drifts]
    assert steadiest(lambda: left.pop(0)).drift == taken
    assert len(left) == len(drifts) - count


def test_a_protocol_that_times_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"1 <= chunks <= calls.*chunks=5, calls=3"):
        Timing(calls=3)
