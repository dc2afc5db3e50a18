from itertools import pairwise

import pytest
import torch

from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import LayerShape, Mlp, QuantMlp, load_family
from kdnas.students.mlp import FAMILY

from .conftest import MakeStudent, rows

SPREAD = AgentSpec(observation_size=18, actions=Discrete(5))


def spec(bits: str, *hidden: int) -> StudentSpec:
    return StudentSpec(family="mlp", base=(64,) * len(hidden), hidden=hidden, bits=parse_bits(bits))


def fresh(*hidden: int) -> Mlp:
    return FAMILY.build(spec("float", *hidden), SPREAD, torch.Generator().manual_seed(3))


def test_it_is_registered() -> None:
    assert load_family("mlp") is FAMILY
    assert FAMILY.name == "mlp"


@pytest.mark.parametrize("hidden", [(7,), (24, 16), (5, 4, 3)])
def test_shapes(hidden: tuple[int, ...]) -> None:
    network = fresh(*hidden)
    sizes = (18, *hidden, 5)
    assert [tuple(linear.weight.shape) for linear in network.linears] == [
        (rows, columns) for columns, rows in pairwise(sizes)
    ]
    assert network(torch.zeros(3, 18)).shape == (3, 5)
    assert [layer.out_features for layer in FAMILY.prunable(network)] == list(hidden)


def test_numbers_by_hand() -> None:
    network = FAMILY.build(spec("float", 2), AgentSpec(observation_size=1, actions=Discrete(2)), torch.Generator())
    with torch.no_grad():
        network.linears[0].weight.copy_(torch.tensor([[2.0], [-1.0]]))
        network.linears[0].bias.copy_(torch.tensor([-1.0, 0.5]))
        network.linears[1].weight.copy_(torch.tensor([[1.0, 10.0], [3.0, 0.0]]))
        network.linears[1].bias.copy_(torch.tensor([0.25, 0.0]))
    # x = 2: relu(3, -1.5) = (3, 0) -> (3.25, 9). x = -1: relu(-3, 1.5) = (0, 1.5) -> (15.25, 0).
    assert network(torch.tensor([[2.0], [-1.0]])).tolist() == [[3.25, 9.0], [15.25, 0.0]]


def test_the_generator_decides_the_weights() -> None:
    assert torch.equal(fresh(8).linears[0].weight, fresh(8).linears[0].weight)
    other = FAMILY.build(spec("float", 8), SPREAD, torch.Generator().manual_seed(4))
    assert not torch.equal(fresh(8).linears[0].weight, other.linears[0].weight)


def test_layers_of_a_float_student() -> None:
    assert FAMILY.layers(spec("float", 24, 16), SPREAD) == [
        LayerShape(rows=24, columns=18, weight_bits=32, input_bits=32, output_bits=32),
        LayerShape(rows=16, columns=24, weight_bits=32, input_bits=32, output_bits=32),
        LayerShape(rows=5, columns=16, weight_bits=32, input_bits=32, output_bits=32),
    ]


def test_layers_of_a_quantized_student() -> None:
    # Scales: one a row, of 24, 16 and 5, and one an input.
    assert FAMILY.layers(spec("w4a6i8", 24, 16), SPREAD) == [
        LayerShape(rows=24, columns=18, weight_bits=4, input_bits=8, output_bits=6, scales=24 + 18),
        LayerShape(rows=16, columns=24, weight_bits=4, input_bits=6, output_bits=6, scales=16),
        LayerShape(rows=5, columns=16, weight_bits=4, input_bits=6, output_bits=32, scales=5),
    ]


def test_layers_with_bits_of_their_own() -> None:
    assert FAMILY.layers(spec("w8-4-2a8-6i4p", 24, 16), SPREAD) == [
        LayerShape(rows=24, columns=18, weight_bits=8, input_bits=4, output_bits=8, scales=18, exponents=24),
        LayerShape(rows=16, columns=24, weight_bits=4, input_bits=8, output_bits=6, exponents=16),
        LayerShape(rows=5, columns=16, weight_bits=2, input_bits=6, output_bits=32, exponents=5),
    ]


def test_scales_are_powers_of_two(make_student: MakeStudent) -> None:
    network = make_student("w4a8i8p").network
    assert isinstance(network, QuantMlp)
    hidden = network.activations[0](network.linears[0](network.read(torch.from_numpy(rows(50, 3)))))
    scales = torch.cat([hidden.scale.view(1), *(linear.quant_weight().scale.view(-1) for linear in network.linears)])
    assert torch.equal(scales.log2().round().exp2(), scales)
    assert len(set(scales.tolist())) > 2  # rows and layers have their own


def test_quantizing_leaves_the_float_network_alone() -> None:
    network = fresh(8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    quantized = FAMILY.quantize(network, spec("w4a8i8", 8))
    with torch.no_grad():
        for parameter in quantized.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@torch.no_grad()
def test_quantized_logits_are_close_to_float_ones(make_student: MakeStudent) -> None:
    """The fewer the bits, the farther: a weight is off by half a step of max / (2^(bits-1) - 1)."""
    seen = torch.from_numpy(rows(2000, 3))
    floating = make_student()(seen)

    def distance(bits: str) -> float:
        return float((make_student(bits)(seen) - floating).square().mean().sqrt() / floating.std())

    eight, four, two = distance("w8a8i8"), distance("w4a8i8"), distance("w2a8i8")
    # Half steps of 1 / 127, 1 / 7 and 1 of the largest weight; the rarest inputs are clipped besides.
    assert 0 < eight < 0.05 < four < 0.3 < two


def test_quantized_numbers_are_few(make_student: MakeStudent) -> None:
    student = make_student("w3a2i4")
    network = student.network
    assert isinstance(network, QuantMlp)
    seen = torch.from_numpy(rows(500, 3)) * 3
    # Narrow range: signed 3-bit weights are -3 to 3; signed 4-bit inputs -8 to 7; unsigned 2-bit activations 0 to 3.
    for linear in network.linears:
        levels = (linear.quant_weight().value / linear.quant_weight().scale).round().unique()
        assert levels.abs().max() <= 3
    inputs = network.read(seen)
    assert (inputs.value / inputs.scale).round().unique().tolist() == list(range(-8, 8))
    hidden = network.activations[0](network.linears[0](inputs))
    assert (hidden.value / hidden.scale).round().unique().tolist() == [0, 1, 2, 3]


def test_evaluation_does_not_change_a_student(make_student: MakeStudent) -> None:
    student = make_student("w4a8i8")
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    student(torch.full((10, 3), 1e6))
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


@torch.no_grad()
def test_logits_are_whole_multiples_of_their_scales(make_student: MakeStudent) -> None:
    """So equal integers of one scale are equal numbers, whatever order their sums were taken in."""
    student = make_student("w2a4i4", hidden=(8,))
    seen = torch.from_numpy(rows(3000, 3))
    logits = student(seen)
    network = student.network
    assert isinstance(network, QuantMlp)
    scale = network.linears[-1](network.activations[0](network.linears[0](network.read(seen)))).scale.view(-1)
    for action in range(5):  # as many different numbers as different integers
        integers = (logits[:, action] / scale[action]).round()
        assert len(logits[:, action].unique()) == len(integers.unique())
    torch.testing.assert_close(logits, (logits / scale).round() * scale, rtol=0, atol=0)
