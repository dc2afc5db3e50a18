"""Linear layers whose first weights come from a generator that is given."""

import torch
from torch import nn
from torch.nn.utils import skip_init  # leaves the global generator alone


def make_linear(
    columns: int, rows: int, generator: torch.Generator, *, gain: float = 2**0.5, blocks: int = 1
) -> nn.Linear:
    """A linear layer (.., columns) -> (.., rows): orthogonal times `gain` in each block of rows, and zero biases.

    The default gain is that of ReLU. Source: Saxe et al. 2014, arXiv 1312.6120.
    """
    linear = skip_init(nn.Linear, columns, rows)  # type: ignore[no-untyped-call]
    assert isinstance(linear, nn.Linear)
    for block in linear.weight.chunk(blocks):
        nn.init.orthogonal_(block, gain, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear
