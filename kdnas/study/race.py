"""A race over rungs: which trials are worth more training, judged by retention and price together."""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdnas.study.front import Objectives

BAND = 0.5
"""Width of a cost band in decades of team FLOPs.

Half a decade is a factor of 3.2. Narrower bands hold fewer trials, of which a larger share goes on: in the simulation
of the tests (60 trials over two decades, three rungs) a width of 0.15 takes 77 % of the steps of training all to the
end and keeps 99.7 % of the hypervolume, 0.5 takes 62 % and keeps 98.6 %, and one band for all 48 % and 96.4 %.
"""

_UP_DOWN_DOWN = [True, False, False]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a trial stands at one rung."""

    trial: int
    objectives: Objectives
    """Its retention, as predicted from this much training, and its price, which training does not change."""


def order(standings: Sequence[Standing]) -> list[Standing]:
    """Best first: by non-dominated rank, then by crowding distance (larger first), then by trial number.

    Rank and crowding are those of NSGA-II (Deb et al., 2002), as MO-ASHA (Schmucker et al., 2021, arXiv 2106.12639)
    ranks the trials of a rung by them. Crowding is taken within a rank, over retention, log10 of FLOPs and log10 of
    memory, each divided by its range in that rank. The order does not hang on how the standings are sorted: the
    neighbours of a value are the next smaller and the next larger one that differ from it, every trial at an end of
    an objective is infinitely far from others, and a trial whose objectives repeat those of an earlier one has
    distance 0.

    Example: (.9, 1000, 1000), (.5, 100, 100) and (.4, 200, 100) of trials 0, 1, 2: the third is dominated by the
    second, the others are the ends of the first rank: 0, 1, 2.
    """
    import moocore

    if not standings:
        return []
    earliest = sorted(standings, key=lambda standing: standing.trial)
    points = np.array([standing.objectives for standing in earliest], np.float64)
    ranks = np.asarray(moocore.pareto_rank(points, maximise=_UP_DOWN_DOWN))
    distances = np.zeros(len(earliest))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        distances[members] = _crowding(points[members])
    best = sorted(range(len(earliest)), key=lambda index: (ranks[index], -distances[index], index))
    return [earliest[index] for index in best]


def bands(standings: Sequence[Standing], width: float = BAND) -> list[list[Standing]]:
    """Groups of trials of about the same price, the cheapest group first, by trial number in each.

    A small student recovers later than a large one, so it is compared with those of its own size only. The band of a
    trial is floor(log10(team FLOPs) / width): its edges are absolute and do not move while trials come in.

    Example: 900, 1000 and 3000 FLOPs with a width of 0.5: log10 is 2.954, 3 and 3.477, that is bands 5, 6 and 6.
    """
    groups: dict[int, list[Standing]] = {}
    for standing in sorted(standings, key=lambda standing: standing.trial):
        groups.setdefault(math.floor(math.log10(standing.objectives[1]) / width), []).append(standing)
    return [groups[band] for band in sorted(groups)]


def promotable(
    standings: Sequence[Standing],
    promoted: Set[int],
    *,
    reduction: int,
    margin: float = 0.0,
    width: float = BAND,
) -> list[int]:
    """Trials of one rung that may go on to the next and have not been promoted yet, best first over all bands.

    In every band these are the first ceil(n / reduction) in `order`; and besides, every trial that nothing in its
    band would dominate if its retention were higher by `margin`. It is asked again whenever a result comes in, as
    in asynchronous successive halving (Li et al., 2020): nobody waits for a rung to fill up. What has been promoted
    keeps the place that it would have, so the others of its band do not move up.

    Example: retentions .9, .8, .7 and .6 of trials 0 to 3, all at the same price, reduction 3. Each dominates the
    next, so ceil(4 / 3) = 2 go on: [0, 1]. With a margin of .25 trial 2 may have .95, and goes on: [0, 1, 2].

    Args:
        standings: All trials that have reached this rung, promoted or not, each once.
        promoted: Numbers of the trials that have gone on from this rung.
        reduction: One of so many goes on, rounded up.
        margin: How far predictions of retention have been off; it widens the race. While retentions lie between 0
            and 1, a margin of 1 sends every trial on.
        width: Of the cost bands, in decades of team FLOPs.
    """
    chosen: set[int] = set()
    for band in bands(standings, width):
        places = -(-len(band) // reduction)
        chosen.update(standing.trial for standing in order(band)[:places])
        points = np.array([standing.objectives for standing in band], np.float64)
        chosen.update(band[index].trial for index in range(len(band)) if not _dominated(points, index, margin))
    return [standing.trial for standing in order(standings) if standing.trial in chosen - promoted]


def _crowding(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Crowding distance (n,) of the points (n, 3) of one rank: the earlier of equal points first."""
    distances = np.zeros(len(points))
    for values in (points[:, 0], np.log10(points[:, 1]), np.log10(points[:, 2])):
        distinct, place = np.unique(values, return_inverse=True)
        if len(distinct) == 1:
            continue  # nobody is nearer to others in what all have alike
        gaps = np.full(len(distinct), np.inf)
        gaps[1:-1] = (distinct[2:] - distinct[:-2]) / (distinct[-1] - distinct[0])
        distances += gaps[place]
    first = np.unique(points, axis=0, return_index=True)[1]
    return np.where(np.isin(np.arange(len(points)), first), distances, 0.0)


def _dominated(points: NDArray[np.float64], index: int, margin: float) -> bool:
    """Whether another point dominates this one with its retention raised by `margin`."""
    retention, flops, memory = points[index]
    gains = np.stack([points[:, 0] - (retention + margin), flops - points[:, 1], memory - points[:, 2]])
    better = (gains >= 0).all(0) & (gains > 0).any(0)
    return bool(np.delete(better, index).any())
