"""Discrete action distributions, as pure functions on logits (..., N)."""

import torch
from torch import Tensor

ILLEGAL = -1e9
"""Logit of a masked action: its probability is exactly 0 in float32, and no sum of it overflows."""


def mask_logits(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Give illegal actions the logit `ILLEGAL`; mask (..., N) is True where an action is legal."""
    return logits if mask is None else torch.where(mask, logits, ILLEGAL)


def greedy(logits: Tensor) -> Tensor:
    """The most likely action (...,); among equals the lowest index, here and in every exported artifact."""
    return logits.argmax(-1)


def sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One action (...,) from each distribution, by the Gumbel-max trick."""
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device).clamp_min(1e-20)
    return (logits - (-uniform.log()).log()).argmax(-1)


def log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    """Log-probability (...,) of actions (...,)."""
    return logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy (...,) in nats."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)
