"""The activation vectors of any module, found by running it once."""

from typing import Any

import torch
from torch import Tensor, nn


def largest_activation_pair(network: nn.Module, probe: tuple[Tensor, ...]) -> int:
    """Elements of the largest pair of vectors that is live at once: what a layer reads and what it writes.

    Layers are the modules that own parameters. Activation functions run in place, as in `memory_bytes`, so that a
    teacher is not charged for what its students get for free.

    Example: an MLP 18-128-128-5 has max(18 + 128, 128 + 128, 128 + 5) = 256.
    """
    pairs: list[int] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        pairs.append(_elements(inputs) + _elements(output))

    layers = [module for module in network.modules() if next(module.parameters(recurse=False), None) is not None]
    handles = [layer.register_forward_hook(note) for layer in layers or [network]]
    try:
        with torch.inference_mode():
            network(*probe)
    finally:
        for handle in handles:
            handle.remove()
    return max(pairs)


def _elements(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel()
    return sum(_elements(item) for item in value) if isinstance(value, tuple | list) else 0
