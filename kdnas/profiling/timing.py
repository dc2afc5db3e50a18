"""How a call is timed: warmed up, in chunks, by percentiles."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kdnas.errors import ConfigError
from kdnas.profiling.target import Measurement


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The protocol of timing one call. A percentile is taken of each chunk, and of these the median: a burst of another
    process spoils one chunk, not the number."""

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

    def measure(self, call: Callable[[], object], clock_ns: Callable[[], int] = time.perf_counter_ns) -> Measurement:
        """Time a call, with the overhead of one clock reading (some 0.05 us) in it."""
        warm = np.median(_times_ns(call, self.warm_up, clock_ns))
        affordable = int(self.limit_s * 1e9 / max(float(warm), 1.0)) // self.chunks
        size = min(self.calls // self.chunks, max(20, affordable))
        return summarise([_times_ns(call, size, clock_ns) for _ in range(self.chunks)])


def summarise(chunks_ns: Sequence[Sequence[float]]) -> Measurement:
    """Percentiles of chunks of times in nanoseconds: of each chunk, and of these the median."""
    p50, p95, p99 = np.median([np.percentile(chunk, [50, 95, 99]) for chunk in chunks_ns], axis=0) * 1e-9
    return Measurement(p50_s=float(p50), p95_s=float(p95), p99_s=float(p99))


def _times_ns(call: Callable[[], object], count: int, clock_ns: Callable[[], int]) -> list[int]:
    times = []
    for _ in range(count):
        start = clock_ns()
        call()
        times.append(clock_ns() - start)
    return times
