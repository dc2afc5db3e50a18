"""The integer form of a perceptron: its arithmetic by hand, and how near it is to brevitas."""

import numpy as np
import pytest
import torch

from kdnas.compress.quantize import quantize
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.policies.distribution import greedy
from kdnas.policies.masks import mask_logits
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Normalisation, Student, load_family
from kdnas.students.integer import (
    GATE_LIMIT,
    IntegerInputs,
    IntegerLayer,
    decide,
    fixed_point,
    softsign_steps,
    student_inputs,
    to_integers,
)
from kdnas.students.integer_mlp import IntegerMlp
from kdnas.students.integer_rows import MOST_COLUMNS, IntegerRows

from .conftest import DRONE, MakeStudent

WIDE = AgentSpec(observation_size=18, actions=Discrete(5))
FORMATS = ["w2a8i8", "w3a8i8", "w4a8i8", "w6a8i8", "w8a8i8", "w2a4i4", "w4a4i4", "w8a4i8", "w5a3i6", "w7a7i5"]
FORMATS += ["w8-4-2a8-4i8", "w3-3-8a4i8", "w4a8i8p", "w8a8i8p", "w2a4i4p", "w8-2-5a3-8i6p"]  # of three layers


def by_hand() -> IntegerMlp:
    """2-2-2, inputs in steps of 0.5, 4-bit weights."""
    factors, shift = fixed_point(np.array([0.75, 0.5]))
    hidden = IntegerLayer(
        weights=np.array([[1, -2], [3, 1]], np.int8),
        bits=4,
        biases=np.array([3, -1], np.int32),
        factors=factors,
        shift=shift,
        limit=15,
    )
    last = IntegerLayer(
        weights=np.array([[1, 0], [0, 3]], np.int8),
        bits=4,
        biases=np.array([0, 1], np.int32),
        scales=np.array([0.25, 0.25], np.float32),
    )
    return IntegerMlp(
        inputs=IntegerInputs(factors=np.array([2.0, 2.0], np.float32), limits=(-8, 7)),
        layers=(hidden, last),
    )


@pytest.mark.parametrize(
    ("seen", "vectors", "logits", "action"),
    [
        # 2.5 and -1.5 are halfway: 2 and -2. Sums 3 + 2 + 4 = 9 and -1 + 6 - 2 = 3; 6.75 and 1.5 become 7 and 2.
        # 0 + 7 and 1 + 6 tie: the first wins.
        ((1.25, -0.75), [[2, -2], [7, 2], [7, 7]], (1.75, 1.75), 0),
        # -0.5 is 0 and 1.5 is 2. Sums 3 - 4 = -1, which is 0, and -1 + 2 = 1; 0.5 becomes 1. Then 0 and 1 + 3 = 4.
        ((-0.25, 0.75), [[0, 2], [0, 1], [0, 4]], (0.0, 1.0), 1),
        # Clipped to 7 and -8: 3 + 7 + 16 = 26, 19.5 is more than 15; -1 + 21 - 8 = 12 is 6. Then 15 and 19.
        ((np.inf, -1e30), [[7, -8], [15, 6], [15, 19]], (3.75, 4.75), 1),
        # What is no number is the lowest one: 3 - 8 - 4 = -9, -1 - 24 + 2 = -23.
        ((np.nan, 1.0), [[-8, 2], [0, 0], [0, 1]], (0.0, 0.25), 1),
    ],
)
def test_a_network_by_hand(seen, vectors, logits, action):
    network, rows = by_hand(), np.array([seen], np.float32)
    assert [vector[0].tolist() for vector in network.vectors(rows)] == vectors
    outputs = network.outputs(rows)
    assert outputs.tolist() == [list(logits)]
    assert decide(Discrete(2), outputs).tolist() == [action]
    assert decide(Discrete(2), outputs, np.array([[False, True]])).tolist() == [1]


def test_rows_are_compared_at_their_scales():
    # 3 steps of 0.5 are more than 4 steps of 0.25.
    last = IntegerLayer(
        weights=np.eye(2, dtype=np.int8),
        bits=4,
        biases=np.zeros(2, np.int32),
        scales=np.array([0.5, 0.25], np.float32),
    )
    outputs = last.read(last.accumulate(np.array([[3, 4]], np.int32)))
    assert outputs.tolist() == [[1.5, 1.0]]
    assert decide(Discrete(2), outputs).tolist() == [0]


def test_fixed_point():
    # The largest ratio takes all 31 bits: 0.75 is 0.75 * 2^31.
    assert [value if isinstance(value, int) else value.tolist() for value in fixed_point(np.array([0.75, 0.5]))] == [
        [1610612736, 1073741824],
        31,
    ]
    # 256 is 2^30 / 2^22, and 2^-20 of it still 2^10 / 2^22.
    factors, shift = fixed_point(np.array([256.0, 2.0**-12]))
    assert (factors.tolist(), shift) == ([2**30, 2**10], 22)
    # The shift ends at 62; 2^-40 is 2^22 / 2^62.
    factors, shift = fixed_point(np.array([2.0**-40]))
    assert (factors.tolist(), shift) == ([2**22], 62)


@pytest.mark.parametrize(
    ("sums", "one", "steps"),
    [
        # 0, 1/3, 1, 3 and 255: softsign 0, 1/4, 1/2, 3/4 and 255/256, times 128; 127.5 is rounded up.
        ((0, 2**24 // 3, 2**24, 3 * 2**24, 255 * 2**24), 128, (0, 32, 64, 96, 128)),
        # Just below and at the sum whose softsign is 1/8: half a step of a quarter.
        ((2**24 // 7, 2**24 // 7 + 1), 4, (0, 1)),
        # Above 2^32 nothing changes any more.
        ((2**32, 2**62), 2, (2, 2)),
    ],
)
def test_softsign_by_hand(sums: tuple[int, ...], one: int, steps: tuple[int, ...]) -> None:
    assert softsign_steps(np.array(sums, np.uint64), one).tolist() == list(steps)


def test_a_softsign_layer_by_hand() -> None:
    # An accumulator of 1 is a sum of 1: -1, 0, 1, -255 and 255 are -1/2, 0, 1/2 and nearly -1 and 1, in steps of 1/8.
    factors, shift = fixed_point(np.array([2.0**24]))
    layer = IntegerLayer(
        weights=np.array([[1]], np.int8),
        bits=4,
        biases=np.zeros(1, np.int32),
        factors=factors,
        shift=shift,
        limit=7,
        softsign=True,
    )
    assert layer.activate(np.array([[-1], [0], [1], [-255], [255]], np.int32)).T.tolist() == [[-4, 0, 4, -8, 7]]
    # The accumulator of largest magnitude, 2^31, and any factor stay within 64 bits.
    ends = np.array([[-(2**31)], [2**31 - 1]], np.int32)
    assert layer.activate(ends).T.tolist() == [[-8, 7]]


@pytest.mark.parametrize("scale", [1.0, 63.0, 64.0, 100.0, 1e6])
def test_sums_may_be_as_large_as_they_like_before_a_curve(scale: float) -> None:
    """Whose end they reach: what one step of an accumulator is worth has no limit, and a factor has 31 bits."""
    rows = IntegerRows(
        weights=np.array([[1]], np.int8), bits=4, biases=np.zeros(1), scales=np.array([scale], np.float32), largest=8
    )
    layer = rows.softsign(limit=7)
    assert layer.shift >= 1
    # x / (1 + |x|) of 1, 63, 64 and more is 1/2, 63/64, 64/65 and more, in steps of 1/8.
    ends = {1.0: [[-4, 0, 4, 7]]}.get(scale, [[-8, 0, 7, 7]])
    assert layer.activate(np.array([[-1], [0], [1], [8]], np.int32)).T.tolist() == ends
    gates = rows.gates(shares=np.ones(1)).measure(np.array([[-(2**31)], [2**31 - 1]], np.int32)).ravel()
    assert gates.tolist() == [-GATE_LIMIT, GATE_LIMIT]
    assert 2 * GATE_LIMIT <= 2**31 - 1  # two of them are added in 32 bits


def test_powers_of_two_are_shifted_by_hand() -> None:
    # Ratios 1/4, 1, 2, 2^-32 and 2^31. 6 and 10 quarters are 1.5 and 2.5, halves go to the even integer; 11 are 2.75.
    layer = IntegerLayer(
        weights=np.zeros((5, 1), np.int8),
        bits=4,
        biases=np.zeros(5, np.int32),
        exponents=np.array([-2, 0, 1, -32, 31], np.int8),
        limit=15,
    )
    sums = np.array([[6, 7, 7, 2**31 - 1, 0], [10, 16, 8, 1, 1], [11, -1, -1, -1, -1], [62, 0, 0, 0, 2**31 - 1]])
    want = [[2, 7, 14, 0, 0], [2, 15, 15, 0, 15], [3, 0, 0, 0, 0], [15, 0, 0, 0, 15]]
    assert layer.activate(sums.astype(np.int32)).tolist() == want


def test_a_softsign_layer_of_powers_of_two_by_hand() -> None:
    # Accumulators of 1 are 1 and 4: -1, 1 and 255 are -1/2, 1/2 and nearly 1, in steps of 1/8, then -4/5, which is
    # -6.4, and 12/13, which is 7.38.
    layer = IntegerLayer(
        weights=np.zeros((2, 1), np.int8),
        bits=4,
        biases=np.zeros(2, np.int32),
        exponents=np.array([24, 26], np.int8),
        limit=7,
        softsign=True,
    )
    assert layer.activate(np.array([[-1, -1], [1, 3], [255, 0], [-(2**31), 2**31 - 1]], np.int32)).tolist() == [
        [-4, -6], [4, 7], [7, 0], [-8, 7]
    ]  # fmt: skip


@pytest.mark.parametrize("family", ["mlp", "mlp_softsign"])
def test_a_student_of_powers_of_two_is_shifted_exactly(family: str) -> None:
    student = trained(family, "w4a8i8p", (24, 16), seed=0)
    integers = to_integers(student)
    assert [layer.factors for layer in integers.layers] == [None] * 3
    # Sums below 2^24 and powers of two are exact in float32, so that ReLU's halves are the same too.
    seen = torch.randn(20_000, 18, generator=torch.Generator().manual_seed(1)) * 1.5
    with torch.no_grad():
        logits, inputs = student(seen).numpy(), student.network.read(seen)
        first = student.network.activations[0](student.network.linears[0](inputs)).int().numpy()
    off = (first != integers.vectors(seen.numpy())[1]).mean()
    assert off == 0 if family == "mlp" else off < 1e-4
    assert (integers.outputs(seen.numpy()) == logits).all(1).mean() > (0.9999 if family == "mlp" else 0.99)
    scales = integers.layers[-1].scales
    assert (np.log2(scales) == integers.layers[-1].exponents).all()


def test_each_layer_has_its_bits() -> None:
    layers = to_integers(trained("mlp", "w8-3-5a6-8i8", (24, 16), seed=0)).layers
    assert [layer.bits for layer in layers] == [8, 3, 5]
    assert [layer.limit for layer in layers[:-1]] == [63, 255]
    assert [int(np.abs(layer.weights.astype(int)).max()) for layer in layers] == [127, 3, 15]


def trained(kind: str, bits: str, hidden: tuple[int, ...], seed: int) -> Student:
    """Quantized, and taught for a moment, so that rows have scales of their own."""
    family, generator = load_family(kind), torch.Generator().manual_seed(seed)
    spec = StudentSpec(family=kind, base=hidden, hidden=hidden, bits=parse_bits(bits))
    floating = Student(spec.floating, WIDE, family.build(spec.floating, WIDE, generator))
    student = quantize(floating, spec, family, [torch.randn(256, 18, generator=generator) for _ in range(4)])
    twin = family.training_twin(student.network).train()
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.003)
    for _ in range(40):
        seen = torch.randn(128, 18, generator=generator)
        optimizer.zero_grad()
        (twin(seen) - 2 * seen[:, :5]).square().mean().backward()
        optimizer.step()
    return student.eval()


@pytest.mark.parametrize("bits", FORMATS)
@pytest.mark.parametrize("family", ["mlp", "mlp_softsign"])
def test_it_is_brevitas_but_for_one_step_in_ten_thousand(family: str, bits: str) -> None:
    student = trained(family, bits, (24, 16), seed=0)
    integers, network = to_integers(student), student.network
    seen = torch.randn(20_000, 18, generator=torch.Generator().manual_seed(1)) * 1.5
    with torch.no_grad():
        tensors = [network.read(seen)]
        for linear, relu in zip(network.linears[:-1], network.activations, strict=True):
            tensors.append(relu(linear(tensors[-1])))
        logits = student(seen).numpy()
    vectors = integers.vectors(seen.numpy())
    off = [np.abs(tensor.int().numpy() - own) for tensor, own in zip(tensors, vectors[:-1], strict=True)]
    assert max(each.max() for each in off) <= 1
    assert sum(each.sum() for each in off) <= 1e-4 * sum(each.size for each in off)
    assert off[0].sum() == 0  # inputs are quantized in the same float32 operations
    # Where the last hidden layer is the same, so are the logits, to the last bit.
    same = (off[-1] == 0).all(1)
    assert same.mean() > 0.99
    assert (integers.outputs(seen.numpy())[same] == logits[same]).all()


def test_a_bias_that_32_bits_cannot_hold_decides_its_row(make_student: MakeStudent) -> None:
    student = make_student("w8a8i8")
    with torch.no_grad():
        student.network.linears[0].bias[:2] = torch.tensor([1e6, -1e6])
    integers = to_integers(student)
    seen = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32) * 100
    activations = integers.vectors(seen)[1]
    assert (activations[:, 0] == 255).all()
    assert (activations[:, 1] == 0).all()
    # No sum of any product leaves 32 bits, in whatever order it is made.
    layer = integers.layers[0]
    assert (np.abs(layer.biases.astype(np.int64)) + np.abs(layer.weights).astype(np.int64).sum(1) * 256 < 2**31).all()


KINDS: dict[str, ActionSpace] = {
    "one": Discrete(5),
    "factors": MultiDiscrete((2, 3)),
    "clipped": Box((-0.3, -1.0, 0.0, -float("inf"), 0.0), (0.3, 0.0, 5.0, 0.5, float("inf"))),
    "squashed": Box((-0.3, -1.0, 0.0, 0.0, -2.0), (0.3, 0.0, 5.0, 1.0, -1.0), squashed=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_actions_are_those_of_torch(kind: str) -> None:
    generator, space = np.random.default_rng(0), KINDS[kind]
    outputs = generator.integers(-3, 4, (2000, 5)).astype(np.float32) / 2  # with many ties
    masks = [None] if isinstance(space, Box) else [None, generator.random((2000, 5)) < 0.5]
    for mask in masks:
        legal = mask_logits(torch.from_numpy(outputs), None if mask is None else torch.from_numpy(mask))
        want, got = greedy(space, legal).numpy(), decide(space, outputs, mask)
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert np.abs(got - want).max() <= (1e-6 if kind == "squashed" else 0)


def test_what_a_network_reads_of_a_view(make_student: MakeStudent) -> None:
    normalisation = Normalisation(shift=(0.5, 0.0, -1.0), scale=(2.0, 1.0, 0.1))
    student = make_student("w4a8i8", normalisation=normalisation)
    seen = np.array([[1.0, 2.0, 3.0]], np.float32)
    # (1 - 0.5) 2 = 1; 2; (3 + 1) 0.1 = 0.4
    assert np.allclose(student_inputs(student, seen), [[1.0, 2.0, 0.4]])
    assert student_inputs(make_student("w4a8i8"), seen).tolist() == [[1.0, 2.0, 3.0]]


def test_students_without_an_integer_form_are_refused(make_student: MakeStudent) -> None:
    with pytest.raises(StudentError, match=r"only quantized students have an integer form"):
        to_integers(make_student())
    broken = make_student("w4a8i8")
    with torch.no_grad():
        broken.network.linears[0].weight[0, 0] = float("nan")
    with pytest.raises(StudentError, match="holds NaN or infinity"):
        to_integers(broken)
    fresh = StudentSpec(family="mlp", base=(4,), hidden=(4,), bits=parse_bits("w4a8i8"))
    family = load_family("mlp")
    network = family.quantize(family.build(fresh.floating, DRONE, torch.Generator().manual_seed(0)), fresh)
    with pytest.raises(StudentError, match="without activation ranges"):
        to_integers(Student(fresh, DRONE, network).eval())
    wide = make_student("w4a8i8", AgentSpec(observation_size=MOST_COLUMNS + 1, actions=Discrete(2)), hidden=(2,))
    with pytest.raises(StudentError, match="sums over 8,193 inputs of a layer may leave 32 bits; 8,192 are the most"):
        to_integers(wide)
