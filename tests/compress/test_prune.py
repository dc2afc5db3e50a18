import inspect
from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch_pruning
from torch import Tensor

from kdnas.compress import prune
from kdnas.errors import StudentError
from kdnas.spaces.space import parse_bits, pruned_width
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Normalisation, Student, load_family
from kdnas.students.mlp import FAMILY

MakeDense = Callable[..., Student]

SEEN = torch.randn(256, 18, generator=torch.Generator().manual_seed(1))


def loss(student: Student) -> Tensor:
    return student(SEEN).square().mean()


def spec(base: tuple[int, ...], hidden: tuple[int, ...], bits: str = "float") -> StudentSpec:
    return StudentSpec(family="mlp", base=base, hidden=hidden, bits=parse_bits(bits))


RATIOS = (0.0, 0.1, 1 / 3, 0.5, 0.8125, 0.99)


def test_combinations_of_ratios_gives_its_widths(make_dense: MakeDense) -> None:
    dense = make_dense(64, 64)
    for ratios in product(RATIOS, repeat=2):
        hidden = tuple(pruned_width(64, ratio) for ratio in ratios)
        pruned = prune(dense, spec((64, 64), hidden), FAMILY, loss)
        assert [tuple(linear.weight.shape) for linear in pruned.network.linears] == [
            (hidden[0], 18),
            (hidden[1], hidden[0]),
            (5, hidden[1]),
        ]
        assert pruned(SEEN).shape == (256, 5)


@pytest.mark.parametrize("width", range(1, 18))
def test_every_width_of_an_odd_base(make_dense: MakeDense, width: int) -> None:
    pruned = prune(make_dense(17), spec((17,), (width,)), FAMILY, loss)
    assert pruned.network.linears[0].out_features == width


def test_three_layers(make_dense: MakeDense) -> None:
    pruned = prune(make_dense(16, 12, 8), spec((16, 12, 8), (5, 12, 1)), FAMILY, loss)
    assert [linear.out_features for linear in pruned.network.linears] == [5, 12, 1, 5]


def test_the_original_is_left_alone(make_dense: MakeDense) -> None:
    dense = make_dense(64, 64)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    pruned = prune(dense, spec((64, 64), (24, 16)), FAMILY, loss)
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    assert all(parameter.grad is None for parameter in dense.parameters())
    assert dense.spec.hidden == (64, 64)


def test_dead_units_go_first_and_nothing_is_lost(make_dense: MakeDense) -> None:
    dense = make_dense(64, 64)
    alive = (torch.arange(64) % 8 < 3, torch.arange(64) % 4 == 1)  # 24 and 16 of 64
    with torch.no_grad():
        for linear, kept in zip(dense.network.linears[:2], alive, strict=True):
            linear.weight[~kept] = 0.0
            linear.bias[~kept] = 0.0
    pruned = prune(dense, spec((64, 64), (24, 16)), FAMILY, loss)
    torch.testing.assert_close(pruned(SEEN), dense(SEEN), rtol=0, atol=1e-6)
    assert torch.equal(pruned.network.linears[0].weight, dense.network.linears[0].weight[alive[0]])
    # One unit fewer is one unit too few.
    smaller = prune(dense, spec((64, 64), (23, 16)), FAMILY, loss)
    assert (smaller(SEEN) - dense(SEEN)).abs().max() > 1e-3


def test_the_loss_decides_which_units_stay(make_dense: MakeDense) -> None:
    dense = make_dense(8)
    with torch.no_grad():  # units 0 to 3 speak to action 0, units 4 to 7 to action 1
        last = dense.network.linears[1]
        last.weight.zero_()
        last.weight[0, :4], last.weight[1, 4:] = 1.0, 1.0
    for action, kept in ((0, slice(0, 4)), (1, slice(4, 8))):
        pruned = prune(dense, spec((8,), (4,)), FAMILY, lambda student, a=action: student(SEEN)[:, a].sum())
        assert torch.equal(pruned.network.linears[0].weight, dense.network.linears[0].weight[kept])


def test_the_result_can_be_trained_and_is_float(make_dense: MakeDense) -> None:
    normalisation = Normalisation(shift=(0.1,) * 18, scale=(2.0,) * 18)
    dense = make_dense(16, 16, normalisation=normalisation)
    pruned = prune(dense, spec((16, 16), (4, 6), "w4a8i8"), FAMILY, loss)
    assert pruned.spec == spec((16, 16), (4, 6))
    assert pruned.normalisation == normalisation
    assert all(parameter.grad is None for parameter in pruned.parameters())
    loss(pruned).backward()
    assert [tuple(p.grad.shape) for p in pruned.parameters() if p.grad is not None] == [
        tuple(p.shape) for p in pruned.parameters()
    ]


def test_nothing_to_prune(make_dense: MakeDense) -> None:
    dense = make_dense(16)
    assert torch.equal(prune(dense, spec((16,), (16,)), FAMILY, loss)(SEEN), dense(SEEN))


def test_widths_that_were_not_realised_are_refused(make_dense: MakeDense) -> None:
    class Stubborn(type(FAMILY)):
        """Names the wrong layers: its widths never come out."""

        def prunable(self, network):
            return [network.linears[1]]

    with pytest.raises(StudentError, match=r"student mlp 4 float: pruning gave widths .*; report this spec"):
        prune(make_dense(8), spec((8,), (4,)), Stubborn(), loss)


def test_one_pruning_leaves_nothing_for_the_next(make_dense: MakeDense) -> None:
    """torch-pruning's defaults are dicts that all its pruners share."""
    prune(make_dense(64, 64), spec((64, 64), (24, 16)), load_family("mlp"), loss)
    parameters = inspect.signature(torch_pruning.pruner.BasePruner.__init__).parameters.values()
    assert [p.name for p in parameters if isinstance(p.default, dict) and p.default] == []
