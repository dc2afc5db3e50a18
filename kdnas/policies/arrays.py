"""The array types of the house. Letters: B batch, A agents of a group, O observation, N actions, S state, T time."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
"""Observations, states, logits and rewards: float32."""

Ints: TypeAlias = NDArray[np.int64]
"""Discrete actions: int64."""

Bools: TypeAlias = NDArray[np.bool_]
"""Action masks (True is legal), alive and done flags."""
