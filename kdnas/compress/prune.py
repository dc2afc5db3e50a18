"""Structured pruning: whole hidden units and inputs are removed, so that the network really becomes smaller."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kdnas.compress.units import choose_units, cut_units, unit_importance
from kdnas.errors import StudentError
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import Family, Selective, Units
from kdnas.students.student import Student


def prune(student: Student, spec: StudentSpec, family: Family, loss: Callable[[Student], Tensor]) -> Student:
    """A copy of a wider float student with `spec.hidden` units left in each hidden layer and `spec.inputs` inputs; the
    original is unchanged.

    Inputs go first, so that units are judged by what they do without these. Both are ranked by first-order Taylor
    importance |w * dL/dw| (Molchanov et al. 2019, arXiv 1906.10771) of the loss that is given: inputs by the columns of
    the first layer. Where the family declares its units they are cut out of its parameters; otherwise torch-pruning's
    dependency graph (Fang et al. 2023, arXiv 2301.12900) removes them everywhere.

    Raises:
        StudentError: the realised widths are not those of the spec (torch-pruning leaves a layer alone, silently, when
            a ratio rounds to nothing; or the student is not wider), or the family's networks cannot do without inputs.
    """
    pruned = copy.deepcopy(student)
    if spec.inputs is not None and student.spec.inputs is None:
        pruned = _prune_inputs(pruned, spec, spec.inputs, family, loss)
    units = family.units(pruned.spec, pruned.spaces.inputs)
    if units is None:
        _prune_by_graph(pruned, spec, family, loss)
    else:
        _prune_by_units(pruned, spec, family, units, loss)
    pruned.spec = spec.floating
    pruned.hidden_size = family.hidden_size(spec)
    return pruned


def _prune_inputs(
    dense: Student, spec: StudentSpec, count: int, family: Family, loss: Callable[[Student], Tensor]
) -> Student:
    if not isinstance(family, Selective):
        raise StudentError(f"student {spec}: networks of {family.name!r} read all of their inputs")
    places, read = family.inputs(dense.spec), dense.spaces.kept
    loss(dense).backward()  # type: ignore[no-untyped-call]
    kept = choose_units(unit_importance(dict(dense.network.named_parameters()), places, len(read)), count)
    spaces = dense.spaces.reading([read[place] for place in kept.tolist()])
    network = family.build(dense.spec, spaces.inputs, torch.Generator().manual_seed(0))
    network.load_state_dict(cut_units(dense.network.state_dict(), [(places, kept, len(read))]))
    normalisation = dense.normalisation.of(kept.tolist()) if dense.normalisation is not None else None
    return Student(dense.spec, spaces, network, normalisation).train(dense.training)


def _prune_by_units(
    pruned: Student, spec: StudentSpec, family: Family, units: Sequence[Units], loss: Callable[[Student], Tensor]
) -> None:
    loss(pruned).backward()  # type: ignore[no-untyped-call]
    dense = dict(pruned.network.named_parameters())
    groups = []
    for each in units:
        width = pruned.spec.hidden[each.layer]
        importance = unit_importance(dense, each.places, width)
        groups.append((each.places, choose_units(importance, spec.hidden[each.layer]), width))
    # Built as any network of the spec, so that nothing else in it can remember the widths that were.
    network = family.build(spec.floating, pruned.spaces.inputs, torch.Generator().manual_seed(0))
    try:
        network.load_state_dict(cut_units(pruned.network.state_dict(), groups))
    except RuntimeError as error:
        first = " ".join(str(error).split())
        raise StudentError(f"student {spec}: units() of {family.name!r} are not where it says: {first}") from error
    pruned.network = network.train(pruned.network.training)


def _prune_by_graph(pruned: Student, spec: StudentSpec, family: Family, loss: Callable[[Student], Tensor]) -> None:
    import torch_pruning as tp

    layers = family.prunable(pruned.network)
    ratios = {
        # A quarter of a unit is added so that int(dense * (1 - ratio)) lands on the width whatever the rounding.
        layer: 1.0 - (width + 0.25) / dense
        for layer, dense, width in zip(layers, pruned.spec.hidden, spec.hidden, strict=True)
        if width < dense
    }
    if ratios:
        kept = [module for module in pruned.network.modules() if isinstance(module, nn.Linear) and module not in ratios]
        pruner = tp.pruner.BasePruner(
            pruned.network,
            torch.zeros(1, pruned.spaces.inputs.observation_size),
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
        raise StudentError(f"student {spec}: pruning gave widths {widths}; report this spec and {pruned.spec.hidden}")
