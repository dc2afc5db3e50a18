"""Structured pruning: whole hidden units are removed, so that the network really becomes smaller."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdnas.errors import StudentError
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import Family
from kdnas.students.student import Student


def prune(student: Student, spec: StudentSpec, family: Family, loss: Callable[[Student], Tensor]) -> Student:
    """A copy of a dense float student with `spec.hidden` units left in each hidden layer; the original is unchanged.

    Units are ranked by first-order Taylor importance |w * dL/dw| (Molchanov et al. 2019, arXiv 1906.10771) of the loss
    that is given, with torch-pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900) removing them everywhere.

    Raises:
        StudentError: the realised widths are not those of the spec (torch-pruning leaves a layer alone, silently, when
            a ratio rounds to nothing).
    """
    import torch_pruning as tp

    pruned = copy.deepcopy(student)
    layers = family.prunable(pruned.network)
    ratios = {
        # A quarter of a unit is added so that int(dense * (1 - ratio)) lands on the width whatever the rounding.
        layer: 1.0 - (width + 0.25) / dense
        for layer, dense, width in zip(layers, spec.base, spec.hidden, strict=True)
        if width < dense
    }
    if ratios:
        kept = [module for module in pruned.network.modules() if isinstance(module, nn.Linear) and module not in ratios]
        pruner = tp.pruner.BasePruner(
            pruned.network,
            torch.zeros(1, student.spaces.observation_size),
            importance=tp.importance.GroupTaylorImportance(),
            pruning_ratio=0.0,
            pruning_ratio_dict=ratios,
            ignored_layers=kept,
            root_module_types=[nn.Linear],
            # The defaults are one dict for all pruners of a process.
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
            channel_groups={},
        )
        loss(pruned).backward()  # type: ignore[no-untyped-call]
        pruner.step()
        pruned.zero_grad()
    widths = tuple(int(layer.out_features) for layer in family.prunable(pruned.network))  # type: ignore[arg-type]
    if widths != spec.hidden:
        raise StudentError(f"student {spec}: pruning gave widths {widths}; report this spec and its base {spec.base}")
    pruned.spec = spec.floating
    return pruned
