"""Masked logits of discrete actions."""

import torch
from torch import Tensor

ILLEGAL = -1e9
"""Logit of a masked action: its probability is exactly 0 in float32, and no sum of it overflows."""


def mask_logits(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Give illegal actions the logit `ILLEGAL`; mask (..., N) is True where an action is legal."""
    return logits if mask is None else torch.where(mask, logits, ILLEGAL)
