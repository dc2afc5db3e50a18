"""From whom a student inherits."""

from collections.abc import Sequence

import pytest
import torch

from kdnas.config.study import DistillTable
from kdnas.distill import Classroom, Lessons, Stage, make_student
from kdnas.distill.inheritance import best_start, nearest_relatives
from kdnas.errors import StudentError
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.students import Student, load_family

from .conftest import MakeRoom

RECIPE = DistillTable(rungs=(0.1, 0.3, 1.0))


@pytest.fixture(scope="module")
def room(make_room: MakeRoom) -> Classroom:
    return make_room()


def spec(*hidden: int, bits: str = "float", base: Sequence[int] = (64, 64), family: str = "mlp") -> StudentSpec:
    return StudentSpec(family=family, base=tuple(base), hidden=hidden, bits=parse_bits(bits))


def at(rung: int, *hidden: int, bits: str = "float", base: Sequence[int] = (64, 64), family: str = "mlp") -> Stage:
    return Stage(spec=spec(*hidden, bits=bits, base=base, family=family), rung=rung)


def test_the_two_smallest_wider_ones_each_at_its_highest_rung(room: Classroom) -> None:
    banked = [at(1, 24, 24), at(2, 24, 24), at(1, 16, 16), at(0, 16, 16), at(0, 64, 64), at(2, 12, 32)]
    # Of 3 inputs and 3 outputs: 16x16 has 48 + 256 + 48 = 352 MACs, 12x32 36 + 384 + 96 = 516, 24x24 720.
    found = nearest_relatives(spec(12, 12), banked, room.pool, RECIPE)
    assert found == [at(1, 16, 16), at(2, 12, 32)]
    assert nearest_relatives(spec(12, 12), reversed(banked), room.pool, RECIPE) == found
    assert nearest_relatives(spec(12, 12, bits="w4a8i8"), banked, room.pool, RECIPE) == found


@pytest.mark.parametrize(
    "stranger",
    [
        at(2, 24, 11),  # narrower in a layer
        at(0, 24, 24),  # has only begun
        at(2, 12, 12),  # the student itself
        at(0, 64, 64),  # the ancestor, which is tried anyway
        at(2, 24, 24, bits="w8a8i8"),
        at(2, 24, 24, base=(32, 32)),
        at(2, 24, 24, family="mlp_softsign"),
    ],
    ids=str,
)
def test_who_is_no_relative(stranger: Stage, room: Classroom) -> None:
    assert nearest_relatives(spec(12, 12), [stranger], room.pool, RECIPE) == []


def test_with_one_rung_the_first_is_complete(room: Classroom) -> None:
    assert nearest_relatives(spec(12, 12), [at(0, 24, 24)], room.pool, DistillTable(rungs=(1.0,))) == [at(0, 24, 24)]


def untrained(room: Classroom, *hidden: int, seed: int = 1) -> Student:
    shape = spec(*hidden, base=(16,))
    network = load_family("mlp").build(shape, room.pool.spaces.inputs, torch.Generator().manual_seed(seed))
    return Student(shape, room.pool.spaces, network).eval()


def test_the_better_start_wins_wherever_it_stands(room: Classroom, demonstrations: Lessons) -> None:
    dense, _ = make_student(at(0, 16, base=(16,)), None, room, demonstrations, seed=0)
    target = spec(6, base=(16,))
    raw = untrained(room, 8)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    assert best_start([raw, dense], target, room, demonstrations, seed=3) == 1
    assert best_start([dense, raw], target, room, demonstrations, seed=3) == 0
    assert best_start([dense, dense], target, room, demonstrations, seed=3) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


def test_a_narrower_one_is_refused(room: Classroom, demonstrations: Lessons) -> None:
    with pytest.raises(StudentError, match=r"student mlp 6 float: pruning gave widths \(4,\)"):
        best_start([untrained(room, 4)], spec(6, base=(16,)), room, demonstrations, seed=3)
