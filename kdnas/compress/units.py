"""Surgery on parameters: which units matter least, and what is left of the tensors without them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdnas.students.family import Place


def unit_importance(parameters: Mapping[str, nn.Parameter], places: Sequence[Place], width: int) -> Tensor:
    """First-order Taylor importance (width,): |w * dL/dw|, summed over all places in which a unit, or an input, stands.

    The gradients are those that the parameters hold; a parameter without one counts nothing.
    Source: Molchanov et al. 2019, arXiv 1906.10771, the sum over single weights.
    """
    total = torch.zeros(width)
    for place in places:
        parameter = parameters[place.parameter]
        if parameter.grad is not None:
            terms = (parameter.detach() * parameter.grad).abs().movedim(place.axis, 0)
            total += terms[place.start : place.start + width].reshape(width, -1).sum(1)
    return total


def choose_units(importance: Tensor, count: int) -> Tensor:
    """Indices of the most important units, in ascending order; among equals the lowest indices stay."""
    return importance.sort(descending=True, stable=True).indices[:count].sort().values


def cut_units(
    tensors: Mapping[str, Tensor], groups: Sequence[tuple[Sequence[Place], Tensor, int]]
) -> dict[str, Tensor]:
    """Copies of tensors without the entries of units, or inputs, that go.

    Args:
        tensors: the parameters of a network by name.
        groups: places of units, the indices of those that stay, and how many there were.
    """
    keep: dict[tuple[str, int], Tensor] = {}
    for places, kept, width in groups:
        for place in places:
            mask = keep.setdefault(
                (place.parameter, place.axis), torch.ones(tensors[place.parameter].shape[place.axis], dtype=torch.bool)
            )
            mask[place.start : place.start + width] = False
            mask[place.start + kept] = True
    left = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    for (name, axis), mask in keep.items():
        left[name] = left[name].index_select(axis, mask.nonzero().flatten())
    return left
