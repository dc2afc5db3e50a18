"""How fast this machine is while something runs: shared ones are three times faster in one hour than in the next."""

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

EVERY_S = 20.0


def pace_us() -> float:
    """Microseconds of a fixed piece of arithmetic, the fastest of 20: what a core can do at this moment."""
    times = []
    for _ in range(20):
        began = time.perf_counter_ns()
        sum(number * number for number in range(5_000))
        times.append(time.perf_counter_ns() - began)
    return min(times) / 1_000


def run_paced(command: Sequence[str], *, stopped: bool = False) -> float:
    """Run a command and look at the pace every 20 seconds; the median in microseconds.

    `stopped` halts it and all that it has begun for that blink, so that what it does itself to the machine is left out.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    paces = [pace_us()]
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(EVERY_S)
            halted = list(tree(process.pid)) if stopped and process.poll() is None else []
            _tell(halted, signal.SIGSTOP)
            try:
                paces.append(pace_us())
            finally:
                _tell(halted, signal.SIGCONT)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return round(statistics.median(paces), 1)


def tree(root: int) -> Iterator[int]:
    """A process, its children and theirs."""
    yield root
    threads: list[Path] = []
    with suppress(OSError):
        threads = list(Path(f"/proc/{root}/task").iterdir())
    for thread in threads:
        children = ""
        with suppress(OSError):  # a thread may end meanwhile
            children = (thread / "children").read_text()
        for child in children.split():
            yield from tree(int(child))


def machine() -> str:
    """What is the same for times that can be compared: this machine since it was started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]


def _tell(processes: Sequence[int], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)
