"""Integers that are off come back step by step, and good ones stay."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import kdnas.distill.recipe as recipe
from kdnas.compress import quantize, training_twin
from kdnas.distill import Classroom, LessonMemory, Lessons, Stage, Teaching, divergence, last_stage, make_student
from kdnas.distill.flips import flip_weights
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.students import FakeQuantMlp, QuantMlp, Student, load_family

from .conftest import MakeRoom, demonstrate

DENSE = StudentSpec(family="mlp_softsign", base=(8,), hidden=(8,))
INTEGER = replace(DENSE, bits=parse_bits("w4a8i8"))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def distance(student: Student, lessons: Lessons) -> float:
    outputs = student.eval()(lessons.views)
    return float(divergence(student.spaces.actions, outputs, lessons.parameters, lessons.masks, 1.0).mean())


def learned(room: Classroom, lessons: Lessons, spec: StudentSpec = INTEGER) -> Student:
    """A settled student."""
    ancestor = make_student(Stage(spec=DENSE), None, room, lessons, seed=1)[0]
    return make_student(last_stage(spec, room.recipe), ancestor, room, lessons, seed=2)[0]


def flip(twin: Student, room: Classroom, lessons: Lessons, rounds: int) -> int:
    memory = LessonMemory(lessons, 10_000, seeded(0))
    return flip_weights(twin, memory, Teaching(room, twin, seeded(1)), rounds=rounds, batch=128)


@pytest.mark.parametrize(("env", "bits"), [({}, "w4a8i8"), ({"masked": True}, "w4a8i8"), ({}, "w8-4a8i8p")])
def test_steps_that_were_wrong_are_taken_back(make_room: MakeRoom, env: dict[str, Any], bits: str) -> None:
    room = make_room(env, flip_rounds=0, qat_steps=200)
    lessons = room.lessons(demonstrate(room.env, room.teacher))
    student = learned(room, lessons, replace(DENSE, bits=parse_bits(bits)))
    good = distance(student, lessons)
    twin = training_twin(student, load_family("mlp_softsign"))
    network = twin.network
    assert isinstance(network, FakeQuantMlp)
    with torch.no_grad():  # four steps towards the other side, on eight weights
        weight, scale = network.linears[1].weight, network.weight_scale(1)
        weight[:2, ::2] -= 4 * torch.where(weight[:2, ::2] > 0, scale[:2], -scale[:2])
    broken = distance(twin, lessons)
    assert broken > 2 * good
    assert flip(twin, room, lessons, rounds=8) >= 8
    assert distance(twin, lessons) < 0.1 * broken + 0.9 * good
    # What was moved are integers, and those of the brevitas network.
    assert isinstance(student.network, QuantMlp)
    for linear, width in zip(student.network.linears, student.spec.bits.weights(2), strict=True):
        quantized = linear.quant_weight()
        assert torch.allclose(linear.weight, quantized.value, atol=1e-6)
        assert (quantized.value / quantized.scale).abs().max() <= 2 ** (width - 1) - 1 + 0.001
    assert distance(student, lessons) == distance(twin, lessons)


def test_no_step_where_nothing_is_to_be_won(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room()
    floating = Student(DENSE, room.pool.spaces, load_family("mlp_softsign").build(DENSE, room.pool.spaces, seeded(0)))
    student = quantize(floating, INTEGER, load_family("mlp_softsign"), [demonstrations.views])
    with torch.no_grad():
        taught = replace(demonstrations, parameters=student.eval()(demonstrations.views))
    twin = training_twin(student, load_family("mlp_softsign"))
    twin.network.settle(1.0)
    before = [linear.weight.clone() for linear in twin.network.linears]
    assert flip(twin, room, taught, rounds=1) == 0
    for linear, weight in zip(twin.network.linears, before, strict=True):
        assert torch.allclose(linear.weight, weight, rtol=0.02)  # but for their scales


def test_narrow_weights_alone_are_flipped_by_the_recipe(
    make_room: MakeRoom, demonstrations: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def note(student: Student, memory: LessonMemory, teaching: Teaching, *, rounds: int, batch: int) -> int:
        asked.append(student.spec.bits.narrowest_weight)
        return 0

    monkeypatch.setattr(recipe, "flip_weights", note)
    room = make_room(flip_rounds=3)
    for bits in ("w3a8i8", "w4a8i8", "w5a8i8", "w8a8i8", "w8-2a8i8"):
        learned(room, demonstrations, replace(DENSE, bits=parse_bits(bits)))
    learned(make_room(flip_rounds=0), demonstrations)
    assert asked == [3, 4, 2]
