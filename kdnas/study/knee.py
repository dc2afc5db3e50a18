"""The knee of a front: where more retention begins to cost much more."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def knee_heights(retention: Floats, costs: Floats) -> Floats:
    """How high each team (N,) of costs (N, K) lies above the plane between the most that is retained and the cheapest.

    Retention and the logarithm of each cost are scaled to [0, 1] over the front; the height is retention less the mean
    of the costs. For one cost this is sqrt(2) times the distance to the line between the two ends of the front: the
    knee of Das (On characterizing the "knee" of the Pareto curve, 1999), and the difference curve of Kneedle (Satopää
    et al., 2011). For several costs, Das's plane through the best team of each objective is none where one team is the
    cheapest in all of them, as the smallest network is; the plane of the mean is always there.

    Teams that another one beats are no part of the front: they count for no scale, and their height is -inf.

    Example: retention 1.0, 0.9 and 0.5 at 10,000, 1,000 and 100 FLOPs are 1, 0.8 and 0 at 1, 0.5 and 0; the heights are
    0, 0.3 and 0, and the second is the knee.

    Args:
        retention: higher is better.
        costs: positive, lower is better.
    """
    losses = np.column_stack([-retention, np.log(costs)])
    # [i, j]: team j is no worse than i in anything, and better in something.
    beats = np.all(losses[None] <= losses[:, None], axis=2) & np.any(losses[None] < losses[:, None], axis=2)
    kept = ~np.any(beats, axis=1)
    low, high = losses[kept].min(0), losses[kept].max(0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    heights: Floats = np.where(kept, 1.0 - scaled[:, 0] - scaled[:, 1:].mean(1), -np.inf)
    return heights
