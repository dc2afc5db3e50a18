"""Masked logits of discrete actions."""

import numpy as np
import torch
from torch import Tensor

from kdnas.policies.actions import ActionSpace, Box
from kdnas.policies.arrays import Bools

ILLEGAL = -1e9
"""Logit of a masked action: its probability is exactly 0 in float32, and no sum of it overflows."""


def mask_logits(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Give illegal actions the logit `ILLEGAL`; mask (..., N) is True where an action is legal."""
    return logits if mask is None else torch.where(mask, logits, ILLEGAL)


def allows_all_factors(space: ActionSpace, mask: Bools) -> Bools:
    """Whether masks (..., N) leave a legal choice in every factor: (...,). Without one an illegal choice is made."""
    counts = (space.outputs,) if isinstance(space, Box) else space.counts
    return np.asarray(np.logical_or.reduceat(mask, np.cumsum((0, *counts[:-1])), axis=-1).all(-1))
