import math

import pytest
import torch
from torch import nn

from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Discrete
from kdnas.profiling.flops import count_macs
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import Place, load_family
from kdnas.students.gru import FAMILY, Gru, QuantGru
from kdnas.students.student import Normalisation, Student

SPREAD = AgentSpec(observation_size=18, actions=Discrete(5))


def spec(bits: str, *hidden: int) -> StudentSpec:
    return StudentSpec(family="gru", base=hidden, hidden=hidden, bits=parse_bits(bits))


def fresh(*hidden: int, spaces: AgentSpec = SPREAD) -> Gru:
    return FAMILY.build(spec("float", *hidden), spaces, torch.Generator().manual_seed(3))


def tracks(seed: int = 0, rows: int = 32, steps: int = 7) -> torch.Tensor:
    return torch.randn(rows, steps, 18, generator=torch.Generator().manual_seed(seed))


def quantized(bits: str, *hidden: int) -> Student:
    """Lightly used: its quantizers have seen 40 batches."""
    student = Student(spec(bits, *hidden), SPREAD, FAMILY.quantize(fresh(*hidden), spec(bits, *hidden))).train()
    with torch.no_grad():
        for seed in range(40):
            student(tracks(seed))
    return student.eval()


def stepped(student: Student, views: torch.Tensor) -> torch.Tensor:
    hidden, outputs = student.begin(len(views)), []
    for seen in views.unbind(1):
        said, hidden = student.step(seen, hidden)
        outputs.append(said)
    return torch.stack(outputs, 1)


def test_it_is_registered() -> None:
    assert load_family("gru") is FAMILY
    assert (FAMILY.name, FAMILY.chain, FAMILY.hidden_size(spec("float", 32, 24))) == ("gru", None, 24)


@pytest.mark.parametrize(
    ("bits", "what"),
    [
        ("w8-4-8a8i8", "bits of each layer"),
        ("w4a8-4i8", "bits of each layer"),
        ("w4a8i8p", "scales that are powers of two"),
    ],
)
def test_layers_have_their_bits_and_free_scales_in_common(bits: str, what: str) -> None:
    own = spec(bits, 8, 6)
    for ask in (lambda: FAMILY.layers(own, SPREAD), lambda: FAMILY.quantize(fresh(8, 6), own)):
        with pytest.raises(StudentError) as raised:
            ask()
        assert str(raised.value) == (
            f"student gru 8x6 {bits}: the family 'gru' has no {what}; write for example w4a8i8, or take mlp or "
            "mlp_softsign"
        )


def test_one_unit_by_hand() -> None:
    spaces = AgentSpec(observation_size=1, actions=Discrete(1))
    network = fresh(1, spaces=spaces)
    with torch.no_grad():
        network.input.weight.copy_(torch.tensor([[1.0], [2.0], [0.5]]))
        network.input.bias.copy_(torch.tensor([0.0, -1.0, 0.1]))
        network.state.weight.copy_(torch.tensor([[1.0], [-1.0], [2.0]]))
        network.state.bias.copy_(torch.tensor([0.2, 0.3, -0.4]))
        network.head.weight.copy_(torch.tensor([[3.0]]))
        network.head.bias.copy_(torch.tensor([1.0]))

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    # x = 0.5, h = 0.25: W x + b is 0.5, 2 * 0.5 - 1 = 0, 0.25 + 0.1; U h + b is 0.25 + 0.2, -0.25 + 0.3, 0.5 - 0.4.
    reset, update = sigmoid(0.5 + 0.45), sigmoid(0.0 + 0.05)
    following = (1 - update) * math.tanh(0.35 + reset * 0.1) + update * 0.25
    outputs, hidden = network(torch.tensor([[0.5]]), torch.tensor([[0.25]]))
    assert hidden.item() == pytest.approx(following, abs=1e-6)
    assert outputs.item() == pytest.approx(3 * following + 1, abs=1e-6)


@torch.no_grad()
def test_the_cell_is_that_of_pytorch() -> None:
    network, cell = fresh(12, 9), nn.GRUCell(12, 9)
    for linear, weight, bias in [
        (network.input, cell.weight_ih, cell.bias_ih),
        (network.state, cell.weight_hh, cell.bias_hh),
    ]:
        linear.bias.normal_(generator=torch.Generator().manual_seed(1))
        weight.copy_(linear.weight)
        bias.copy_(linear.bias)
    views, hidden = tracks()[:, 0], torch.rand(32, 9, generator=torch.Generator().manual_seed(2)) - 0.5
    outputs, following = network(views, hidden)
    want = cell(network.encoder[0](views).relu(), hidden)
    torch.testing.assert_close(following, want, rtol=0, atol=1e-6)
    torch.testing.assert_close(outputs, network.head(want), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("hidden", "encoders"), [((9,), []), ((12, 9), [(12, 18)]), ((6, 5, 4), [(6, 18), (5, 6)])])
def test_shapes(hidden: tuple[int, ...], encoders: list[tuple[int, int]]) -> None:
    network, cell = fresh(*hidden), hidden[-1]
    fan_in = hidden[-2] if len(hidden) > 1 else 18
    assert [tuple(linear.weight.shape) for linear in network.encoder] == encoders
    assert [tuple(part.weight.shape) for part in (network.input, network.state, network.head)] == [
        (3 * cell, fan_in),
        (3 * cell, cell),
        (5, cell),
    ]
    outputs, following = network(torch.zeros(3, 18), torch.zeros(3, cell))
    assert (outputs.shape, following.shape) == ((3, 5), (3, cell))


def test_multiply_accumulates_by_hand() -> None:
    network = fresh(32, 24)
    # 18*32 of the encoder, 32*72 and 24*72 of the cell, 24*5 of the head.
    macs = 576 + 2304 + 1728 + 120
    assert count_macs(network, (torch.zeros(1, 18), torch.zeros(1, 24))) == macs == 4728
    assert sum(layer.macs for layer in FAMILY.layers(spec("float", 32, 24), SPREAD)) == macs


def test_each_gate_is_an_orthogonal_matrix_of_its_own() -> None:
    for gate in fresh(24).state.weight.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(24), rtol=0, atol=1e-5)


def test_layers_by_hand() -> None:
    encoder, reads, state, head = FAMILY.layers(spec("w4a8i6", 32, 24), SPREAD)
    shapes = [
        (layer.rows, layer.columns, layer.input_bits, layer.output_bits) for layer in (encoder, reads, state, head)
    ]
    assert shapes == [(32, 18, 6, 8), (72, 32, 8, 32), (72, 24, 8, 32), (5, 24, 8, 32)]
    # Of rows, and of views in the first; what is known of the state is no number.
    assert [layer.scales for layer in (encoder, reads, state, head)] == [32 + 18, 72, 72, 5]
    # Tanh at 65 places, of 4 bytes each.
    assert [layer.table_bytes for layer in (encoder, reads, state, head)] == [0, 0, 260, 0]
    assert [layer.recurrent for layer in (encoder, reads, state, head)] == [False, False, True, False]
    # As many as the network learns, but for that of the encodings, which is part of a row's ratio.
    learned = quantized("w4a8i6", 32, 24).network.named_parameters()
    sizes = [parameter.numel() for name, parameter in learned if "scaling_impl" in name or name == "input_ranges"]
    assert sum(sizes) == 32 + 18 + 72 + 72 + 5 + 1


def test_a_unit_stands_in_all_three_gates() -> None:
    encoder, cell = FAMILY.units(spec("float", 32, 24), SPREAD)
    assert (encoder.layer, cell.layer) == (0, 1)
    assert Place(parameter="input.weight", axis=1) in encoder.places
    rows = [place.start for place in cell.places if place.parameter == "state.weight" and place.axis == 0]
    assert rows == [0, 24, 48]
    assert Place(parameter="head.weight", axis=1) in cell.places
    assert len(cell.places) == 4 * 3 + 2


@pytest.mark.parametrize("bits", ["float", "w8a8i8", "w4a3i4"])
def test_unrolled_it_answers_as_step_by_step(bits: str) -> None:
    student = Student(spec("float", 12, 9), SPREAD, fresh(12, 9)) if bits == "float" else quantized(bits, 12, 9)
    views = tracks(rows=6)
    gradients = []
    for answer in (student(views), stepped(student, views)):
        student.zero_grad()
        answer.square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in student.parameters() if parameter.grad is not None])
    torch.testing.assert_close(student(views), stepped(student, views), rtol=0, atol=1e-6)
    assert len(gradients[0]) == len(list(student.parameters()))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    # Leading axes are kept, and a normalisation comes before the network.
    shifted = Student(student.spec, SPREAD, student.network, Normalisation(shift=(0.5,) * 18, scale=(2.0,) * 18))
    torch.testing.assert_close(shifted(views[None]), stepped(student, (views - 0.5) * 2)[None], rtol=0, atol=1e-6)


@torch.no_grad()
def test_it_remembers() -> None:
    student, views = Student(spec("float", 9), SPREAD, fresh(9)), tracks()
    other = views.clone()
    other[:, 0] += 1
    assert (student(other)[:, -1] - student(views)[:, -1]).abs().max() > 1e-3
    # It knows nothing of the future.
    torch.testing.assert_close(student(views)[:, 3], student(views[:, :4])[:, 3], rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_quantized_state_is_few_numbers() -> None:
    student = quantized("w8a3i8", 12, 9)
    network, views = student.network, tracks() * 3
    assert isinstance(network, QuantGru)
    hidden = student.begin(32)
    for seen in views.unbind(1):
        hidden = student.step(seen, hidden)[1]
    # Signed 3 bits are -4 to 3, and the scale begins where they reach from -1 to 1.
    scale = float(network.quantize_state(hidden).scale)
    assert scale == pytest.approx(1 / 4)
    levels = (hidden / scale).round()
    assert levels.min() >= -4
    assert levels.max() <= 3
    torch.testing.assert_close(levels * scale, hidden)
    assert torch.equal(network.quantize_state(hidden).value, hidden)  # quantized again it stays


@torch.no_grad()
def test_quantized_outputs_are_close_to_float_ones() -> None:
    views = tracks(99)
    floating = Student(spec("float", 32, 24), SPREAD, fresh(32, 24))(views)

    def distance(bits: str) -> float:
        return float((quantized(bits, 32, 24)(views) - floating).square().mean().sqrt() / floating.std())

    # A weight is off by half a step: 1 / 254 and 1 / 14 of the largest one.
    assert 0 < distance("w8a8i8") < 0.05 < distance("w4a8i8") < 0.5


def test_every_weight_and_scale_of_a_quantized_one_learns() -> None:
    student = quantized("w4a4i4", 12, 9).train()
    student(tracks()).square().mean().backward()
    assert [name for name, parameter in student.named_parameters() if parameter.grad is None] == []
