"""The integer form of a network over sets: its arithmetic by hand, and how near it is to brevitas."""

import numpy as np
import pytest
import torch

from kdnas.compress.quantize import quantize
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Student, load_family
from kdnas.students.integer import IntegerInputs, IntegerLayer, fixed_point, mean_steps, to_integers
from kdnas.students.integer_deepset import IntegerDeepSet, IntegerSet

ENTITIES = Entities(
    own=(0, 1, 2, 3),
    sets=(
        EntitySet(name="landmarks", members=((4, 5), (6, 7), (8, 9))),
        EntitySet(name="others", members=((10, 11), (12, 13))),
    ),
)
SPREAD = AgentSpec(observation_size=18, actions=Discrete(5), entities=ENTITIES)


@pytest.mark.parametrize(
    ("total", "count", "mean"),
    # 1/2, 3/2 and 5/2 go to the even integers; 4/6 and 2/6; 9/6 = 1.5 and 15/6 = 2.5 do so too.
    [(1, 1, 0), (3, 1, 2), (5, 1, 2), (4, 3, 1), (2, 3, 0), (9, 3, 2), (15, 3, 2), (0, 4, 0)],
)
def test_means_by_hand(total: int, count: int, mean: int) -> None:
    assert mean_steps(np.array([total]), count).tolist() == [mean]


def test_a_set_of_two_by_hand() -> None:
    factors, shift = fixed_point(np.array([0.5, 0.5]))
    encoder = IntegerLayer(
        weights=np.array([[1], [-1]], np.int8),
        bits=3,
        biases=np.array([0, 2], np.int32),
        factors=factors,
        shift=shift,
        limit=15,
    )
    last = IntegerLayer(
        weights=np.array([[1, 2, 3]], np.int8),
        bits=3,
        biases=np.array([0], np.int32),
        scales=np.array([0.5], np.float32),
    )
    network = IntegerDeepSet(
        index=(2, 0, 1),
        own=IntegerInputs(factors=np.array([8.0], np.float32), limits=(-8, 7)),
        sets=(
            IntegerSet(
                members=2, inputs=IntegerInputs(factors=np.array([2.0], np.float32), limits=(-8, 7)), encoder=encoder
            ),
        ),
        layers=(last,),
    )
    # Own: 0.3 * 8 = 2.4. Members 3 and -4: sums 3 and 2 - 3 = -1, -4 and 2 + 4 = 6, encoded as 2 (1.5) and 0, 0 and 3.
    # Totals 2 and 3, over 4 they are 0 (half to even) and 1 (0.75). Then 2 + 2 * 0 + 3 * 1 = 5 of 1/2 each.
    seen = np.array([[1.5, -2.0, 0.3]], np.float32)
    assert [vector[0].tolist() for vector in network.vectors(seen)] == [[3, -4], [2, 0, 1], [5]]
    assert network.step(seen, network.begin(1))[0].tolist() == [[2.5]]
    assert network.vectors(seen[:, [1, 0, 2]])[1][0].tolist() == [2, 0, 1]  # in whatever order they stand
    # Two of -8 are encoded as 2 + 8 = 10, half of it 5; 10 over 4 is 2 (half to even), or the limit if that is less.
    assert network.vectors(np.full((1, 3), -np.inf, np.float32))[1][0].tolist() == [-8, 0, 2]
    assert network.sets[0].mean(np.array([[-8, -8]], np.int32), limit=1).tolist() == [[0, 1]]


def trained(bits: str) -> Student:
    """Quantized, and taught for a moment."""
    family, generator, hidden = load_family("deepset"), torch.Generator().manual_seed(0), (24, 16)
    spec = StudentSpec(family="deepset", base=hidden, hidden=hidden, bits=parse_bits(bits))
    floating = Student(spec.floating, SPREAD, family.build(spec.floating, SPREAD, generator))
    student = quantize(floating, spec, family, [torch.randn(256, 18, generator=generator) for _ in range(4)]).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.003)
    for _ in range(30):
        seen = torch.randn(128, 18, generator=generator)
        optimizer.zero_grad()
        (student(seen) - 2 * seen[:, :5]).square().mean().backward()
        optimizer.step()
    return student.eval()


@pytest.mark.parametrize("bits", ["w2a8i8", "w8a2i4", "w3a3i8", "w4a4i4", "w5a5i8", "w6a6i3", "w7a7i5", "w8a8i8"])
@torch.no_grad()
def test_it_is_brevitas_but_for_one_step_in_ten_thousand(bits: str) -> None:
    with torch.enable_grad():
        student = trained(bits)
    integers, network = to_integers(student), student.network
    assert isinstance(integers, IntegerDeepSet)
    seen = torch.randn(20_000, 18, generator=torch.Generator().manual_seed(1)) * 1.5
    pooled = network.pool(network.sets.gather(seen))
    hidden = network.relus[0](network.linears[0](pooled))
    *members, own_pooled, own_hidden, _ = integers.vectors(seen.numpy())
    parts = network.sets.split(network.sets.gather(seen) * network.input_factors())[1]
    for part, own in zip(parts, members, strict=True):
        assert (network.quantize_input(part).int().numpy().reshape(own.shape) == own).all()
    off = [np.abs(want.int().numpy() - own) for want, own in ((pooled, own_pooled), (hidden, own_hidden))]
    assert max(each.max() for each in off) <= 1
    assert sum(each.sum() for each in off) <= 1e-4 * sum(each.size for each in off)
    same = (off[-1] == 0).all(1)
    assert same.mean() > 0.99
    assert (integers.step(seen.numpy(), None)[0][same] == student(seen).numpy()[same]).all()
