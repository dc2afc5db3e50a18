"""The array types of the house. Letters: B batch, A agents of a group, O observation, N actions, S state, T time."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
"""Observations, states, logits and rewards: float32."""

Actions: TypeAlias = NDArray[np.int64] | NDArray[np.float32]
"""Actions (..., *shape of the space): int64 for Discrete and MultiDiscrete, float32 for Box."""

Bools: TypeAlias = NDArray[np.bool_]
"""Action masks (True is legal), alive and done flags."""
