"""`Scene`s of a few numbers."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from kdnas.policies import Scene
from kdnas.policies.arrays import Bools


def scene_of(
    observations: Mapping[str, ArrayLike],
    masks: Mapping[str, Bools | None] | None = None,
    state: ArrayLike | None = None,
    *,
    views: Mapping[str, ArrayLike] | None = None,
    first: bool = True,
) -> Scene:
    """What groups see, (B, A, O); all are alive, without a state there is one of no numbers."""
    seen = {group: np.asarray(rows, np.float32) for group, rows in observations.items()}
    copies = len(next(iter(seen.values())))
    return Scene(
        observations=seen,
        views=seen if views is None else {group: np.asarray(rows, np.float32) for group, rows in views.items()},
        masks={group: (masks or {}).get(group) for group in seen},
        alive={group: np.ones(rows.shape[:2], np.bool_) for group, rows in seen.items()},
        state=np.zeros((copies, 0), np.float32) if state is None else np.asarray(state, np.float32),
        first=first,
    )
