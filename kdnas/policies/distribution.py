"""Action distributions, as pure functions of the numbers (..., P) that a network says about an `ActionSpace`.

A *choice* is what is drawn, with the log-probability that training needs; `to_actions` turns it into what the
environment takes. They differ for `Box` only, whose choices lie before the clipping or squashing: the ratio of two
policies' densities is the same there, and needs no correction for the map.
Masked logits are masked by the caller (`mask_logits`), once.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.policies.arrays import Floats

LOG_STD_RANGE = (-5.0, 2.0)
"""Logarithms of deviations are clipped to this: below, densities overflow; above, actions are noise."""


def greedy(space: ActionSpace, outputs: Tensor) -> Tensor:
    """The most likely action (..., *shape); among equal logits the lowest index, here and in every artifact."""
    return to_actions(space, mode(space, outputs))


def mode(space: ActionSpace, outputs: Tensor) -> Tensor:
    """The most likely choice (..., *shape); `outputs` may be a student's, or a teacher's parameters."""
    if isinstance(space, Box):
        return outputs[..., : space.outputs]
    if isinstance(space, Discrete):
        return outputs.argmax(-1)
    return torch.stack([logits.argmax(-1) for logits in factors(space, outputs)], -1)


def to_actions(space: ActionSpace, choices: Tensor) -> Tensor:
    """What the environment takes: choices (..., *shape) themselves, or clipped or squashed to the bounds of a Box."""
    if not isinstance(space, Box):
        return choices
    if space.squashed:
        scale, shift = (torch.from_numpy(each).to(choices) for each in squash_map(space))
        return shift + scale * choices.tanh()
    low, high = (torch.tensor(bound, dtype=choices.dtype, device=choices.device) for bound in (space.low, space.high))
    return choices.clamp(low, high)


@cache
def squash_map(space: Box) -> tuple[Floats, Floats]:
    """Scale and shift, each (D,), of the map shift + scale tanh(x) into the bounds, which no action leaves.

    In float32 the sum may round to a number beyond a bound, and tanh of onnxruntime reaches 1 + 2e-7: the scale is
    smaller by as much.
    """
    low, high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)
    scale, shift = ((each / 2).astype(np.float32) for each in (high - low, high + low))
    reach = np.float32(1 + 2**-21)
    step = np.spacing(np.maximum(np.abs(low), np.abs(high)))
    while (beyond := (shift + reach * scale > high) | (shift - reach * scale < low)).any():
        scale = np.where(beyond, np.maximum(scale - step, 0), scale)
    return scale, shift


def sample(space: ActionSpace, parameters: Tensor, generator: torch.Generator) -> Tensor:
    """One choice (..., *shape) from each distribution; discrete ones by the Gumbel-max trick."""
    if isinstance(space, Box):
        mean, log_std = _gaussian(parameters)
        return mean + log_std.exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
    uniform = torch.rand(parameters.shape, generator=generator, device=parameters.device).clamp_min(1e-20)
    return mode(space, parameters - (-uniform.log()).log())


def log_prob(space: ActionSpace, parameters: Tensor, choices: Tensor) -> Tensor:
    """Log-probability or log-density (...,) of choices (..., *shape)."""
    if isinstance(space, Box):
        mean, log_std = _gaussian(parameters)
        scaled = (choices - mean) * (-log_std).exp()
        return (-0.5 * scaled.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
    chosen = choices.unsqueeze(-1) if isinstance(space, Discrete) else choices
    return torch.cat(
        [
            log_probabilities(logits).gather(-1, chosen[..., index : index + 1])
            for index, logits in enumerate(factors(space, parameters))
        ],
        -1,
    ).sum(-1)


def entropy(space: ActionSpace, parameters: Tensor) -> Tensor:
    """Entropy (...,) in nats; of a Box before it is clipped or squashed."""
    if isinstance(space, Box):
        return (_gaussian(parameters)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
    said = [log_probabilities(logits) for logits in factors(space, parameters)]
    return -sum(((each.exp() * each).sum(-1) for each in said), start=torch.zeros(()))


def log_probabilities(logits: Tensor) -> Tensor:
    """log softmax over the last axis: (..., N) -> (..., N).

    Over a short last axis torch takes ten times as long as over the first one of the transposed.
    """
    return logits.movedim(-1, 0).contiguous().log_softmax(0).movedim(0, -1)


def factors(space: Discrete | MultiDiscrete, numbers: Tensor) -> tuple[Tensor, ...]:
    """Logits or masks (..., N) of each factor (..., N_k)."""
    return torch.split(numbers, list(space.counts), -1)


def _gaussian(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and clipped logarithm of the deviation, each (..., D)."""
    mean, log_std = parameters.chunk(2, -1)
    return mean, log_std.clamp(*LOG_STD_RANGE)
