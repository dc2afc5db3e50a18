import inspect
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch_pruning
from torch import Tensor

from kdnas.compress import prune
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Discrete
from kdnas.spaces.space import parse_bits, pruned_width
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Normalisation, Place, Student, Units, load_family
from kdnas.students.mlp import FAMILY

from .conftest import SPREAD, TRACKS, MakeFamily

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


def episodes(student: Student) -> Tensor:
    return student(TRACKS).square().mean()


@torch.no_grad()
def kill(student: Student, dead: list[tuple[str, int, list[int]]]) -> None:
    """Zeros along an axis of a parameter: nobody reads what stood there."""
    parameters = dict(student.network.named_parameters())
    for name, axis, indices in dead:
        parameters[name].index_fill_(axis, torch.tensor(indices), 0.0)


@torch.no_grad()
def test_dead_units_of_a_gru_go_from_all_gates(make_family: MakeFamily) -> None:
    """Units are dead when nobody reads them: the columns of the cell and the head that do are zero."""
    family, dense = make_family("gru", 8, 6)
    kill(dense, [("input.weight", 1, [0, 3, 7]), ("state.weight", 1, [1, 4]), ("head.weight", 1, [1, 4])])
    want = StudentSpec(family="gru", base=(8, 6), hidden=(5, 4))
    with torch.enable_grad():
        pruned = prune(dense, want, family, episodes)
    assert (pruned.spec, pruned.hidden_size) == (want, 4)
    torch.testing.assert_close(pruned(TRACKS), dense(TRACKS), rtol=0, atol=1e-6)
    # To the last bit, what stays is what was there: encoder units 1, 2, 4, 5, 6; cell units 0, 2, 3, 5 in each gate.
    encoder, cell = [1, 2, 4, 5, 6], [0, 2, 3, 5]
    gates = [gate * 6 + unit for gate in range(3) for unit in cell]
    before, after = dense.network, pruned.network
    assert torch.equal(after.encoder[0].weight, before.encoder[0].weight[encoder])
    assert torch.equal(after.input.weight, before.input.weight[gates][:, encoder])
    assert torch.equal(after.input.bias, before.input.bias[gates])
    assert torch.equal(after.state.weight, before.state.weight[gates][:, cell])
    assert torch.equal(after.head.weight, before.head.weight[:, cell])
    assert torch.equal(after.head.bias, before.head.bias)
    # One unit fewer is one unit too few.
    with torch.enable_grad():
        smaller = prune(dense, StudentSpec(family="gru", base=(8, 6), hidden=(5, 3)), family, episodes)
    assert (smaller(TRACKS) - dense(TRACKS)).abs().max() > 1e-3


@torch.no_grad()
def test_dead_units_of_a_deepset_go_from_each_encoder(make_family: MakeFamily) -> None:
    family, dense = make_family("deepset", 4, 6)
    # The first linear layer reads 4 own features, 4 units of landmarks from 4 on, and 4 of others from 8 on.
    kill(dense, [("linears.0.weight", 1, [4 + 0, 4 + 3, 8 + 1, 8 + 2]), ("linears.1.weight", 1, [5])])
    with torch.enable_grad():
        pruned = prune(dense, StudentSpec(family="deepset", base=(4, 6), hidden=(2, 5)), family, episodes)
    torch.testing.assert_close(pruned(TRACKS), dense(TRACKS), rtol=0, atol=1e-6)
    before, after = dense.network, pruned.network
    assert torch.equal(after.encoders[0].weight, before.encoders[0].weight[[1, 2]])
    assert torch.equal(after.encoders[1].weight, before.encoders[1].weight[[0, 3]])  # each has units of its own
    assert torch.equal(after.linears[0].weight, before.linears[0].weight[:5][:, [0, 1, 2, 3, 5, 6, 8, 11]])


@pytest.mark.parametrize("name", ["gru", "deepset"])
def test_declared_units_leave_the_original_alone_and_can_be_trained(make_family: MakeFamily, name: str) -> None:
    family, dense = make_family(name, 8, 6)
    before = {key: tensor.clone() for key, tensor in dense.state_dict().items()}
    for hidden in ((8, 6), (3, 6), (8, 1), (1, 1)):
        pruned = prune(dense, StudentSpec(family=name, base=(8, 6), hidden=hidden), family, episodes)
        built = family.build(pruned.spec, SPREAD, torch.Generator())
        shapes = [[tuple(tensor.shape) for tensor in network.parameters()] for network in (pruned.network, built)]
        assert shapes[0] == shapes[1]
        assert all(parameter.grad is None for parameter in (*pruned.parameters(), *dense.parameters()))
        episodes(pruned).backward()
        assert all(parameter.grad is not None for parameter in pruned.parameters())
        assert all(torch.equal(tensor, before[key]) for key, tensor in dense.state_dict().items())
        if hidden == (8, 6):
            torch.testing.assert_close(pruned(TRACKS), dense(TRACKS), rtol=0, atol=0)


def test_units_in_the_wrong_places_are_refused(make_family: MakeFamily) -> None:
    family, dense = make_family("gru", 8, 6)

    class Forgetful(type(family)):
        """Forgets the encoder's biases."""

        def units(self, spec, spaces):
            encoder, cell = super().units(spec, spaces)
            return [Units(layer=0, places=(encoder.places[0], Place(parameter="input.weight", axis=1))), cell]

    with pytest.raises(StudentError, match=r"student gru 4x6 float: units\(\) of 'gru' are not where it says: .*bias"):
        prune(dense, StudentSpec(family="gru", base=(8, 6), hidden=(4, 6)), Forgetful(), episodes)


@pytest.mark.parametrize("family", ["mlp", "gru", "deepset"])
def test_what_is_not_read_stays_so(family: str) -> None:
    spaces, known = replace(SPREAD, constant=(1, 14, 17)), load_family(family)
    dense = StudentSpec(family=family, base=(12, 8), hidden=(12, 8))
    network = known.build(dense, spaces.inputs, torch.Generator().manual_seed(0))
    student = Student(dense, spaces, network).eval()
    smaller = StudentSpec(family=family, base=(12, 8), hidden=(6, 4))
    pruned = prune(student, smaller, known, lambda one: one(TRACKS).square().mean())
    assert sum(weight.numel() for weight in pruned.parameters() if weight.ndim == 2) == sum(
        layer.rows * layer.columns for layer in known.layers(smaller, spaces.inputs)
    )
    other = TRACKS.clone()
    other[..., [1, 14, 17]] = 7.0
    assert torch.equal(pruned(other), pruned(TRACKS))


@pytest.mark.parametrize("name", ["mlp", "gru", "deepset"])
def test_a_pruned_student_is_pruned_again(make_family: MakeFamily, name: str) -> None:
    """The widths that it has count, not those of its base."""
    family, dense = make_family(name, 12, 8)
    base = (12, 8)
    wider = prune(dense, StudentSpec(family=name, base=base, hidden=(9, 6)), family, episodes)
    want = StudentSpec(family=name, base=base, hidden=(5, 6))
    pruned = prune(wider, want, family, episodes)
    built = family.build(want, SPREAD, torch.Generator())
    shapes = [[tuple(tensor.shape) for tensor in network.parameters()] for network in (pruned.network, built)]
    assert shapes[0] == shapes[1]
    assert (pruned.spec, pruned.hidden_size) == (want, family.hidden_size(want))
    with pytest.raises(StudentError, match=r"student .* 10x6 float: "):
        prune(wider, StudentSpec(family=name, base=base, hidden=(10, 6)), family, episodes)


# Inputs.


def test_inputs_are_ranked_by_the_columns_that_read_them() -> None:
    """By hand: three inputs, two ReLU units that are always active, one output, and the loss is the output."""
    spaces = AgentSpec(observation_size=4, actions=Discrete(1), constant=(1,))
    whole = StudentSpec(family="mlp", base=(2,), hidden=(2,))
    network = FAMILY.build(whole, spaces.inputs, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.linears[0].weight.copy_(torch.tensor([[1.0, -4.0, 0.5], [2.0, 1.0, 0.5]]))
        network.linears[0].bias.fill_(100.0)
        network.linears[1].weight.copy_(torch.tensor([[3.0, -1.0]]))
    normalisation = Normalisation(shift=(0.0, 1.0, 2.0), scale=(1.0, 2.0, 1.0))
    dense = Student(whole, spaces, network, normalisation).eval()
    seen = torch.tensor([[1.0, 9.0, 1.5, 6.0]])
    # Of features 0, 2 and 3 the network reads 1, (1.5 - 1) * 2 = 1 and 6 - 2 = 4. dL/dw of unit u and input k is
    # v[u] * x[k] with v = 3, -1. Importance: |1 * 3 * 1| + |2 * -1 * 1| = 5; |-4 * 3| + |1 * -1| = 13;
    # |.5 * 3 * 4| + |.5 * -1 * 4| = 8.
    for count, kept, shift in ((2, (2, 3), (1.0, 2.0)), (1, (2,), (1.0,))):
        fewer = prune(dense, replace(whole, inputs=count), FAMILY, lambda student: student(seen).sum())
        assert (fewer.spaces.kept, fewer.spaces.constant) == (kept, (1,))
        assert fewer.normalisation == Normalisation(shift=shift, scale=(2.0, 1.0)[:count])
        assert (fewer.spec, fewer.training) == (replace(whole, inputs=count), False)
        assert fewer.network.linears[0].weight.tolist() == [[-4.0, 0.5][:count], [1.0, 0.5][:count]]
        assert torch.equal(fewer.network.linears[0].bias, dense.network.linears[0].bias)
        assert torch.equal(fewer.network.linears[1].weight, dense.network.linears[1].weight)
    # 100 + -4 * 1 + .5 * 4 = 98 and 100 + 1 + 2 = 103 without feature 0: 3 * 98 - 103, and the output's bias.
    fewer = prune(dense, replace(whole, inputs=2), FAMILY, lambda student: student(seen).sum())
    assert fewer(seen).item() == pytest.approx(3 * 98 - 103 + network.linears[1].bias.item())


@pytest.mark.parametrize("family", ["mlp", "mlp_softsign", "gru"])
def test_dead_inputs_go_first_and_the_rest_is_pruned_as_before(family: str) -> None:
    spaces, known = replace(SPREAD, constant=(1, 14, 17)), load_family(family)
    whole = StudentSpec(family=family, base=(12, 8), hidden=(12, 8))
    network = known.build(whole, spaces.inputs, torch.Generator().manual_seed(0))
    dead = [0, 3, 4, 9, 16]  # five of the fifteen that change
    (place,) = known.inputs(whole)
    with torch.no_grad():
        dict(network.named_parameters())[place.parameter][:, [spaces.kept.index(feature) for feature in dead]] = 0.0
    dense = Student(whole, spaces, network).eval()
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}

    fewer = prune(dense, replace(whole, inputs=10), known, lambda one: one(TRACKS).square().mean())
    assert fewer.spaces.pruned == tuple(dead)
    torch.testing.assert_close(fewer(TRACKS), dense(TRACKS), rtol=0, atol=1e-6)
    other = TRACKS.clone()
    other[..., [*dead, 1, 14, 17]] = 7.0
    assert torch.equal(fewer(other), fewer(TRACKS))
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())

    smaller = replace(whole, hidden=(6, 4), inputs=10)
    both = prune(dense, smaller, known, lambda one: one(TRACKS).square().mean())
    assert both.spaces == fewer.spaces
    assert sum(weight.numel() for weight in both.parameters() if weight.ndim == 2) == sum(
        layer.rows * layer.columns for layer in known.layers(smaller, both.spaces.inputs)
    )
    units_alone = prune(fewer, replace(smaller, base=(12, 8)), known, lambda one: one(TRACKS).square().mean())
    for name, tensor in both.network.state_dict().items():
        assert torch.equal(tensor, units_alone.network.state_dict()[name])


def test_a_family_that_reads_all_is_refused(make_family: MakeFamily) -> None:
    family, dense = make_family("deepset", 4, 6)
    want = StudentSpec(family="deepset", base=(4, 6), hidden=(4, 6), inputs=9)
    with pytest.raises(StudentError, match="on 9 inputs: networks of 'deepset' read all of their inputs"):
        prune(dense, want, family, episodes)
