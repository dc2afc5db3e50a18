"""The twin is the brevitas network: same numbers to the last bit, same parameters, and useful gradients."""

import copy

import pytest
import torch

from kdnas.errors import StudentError
from kdnas.students import FakeQuantMlp, QuantMlp, Student, TwinMaker, quantizers
from kdnas.students.fake_quant import quantize, snap
from kdnas.students.mlp import FAMILY
from kdnas.students.quantizers import best_powers, best_ranges

from .conftest import SCOUT, MakeStudent

FORMATS = ["w2a8i8", "w3a8i8", "w4a8i8", "w6a8i8", "w8a8i8", "w2a4i4", "w3a4i8", "w4a4i4", "w8a4i8", "w5a3i6"]
FORMATS += ["w8-4-2a8-4i8", "w3-3-8a4i8", "w4a8i8p", "w8a8i8p", "w2a4i4p", "w8-2-5a3-8i6p"]  # of three layers


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def twin_of(student: Student) -> Student:
    return Student(student.spec, student.spaces, FAMILY.training_twin(student.network), student.normalisation)


def train(twin: Student, steps: int) -> None:
    """Learn to answer the first features."""
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    twin.train()
    for step in range(steps):
        seen = torch.randn(128, twin.spaces.observation_size, generator=seeded(step))
        optimizer.zero_grad()
        (twin(seen) - seen[:, : twin.spaces.actions.outputs]).square().mean().backward()
        optimizer.step()
    twin.eval()


@pytest.mark.parametrize("bits", FORMATS)
@pytest.mark.parametrize("steps", [0, 60])
@pytest.mark.parametrize("kind", ["mlp", "mlp_softsign"])
def test_outputs_equal_those_of_brevitas_to_the_last_bit(
    make_student: MakeStudent, kind: str, bits: str, steps: int
) -> None:
    # But for a sum of floats that lies halfway between two integers: which one it becomes depends on the order that it
    # was added in, and that on the number of threads. Of all rows here it was one, and only with a single thread.
    student = make_student(bits, SCOUT, hidden=(16, 12), kind=kind)
    twin = twin_of(student)
    train(twin, steps)
    student.eval()
    for seed, spread in enumerate((1.0, 5.0, 0.05)):
        seen = torch.randn(20_000, 6, generator=seeded(1000 + seed)) * spread
        with torch.no_grad():
            assert (twin(seen) != student(seen)).any(1).sum() <= 1


@pytest.mark.parametrize("bits", ["w4a8i8", "w8a8i8"])
def test_inputs_halfway_between_two_integers(make_student: MakeStudent, bits: str) -> None:
    student = make_student(bits, SCOUT)
    twin = twin_of(student).eval()
    assert isinstance(student.network, QuantMlp)
    scale = student.network.input_ranges.detach().exp2() / 128
    seen = (torch.randint(-200, 200, (20_000, 6), generator=seeded(0)) + 0.5) * scale
    with torch.no_grad():
        assert torch.equal(twin(seen), student(seen))


def test_training_the_twin_trains_the_network(make_student: MakeStudent) -> None:
    student = make_student("w4a8i8", SCOUT)
    before = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
    twin = twin_of(student)
    assert {id(parameter) for parameter in twin.parameters()} == {id(parameter) for parameter in student.parameters()}
    train(twin, 3)
    moved = [name for name, parameter in student.named_parameters() if not torch.equal(parameter, before[name])]
    assert moved == list(before)  # weights, biases, and all three kinds of range


def test_bounded_activations_have_a_scale_that_is_known(make_student: MakeStudent) -> None:
    student = make_student("w4a6i8", SCOUT, hidden=(16, 12), kind="mlp_softsign")
    twin = FAMILY.training_twin(student.network)
    # -128 and -32 stand for -1.
    assert len(twin.activation_ranges) == 0
    assert [float(twin.input_scale(index)) for index in (0, 1, 2)] == [1 / 128, 1 / 32, 1 / 32]
    assert twin.input_limits == [(-128, 127), (-32, 31), (-32, 31)]


def settled_share(twin: FakeQuantMlp) -> float:
    """Of all weights, those that are whole multiples of their row's scale; few unsettled ones are by accident."""
    whole = total = 0
    for index, linear in enumerate(twin.linears):
        ratio = linear.weight / twin.weight_scale(index)
        held = twin._settled[index] & ((twin._integers[index] - ratio).abs() < 8)
        whole, total = whole + int(held.sum()), total + ratio.numel()
    return whole / total


def test_weights_settle_one_after_the_other(make_student: MakeStudent) -> None:
    student = make_student("w4a8i8", SCOUT, hidden=(16, 12))
    twin = FAMILY.training_twin(student.network)
    # From 5 % to 80 % of the training: nothing, the first layer (6 x 16), half of the second one (16 x 12) too, all of
    # it, and the last one (12 x 4): 96, 192 and 48 of 336.
    for progress, count in ((0.0, 0), (0.3, 96), (0.425, 192), (0.55, 288), (0.8, 336), (0.99, 336)):
        twin.settle(progress)
        assert settled_share(twin) == pytest.approx(count / 336, abs=0.01)
    assert all(integers.abs().max() <= 7 for integers in twin._integers)


def test_what_has_settled_goes_where_the_weights_go(make_student: MakeStudent) -> None:
    twin = FAMILY.training_twin(make_student("w4a8i8", SCOUT, hidden=(16, 12)).network)
    twin.settle(0.5)
    moved = copy.deepcopy(twin).to("meta")
    tensors = [*moved.parameters(), *moved._integers, *moved._settled]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {tensor.device.type for tensor in twin._integers} == {"cpu"}


@torch.no_grad()
def test_weights_near_an_integer_settle_first_and_the_others_are_not_rounded(make_student: MakeStudent) -> None:
    student = make_student("w2a8i8", SCOUT, hidden=(8,))
    twin = FAMILY.training_twin(student.network).eval()
    twin.settle(0.05 + 0.75 / 4)  # half of the first of two layers
    settled, ratio = twin._settled[0], twin.linears[0].weight / twin.weight_scale(0)
    assert int(settled.sum()) == 24
    assert not twin._settled[1].any()
    off = (ratio - ratio.round().clamp(-1, 1)).abs()
    assert off[settled].max() <= off[~settled].min()
    seen = torch.randn(50, 6, generator=seeded(0))
    before = twin(seen)
    places = (~settled).nonzero()[0]
    twin.linears[0].weight[tuple(places)] += 0.01  # a sixtieth of what rounding would swallow
    assert not torch.equal(twin(seen), before)


@pytest.mark.parametrize("bits", ["w2a8i8", "w3a4i4", "w4a8i8", "w8a8i8", "w8-2-4a8-4i8", "w3a8i8p"])
def test_a_settled_twin_is_the_network_again(make_student: MakeStudent, bits: str) -> None:
    student = make_student(bits, SCOUT, hidden=(16, 12))
    twin = twin_of(student)
    assert isinstance(twin.network, FakeQuantMlp)
    for step in range(20):
        twin.network.settle(step / 20)
        train(twin, 5)
    held = [integers.clone() for integers in twin.network._integers]
    twin.network.settle(1.0)
    seen = torch.randn(20_000, 6, generator=seeded(0))
    with torch.no_grad():
        assert torch.equal(twin.eval()(seen), student.eval()(seen))
    assert isinstance(student.network, QuantMlp)
    for linear, integers in zip(student.network.linears, held, strict=True):
        weight = linear.quant_weight()
        assert torch.equal((weight.value / weight.scale).round(), integers)  # what had settled did not move


def test_only_a_calibrated_network_has_a_twin(make_student: MakeStudent) -> None:
    student = make_student("w4a8i8", SCOUT)
    floating = FAMILY.build(student.spec, SCOUT, seeded(0))
    with pytest.raises(StudentError, match="show it batches of observations"):
        FAMILY.training_twin(FAMILY.quantize(floating, student.spec))


def test_quantized_numbers_and_gradients_by_hand() -> None:
    values = torch.tensor([0.26, -0.26, 0.25, 9.0, -9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    got = quantize(values, scale, -2, 1)
    # Ratios .52, -.52, .5, 18, -18: half goes to even, the last two are clipped.
    assert got.tolist() == [0.5, -0.5, 0.0, 0.5, -1.0]
    got.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    # Integer minus ratio inside: .48, -.48, -.5; integer where clipped: 1, -2.
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(0.48 - 0.48 - 0.5 + 1 - 2)


def test_a_scale_for_each_row() -> None:
    values = torch.tensor([[0.3, 1.0], [0.3, 1.0]], requires_grad=True)
    scale = torch.tensor([[1.0], [0.25]], requires_grad=True)
    got = quantize(values, scale, -3, 3)
    assert got.tolist() == [[0.0, 1.0], [0.25, 0.75]]
    got.sum().backward()
    assert scale.grad is not None
    # Row 1: 0 - .3, 1 - 1. Row 2: ratio 1.2 rounds to 1, -.2; ratio 4 is clipped at 3.
    assert scale.grad.flatten().tolist() == pytest.approx([-0.3, 2.8])


def test_ranges_with_the_least_error() -> None:
    # 2 bits are -1, 0 and 1 times the range. Equal magnitudes: their own. A small crowd under one giant: not the giant.
    crowd = [0.4] * 40 + [1.0]
    ranges = best_ranges(torch.tensor([[0.5, -0.5] + [0.5] * 39, crowd]), 1)
    assert ranges.shape == (2, 1)
    assert ranges[0].item() == pytest.approx(0.5)
    assert 0.39 < ranges[1].item() < 0.42


def test_ranges_are_looked_for_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a large matrix takes no multiple of itself for each of them."""
    weight = torch.randn(30, 20, generator=seeded(0))
    whole = best_ranges(weight, 7)
    monkeypatch.setattr(quantizers, "MOST_ROUNDED", 1500)  # of 71 ranges two at once
    assert torch.equal(best_ranges(weight, 7), whole)


def test_powers_of_two_with_the_least_error() -> None:
    # With 1 as the largest integer, 0.7 and 0.1 round best in steps of 1/2 (errors 0.2 and 0.1), and 0.9 and 0.1 in
    # steps of 1; with 7, 7 and 1 in steps of 1, to the last bit.
    assert best_powers(torch.tensor([[0.7, 0.1], [0.9, -0.1]]), 1).tolist() == [[-1.0], [0.0]]
    assert best_powers(torch.tensor([[7.0, 1.0]]), 7).tolist() == [[0.0]]


def test_settled_integers_do_not_jump_to_another_power_of_two(make_student: MakeStudent) -> None:
    twin = FAMILY.training_twin(make_student("w4a8i8p", SCOUT, hidden=(16, 12)).network)
    twin.hold()
    twin.train()(torch.randn(64, 6, generator=seeded(0))).square().sum().backward()
    assert all(ranges.grad is None for ranges in twin.weight_ranges)
    assert all(linear.bias.grad is not None for linear in twin.linears)
    assert all(ranges.grad is not None for ranges in twin.activation_ranges)


def test_a_row_without_weights_keeps_its_bias(make_student: MakeStudent) -> None:
    student = make_student("w8a8i8", SCOUT)
    floating = FAMILY.build(student.spec, SCOUT, seeded(0))
    with torch.no_grad():
        floating.linears[0].weight[3] = 0.0
        floating.linears[0].bias[3] = 2.0
    network = FAMILY.quantize(floating, student.spec).train()
    with torch.no_grad():
        for seed in range(40):
            network(torch.randn(64, 6, generator=seeded(seed)))
        inputs = network.eval().quantize_input(torch.zeros(1, 6))
        assert network.linears[0](inputs)[0, 3].item() == pytest.approx(2.0, rel=1e-3)


def test_snapped_logits_are_whole_multiples_and_pass_gradients() -> None:
    logits = torch.tensor([0.2999, 0.3001, -0.1], requires_grad=True)
    snapped = snap(logits, torch.tensor(0.1))
    assert snapped.tolist() == pytest.approx([0.3, 0.3, -0.1])
    assert snapped[0] == snapped[1]  # a tie, so that the lowest index wins
    snapped.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [1.0, 1.0, 1.0]


def test_the_family_says_that_it_has_twins() -> None:
    assert isinstance(FAMILY, TwinMaker)
    assert FakeQuantMlp.__doc__
