"""The integer form of a recurrent network: its arithmetic by hand, and how near it is to brevitas."""

import math

import numpy as np
import pytest
import torch

from kdnas.compress.quantize import quantize
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Discrete
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Student, load_family
from kdnas.students.integer import (
    ONE,
    IntegerInputs,
    IntegerLayer,
    fixed_point,
    share,
    sigmoid_steps,
    tanh_steps,
    to_integers,
)
from kdnas.students.integer_gru import IntegerGru

WIDE = AgentSpec(observation_size=18, actions=Discrete(5))


def rows(weights: list[int], biases: list[int], ratios: list[float]) -> IntegerLayer:
    factors, shift = fixed_point(np.array(ratios) * ONE)
    return IntegerLayer(
        weights=np.array(weights, np.int8)[:, None],
        bits=4,
        biases=np.array(biases, np.int32),
        factors=factors,
        shift=shift,
    )


def one_unit() -> IntegerGru:
    """Inputs in steps of 1/2, a state in steps of 1/8; sums of W x in steps of 1/4, of U h in steps of 1/32."""
    return IntegerGru(
        inputs=IntegerInputs(factors=np.array([2.0], np.float32), limits=(-8, 7)),
        state_bits=4,
        encoder=(),
        reading=rows([1, -1, 2], [0, 2, 0], [1 / 8, 1 / 8, 1 / 4]),  # r and z are halved
        recalling=rows([2, 0, 1], [-8, 0, 0], [1 / 64, 1 / 64, 1 / 32]),
        head=IntegerLayer(
            weights=np.array([[3]], np.int8),
            bits=4,
            biases=np.array([1], np.int32),
            scales=np.array([0.5], np.float32),
        ),
    )


def test_one_unit_by_hand() -> None:
    network = one_unit()
    # 1 is 2 steps: W x is 2, -2 + 2 = 0 and 4, which are 1/2, halved 1/4; 0; and 1. A state of 4 steps, 1/2: U h is
    # 8 - 8 = 0, 0, and 4, which is 1/8. So r = sigmoid(1/2), z = 1/2, n = tanh(1 + r / 8) = 0.7925 and the next state
    # (0.7925 + 0.5) / 2 = 0.646, 5.17 steps. Then 3 * 5 + 1 = 16 of 1/2 each.
    new = math.tanh(1 + 1 / (1 + math.exp(-0.5)) / 8)
    assert round(8 * (new + 0.5) / 2, 2) == 5.17
    vectors = network.vectors(np.array([[1.0]], np.float32), np.array([[4]], np.int32))
    assert [vector[0].tolist() for vector in vectors] == [[2], [ONE // 4, 0, ONE], [5], [16]]
    outputs, hidden = network.step(np.array([[1.0]], np.float32), np.array([[4]], np.int32))
    assert (outputs.tolist(), hidden.tolist()) == ([[8.0]], [[5]])
    assert network.begin(2).tolist() == [[0], [0]]


def test_states_halfway_go_to_the_even_integer() -> None:
    # Without sums z = 1/2 and n = 0: half the state is left.
    nothing, held = np.zeros((6, 3), np.int64), np.array([[1], [3], [-1], [-3], [7], [-8]], np.int32)
    assert one_unit().mix(nothing, nothing, held)[:, 0].tolist() == [0, 2, 0, -2, 4, -4]


def test_states_end_at_the_limits_of_their_bits() -> None:
    # n = tanh(64), z = sigmoid(-128): nearly 1, which is 8 steps where 7 are the most, and -1.
    ends = np.array([[0, -(2**30), 2**30], [0, -(2**30), -(2**30)]])
    assert one_unit().mix(ends, np.zeros((2, 3), np.int64), np.zeros((2, 1), np.int32)).tolist() == [[7], [-8]]


def test_products_by_hand() -> None:
    # -1.5 steps are rounded up, 1.5 too.
    half = np.array([ONE // 2])
    assert [int(share(half, np.array([steps]))[0]) for steps in (-3, -2, 0, 2, 3)] == [-1, -1, 0, 1, 2]


def test_curves_are_off_by_four_steps_at_most() -> None:
    sums = np.concatenate([np.arange(-9 * ONE, 9 * ONE, 997), np.array([-(2**31) + 1, 2**31 - 1])])
    tanh = tanh_steps(sums)
    assert np.abs(tanh - np.tanh(sums / ONE) * ONE).max() <= 4
    assert (tanh == -tanh_steps(-sums)).all()
    assert np.abs(tanh).max() <= ONE
    assert np.abs(sigmoid_steps(sums) - ONE / (1 + np.exp(-2 * sums / ONE))).max() < 3
    assert sigmoid_steps(np.array([0])).tolist() == [ONE // 2]


def trained(bits: str) -> Student:
    """Quantized, and taught for a moment."""
    family, generator, hidden = load_family("gru"), torch.Generator().manual_seed(0), (12, 8)
    spec = StudentSpec(family="gru", base=hidden, hidden=hidden, bits=parse_bits(bits))
    floating = Student(spec.floating, WIDE, family.build(spec.floating, WIDE, generator))
    student = quantize(floating, spec, family, [torch.randn(32, 6, 18, generator=generator) for _ in range(4)]).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.003)
    for _ in range(15):
        seen = torch.randn(32, 6, 18, generator=generator)
        optimizer.zero_grad()
        (student(seen) - 2 * seen[..., :5] - seen[..., 5:10].cumsum(1)).square().mean().backward()
        optimizer.step()
    return student.eval()


@pytest.mark.parametrize("bits", ["w2a8i8", "w8a2i4", "w3a3i8", "w4a4i4", "w5a5i8", "w6a6i3", "w7a7i5", "w8a8i8"])
@torch.no_grad()
def test_it_is_brevitas_but_for_one_step_in_ten_thousand(bits: str) -> None:
    with torch.enable_grad():
        student = trained(bits)
    integers, network = to_integers(student), student.network
    assert isinstance(integers, IntegerGru)
    tracks = torch.randn(2000, 12, 18, generator=torch.Generator().manual_seed(1)) * 1.5
    step = 2.0 ** (1 - student.spec.bits.activation)
    hidden, own, off, astray = student.begin(2000), integers.begin(2000), [], []
    for seen in tracks.unbind(1):
        before = (hidden / step).round().int().numpy()  # from the network's own state, at each step
        read, encoded, _, following, sums = integers.vectors(seen.numpy(), before)
        inputs = network.quantize_input(seen * network.input_factors())
        want = network.relus[0](network.encoder[0](inputs))
        outputs, hidden = student.step(seen, hidden)
        assert (inputs.int().numpy() == read).all()
        off.append(np.abs(want.int().numpy() - encoded))
        off.append(np.abs((hidden / step).round().int().numpy() - following))
        # Where the state is the same, so are the outputs, to the last bit.
        same = (off[-1] == 0).all(1)
        assert (integers.head.read(sums)[same] == outputs.numpy()[same]).all()
        said, own = integers.step(seen.numpy(), own)  # and from its own, through the whole episode
        astray.append(np.abs((hidden / step).round().int().numpy() - own))
    assert max(each.max() for each in off) <= 1
    assert sum(each.sum() for each in off) <= 1e-4 * sum(each.size for each in off)
    # What is rounded otherwise once is remembered for a while, and does not grow.
    assert max(each.max() for each in astray) <= 1
    assert np.mean(astray) <= 1e-3
    assert (said.argmax(1) == outputs.numpy().argmax(1)).mean() >= 0.999


def test_one_that_is_not_calibrated_is_refused() -> None:
    family, spec = load_family("gru"), StudentSpec(family="gru", base=(4,), hidden=(4,), bits=parse_bits("w4a8i8"))
    network = family.quantize(family.build(spec.floating, WIDE, torch.Generator().manual_seed(0)), spec)
    with pytest.raises(StudentError, match="without activation ranges has no twin and no integers"):
        to_integers(Student(spec, WIDE, network).eval())
