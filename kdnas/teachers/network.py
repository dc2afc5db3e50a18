"""The networks of teachers: a plain multi-layer perceptron for actors and critics, and Gaussian actors."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init  # leaves the global generator alone


def make_mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    last_gain: float = 1.0,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Linear layers with ReLU between them; orthogonal initialisation (gain sqrt 2; the last layer `last_gain`)."""
    network = lay_out([inputs, *hidden, outputs])
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    for linear in linears:
        nn.init.orthogonal_(linear.weight, last_gain if linear is linears[-1] else 2**0.5, generator=generator)
        nn.init.zeros_(linear.bias)
    return network


def lay_out(sizes: Sequence[int], device: str = "cpu") -> nn.Sequential:
    """Linear layers of some sizes with ReLU between them, with anything in them; on `meta` they take no memory."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = skip_init(nn.Linear, fan_in, fan_out, device=device)  # type: ignore[no-untyped-call]
        layers += [nn.ReLU(), linear] if layers else [linear]
    return nn.Sequential(*layers)


class GaussianActor(nn.Module):
    """Means from a network (rows, O) -> (rows, D), and one learned deviation a dimension whatever is observed.

    Returns means and logarithms of deviations side by side, (rows, 2 D).
    """

    def __init__(self, mean: nn.Sequential, dimensions: int, log_std: float = -0.5) -> None:
        super().__init__()
        self.mean = mean
        self.log_std = nn.Parameter(torch.full((dimensions,), log_std))

    def forward(self, observations: Tensor) -> Tensor:
        mean: Tensor = self.mean(observations)
        return torch.cat([mean, self.log_std.expand_as(mean)], -1)
