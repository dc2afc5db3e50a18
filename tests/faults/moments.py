"""`Moment`: when a fault is injected."""

import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from home import Home
from stage import Stage, TooLateError
from verdict import Verdict, told

Ended = tuple[int, str]
"""Exit code and output."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When to strike: so long after so many trials were told. How fast a machine is makes no difference."""

    trials: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s after {self.trials} were told"


def draw(luck: random.Random, stage: Stage, home: Home, *, working: bool = False) -> Moment:
    """Any moment of a search; with `working` one at which its workers are busy with trials."""
    if len(told(home.read())) == home.trials:  # it has ended before, and only scores, measures and exports again
        return Moment(trials=0, seconds=luck.uniform(0.0, stage.seconds / 2))
    trials = luck.randint(0, home.trials - working)
    # Before the first is told a search opens its study, plays its references and trains an ancestor; after the last it
    # scores, measures and exports: either takes about a third of a search.
    span = stage.seconds / 3 if trials in (0, home.trials) else stage.seconds / 10
    return Moment(trials=trials, seconds=luck.uniform(stage.workers_s[0] if working and not trials else 0.0, span))


def reach(home: Home, moment: Moment) -> "subprocess.Popen[str]":
    """Start a search and wait for a moment of it.

    Raises:
        TooLateError: it ended before.
    """
    process = home.start()
    while moment.trials and len(told(home.read())) < moment.trials:
        if process.poll() is not None:
            raise TooLateError
        time.sleep(0.2)
    try:
        process.wait(moment.seconds)
    except subprocess.TimeoutExpired:
        return process
    raise TooLateError


def strike(home: Home, verdict: Verdict, moment: Moment, what: Callable[["subprocess.Popen[str]"], None]) -> Ended:
    """Do something to a search at some moment; how it ended."""
    process = reach(home, moment)
    verdict.injected += f" {moment}"
    what(process)
    return home.finish(process)
