"""How a call is timed: warmed up, in turns with a reference kernel, in chunks, by percentiles."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kdnas.errors import ConfigError
from kdnas.profiling.target import Measurement

DRIFT, ATTEMPTS = 0.1, 3
"""A measurement in which the reference kernel drifted by more than this is made again, so often in all."""

SETTLING = 3
"""Calls at the beginning of each turn that are not timed: they bring back to the caches what the other drove out."""

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The protocol of timing one call. A percentile is taken of each chunk, and of these the median: a burst of another
    process spoils one chunk, not the number. Between two chunks stands one of a reference kernel, which tells whether
    the machine stayed as fast as it was."""

    calls: int = 2000
    """Timed calls, all chunks together."""
    chunks: int = 5
    warm_up: int = 100
    """Calls before the first timed one; they also say how long a call takes."""
    limit_s: float = 0.04
    """Slow calls are timed less often, so that all take about this long; never less than 20 a chunk."""

    def __post_init__(self) -> None:
        if not 1 <= self.chunks <= self.calls or self.warm_up < 1 or not self.limit_s > 0:
            raise ConfigError(
                "timing: 1 <= chunks <= calls, warm_up >= 1 and limit_s > 0 must hold, but got "
                f"chunks={self.chunks}, calls={self.calls}, warm_up={self.warm_up}, limit_s={self.limit_s}"
            )

    def measure(
        self, call: Call, reference: Call, clock_ns: Callable[[], int] = time.perf_counter_ns
    ) -> Measurement:
        """Time a call in turns with the reference kernel, with the overhead of one clock reading (some 0.05 us) in it.

        Each has as many calls as its own time allows.
        """
        sizes = [(each, self._chunk(each, clock_ns)) for each in (call, reference)]

        def take_turns() -> Measurement:
            turns = [[_settled_times_ns(each, size, clock_ns) for each, size in sizes] for _ in range(self.chunks)]
            own, references = zip(*turns, strict=True)
            return summarise(own, references)

        return steadiest(take_turns)

    def _chunk(self, call: Call, clock_ns: Callable[[], int]) -> int:
        """Warm a call up; how many of it make a chunk."""
        warm = np.median(_times_ns(call, self.warm_up, clock_ns))
        affordable = int(self.limit_s * 1e9 / max(float(warm), 1.0)) // self.chunks
        return min(self.calls // self.chunks, max(20, affordable))


def summarise(
    chunks_ns: Sequence[Sequence[float]], references_ns: Sequence[Sequence[float]] = ()
) -> Measurement:
    """Percentiles of chunks of times in nanoseconds: of each chunk, and of these the median.

    Args:
        chunks_ns: of what is measured.
        references_ns: of the reference kernel, one between any two of those; none on targets that count.
    """
    p50, p95, p99 = np.median([np.percentile(chunk, [50, 95, 99]) for chunk in chunks_ns], axis=0) * 1e-9
    reference_s = drift = 0.0
    if references_ns:
        medians = [float(np.median(chunk)) for chunk in references_ns]
        reference_s, drift = float(np.median(medians)) * 1e-9, max(medians) / min(medians) - 1.0
    return Measurement(p50_s=float(p50), p95_s=float(p95), p99_s=float(p99), reference_s=reference_s, drift=drift)


def steadiest(measure: Callable[[], Measurement]) -> Measurement:
    """The first measurement whose reference kernel drifted by `DRIFT` at most, or of `ATTEMPTS` the least drifted."""
    taken: list[Measurement] = []
    for _ in range(ATTEMPTS):
        taken.append(measure())
        if taken[-1].drift <= DRIFT:
            break
    return min(taken, key=lambda each: each.drift)


def _settled_times_ns(call: Call, count: int, clock_ns: Callable[[], int]) -> list[int]:
    return _times_ns(call, SETTLING + count, clock_ns)[SETTLING:]


def _times_ns(call: Call, count: int, clock_ns: Callable[[], int]) -> list[int]:
    times = []
    for _ in range(count):
        start = clock_ns()
        call()
        times.append(clock_ns() - start)
    return times
