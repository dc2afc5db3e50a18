"""Evaluation in stages: a team plays only as many episodes as its comparison with others needs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""Chance of a false verdict, one way or the other, over all looks at one team."""
LEAST = 30
"""Episodes below which two teams are not compared: the mean of fewer differences need not be near normal."""


class Outlook(Enum):
    """What the episodes that a team has played say of its place."""

    DOMINATED = "dominated"
    """Some rival that costs no more plays clearly better: further episodes are in vain."""
    CLEAR = "clear"
    """It plays clearly better than every rival that costs no more: it has a place on the front."""
    OPEN = "open"
    """Neither is known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rival:
    """A team that has been played, on the same episode seeds in the same order, and its price."""

    returns: NDArray[np.float64]
    """Per-episode returns (E,)."""
    flops: float
    memory_bytes: float


def stages(cap: int, first: int = 64) -> list[int]:
    """Episodes played in all after each stage: doubling from `first`, and `cap` at the end.

    Example: `stages(300)` is [64, 128, 256, 300], and `stages(50)` is [50].
    """
    counts = []
    count = first
    while count < cap:
        counts.append(count)
        count *= 2
    return [*counts, cap]


def paired_interval(differences: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Two-sided t interval of the mean of paired differences (n,), which misses it with chance `level`.

    From `LEAST` differences it is exact to 1e-4 standard errors; for a handful it would be too narrow.

    Student's t rather than a bootstrap: levels here are split into parts of a thousandth, where a percentile of
    resamples would need tens of thousands of them and is too narrow for few episodes; and the same differences give
    the same interval.

    Example: 36 differences, half of them 0 and half 2: mean 1, sample variance 36 / 35, standard error
    1 / sqrt(35) = 0.169; t with 35 degrees is 2.030 at 5 %, so the interval is 1 -+ 0.343.
    """
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    reach = _t_quantile(1 - level / 2, len(differences) - 1) * error
    return mean - reach, mean + reach


def judge(
    returns: NDArray[np.float64], flops: float, memory_bytes: float, rivals: Sequence[Rival], *, looks: int
) -> Outlook:
    """Say what a team's first episodes mean for its place among the teams that were played before.

    Only rivals that cost no more, neither in FLOPs nor in memory, matter. Each is compared on the episodes that both
    have played, the first min(e, E): both met the same ones, so how hard an episode was falls out of the difference.

    `LEVEL` is split over the looks (Bonferroni), and between the two verdicts by a two-sided interval. An
    O'Brien-Fleming boundary would spend next to nothing at the first look, where a clearly worse team should stop, and
    needs to know how many episodes each comparison has; a Bonferroni split holds whatever they are. For DOMINATED it
    is split over the rivals as well, because any one of them is enough; CLEAR asks all of them, which needs no split.
    The split covers the rivals that are given: give all teams that were played, rather than those that did well.

    With no rival to compare with, or fewer than `LEAST` common episodes with one of them, the answer is OPEN: the
    first episodes alone would be too noisy an estimate for an objective.

    Args:
        returns: Per-episode returns (e,), on the seeds that the rivals have played in the same order.
        flops: Of the team.
        memory_bytes: Of the team.
        rivals: Teams that were played, of any price.
        looks: How often this team is judged at most: `len(stages(cap))`.
    """
    cheaper = [rival for rival in rivals if rival.flops <= flops and rival.memory_bytes <= memory_bytes]
    if not cheaper:
        return Outlook.OPEN
    level = LEVEL / looks
    clear = True
    for rival in cheaper:
        common = min(len(returns), len(rival.returns))
        if common < LEAST:
            clear = False
            continue
        ahead = returns[:common] - rival.returns[:common]
        if paired_interval(ahead, level / len(cheaper))[1] < 0:
            return Outlook.DOMINATED
        clear = clear and paired_interval(ahead, level)[0] > 0
    return Outlook.CLEAR if clear else Outlook.OPEN


def _t_quantile(chance: float, degrees: int) -> float:
    """Quantile of Student's t: Abramowitz and Stegun (1964), 26.7.5, four terms beyond the normal quantile.

    From 29 degrees it is right to 1e-4 at every level down to 1e-5.
    """
    x = NormalDist().inv_cdf(chance)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))
