"""What `Teaching` makes of the terms, which have their own numbers in `test_losses.py`."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdnas.compress import quantize, training_twin
from kdnas.distill import Classroom, LessonMemory, Lessons, Teaching, divergence
from kdnas.distill.polish import polish
from kdnas.distill.teaching import answer
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.students import FakeQuantMlp, Student, load_family
from kdnas.teachers import Reading, Teacher

from .conftest import MakeLessons, MakeRoom, demonstrate, teach_with_critic

SPEC = StudentSpec(family="mlp", base=(16,), hidden=(16,))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fresh(room: Classroom, seed: int = 3) -> Student:
    return Student(SPEC, room.pool.spaces, load_family("mlp").build(SPEC, room.pool.spaces, seeded(seed)))


def taught(room: Classroom) -> tuple[Student, LessonMemory, Teaching]:
    memory = LessonMemory(room.lessons(demonstrate(room.env, room.teacher)), 10_000, seeded())
    student = fresh(room)
    return student, memory, Teaching(room, student, seeded(1))


EVERYTHING: dict[str, Any] = {
    "cross_entropy": 0.5,
    "relation": 0.5,
    "role": 0.5,
    "role_size": 2,
    "advantage_beta": 1.0,
}


@pytest.mark.parametrize(
    ("env", "recipe"),
    [
        ({}, {"loss": EVERYTHING, "adaptive": {"quantile": 0.3}}),
        ({"masked": True}, {"loss": EVERYTHING}),
        ({"actions": "multi-discrete", "masked": True}, {"loss": EVERYTHING}),
        ({"actions": "box"}, {"loss": EVERYTHING | {"cross_entropy": 0.0}, "adaptive": {"quantile": 0.3}}),
        ({"kinds": True}, {"loss": EVERYTHING}),
    ],
)
def test_all_terms_together_teach(make_room: MakeRoom, env: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Every term has a gradient, and a student that follows it comes nearer to its teacher."""
    room = make_room(env, teach_with_critic, **recipe)
    student, memory, teaching = taught(room)
    held_out = memory.batch(400)
    before = teaching.held_out(held_out)
    assert sum(parameter.numel() for parameter in teaching.parameters()) == 16 * 2 + 2  # of the projector
    optimizer = torch.optim.Adam([*student.parameters(), *teaching.parameters()], lr=0.01)
    for _ in range(200):
        loss = teaching.loss(memory, 128)
        assert loss.ndim == 0
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert teaching.held_out(held_out) < before / 3
    assert all(parameter.grad is not None for parameter in teaching.parameters())


def test_one_term_alone_is_the_mean_divergence(make_room: MakeRoom) -> None:
    room = make_room(temperature=2.0)
    student, memory, teaching = taught(room)
    again = LessonMemory(room.lessons(demonstrate(room.env, room.teacher)), 10_000, seeded())
    rows = again.batch(128)  # the same ones: an equal generator draws them
    want = divergence(student.spaces.actions, student(rows.views), rows.parameters, None, 2.0).mean()
    torch.testing.assert_close(teaching.loss(memory, 128), want)
    assert list(teaching.parameters()) == []


def test_action_values_are_learned_as_values(make_room: MakeRoom) -> None:
    reading = {group: Reading(q_temperature=0.5) for group in ("left", "right")}
    room = make_room(
        make_teacher=lambda spec: Teacher(spec, dict.fromkeys(spec.groups, nn.Linear(3, 3)), reading=reading),
        loss={"kl": 0.0, "q": 2.0},
    )
    student, memory, teaching = taught(room)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    again = LessonMemory(room.lessons(demonstrate(room.env, room.teacher)), 10_000, seeded())
    values = room.teacher.actors["left"](again.batch(128).views)
    # A student that says 0 is off by each value.
    torch.testing.assert_close(teaching.loss(memory, 128), 2 * values.square().mean())


class Sum(nn.Module):
    """h' = h + x, outputs h'."""

    def forward(self, observations: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        following = hidden + observations
        return following.expand(-1, 3), following


def recurrent(room: Classroom) -> Student:
    student = Student(SPEC, room.pool.spaces, Sum())
    student.hidden_size = 3  # of a family that is recurrent
    return student


def test_held_out_tracks_are_lived_through_from_their_beginning(make_room: MakeRoom, tracks_of: MakeLessons) -> None:
    room = make_room()
    teaching = Teaching(room, recurrent(room), seeded())
    # What it says after x1, x2, ... is their sum; a teacher that says as much is agreed with on every row.
    tracks = tracks_of([1, 2, 3], [4], [5, 6])
    views = tracks.views * torch.tensor([[1.0, -0.5, 0.25]])
    sums = torch.tensor([1.0, 3.0, 6.0, 4.0, 5.0, 11.0])[:, None] * torch.tensor([[1.0, -0.5, 0.25]])
    lessons = Lessons(views=views, parameters=sums, position=tracks.position)
    assert teaching.held_out(lessons) == pytest.approx(0, abs=1e-6)
    assert teaching.held_out(Lessons(views=views, parameters=views, position=tracks.position)) > 0.02


def test_only_steps_that_count_are_learned_from(make_room: MakeRoom) -> None:
    """Stretches of four steps of tracks of five, two to warm up: a student that remembers agrees where it counts."""
    room = make_room(sequence_steps=4, burn_in_steps=2)
    student = recurrent(room)
    teaching = Teaching(room, student, seeded())
    views = torch.randn(20, 5, 3, generator=seeded())
    lessons = Lessons(
        views=views.flatten(0, 1),
        parameters=views.cumsum(1).flatten(0, 1),
        position=torch.arange(5).repeat(20),
    )
    windows = LessonMemory(lessons, 1000, seeded()).windows(32, 4, 2)
    outputs = student(windows.lessons.views.reshape(32, 4, 3)).flatten(0, 1)
    rows = divergence(student.spaces.actions, outputs, windows.lessons.parameters, None, 1.0)
    counted = windows.counted.flatten()
    # 128 rows in stretches of 4 are 32 stretches. Rows that do not count weigh nothing, and the others alike.
    torch.testing.assert_close(teaching.loss(LessonMemory(lessons, 1000, seeded()), 128), rows[counted].mean())
    # Nor do they count where rows are compared with each other.
    said, asked, places = answer(student, LessonMemory(lessons, 1000, seeded()), 128, room.recipe)
    assert 0 < int(counted.sum()) < len(rows)
    torch.testing.assert_close(said, outputs[counted])
    assert torch.equal(asked.parameters, windows.lessons.parameters[counted])
    assert places is not None
    assert places.tolist() == counted.nonzero().squeeze(1).tolist()
    # From a track's beginning everything is remembered; from later on the first steps are missing.
    starts = windows.lessons.position.reshape(32, 4)[:, 0]
    assert float(rows.reshape(32, 4)[starts == 0].max()) == pytest.approx(0, abs=1e-5)
    assert float(rows.reshape(32, 4)[starts > 0].max()) > 0.1


@pytest.mark.parametrize("env", [{}, {"actions": "box"}, {"actions": "multi-discrete", "masked": True}])
def test_polish_improves_a_student_or_leaves_it(make_room: MakeRoom, env: dict[str, Any]) -> None:
    room = make_room(env, teach_with_critic, polish={"rounds": 6, "episodes": 64, "learning_rate": 0.01, "leash": 1.0})
    student = fresh(room)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    better = polish(student, room, seed=1)
    # An untrained student gains by anything.
    assert better
    assert any(not torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_polish_leaves_integers_alone(make_room: MakeRoom) -> None:
    room = make_room(
        make_teacher=teach_with_critic, polish={"rounds": 2, "episodes": 16, "leash": 1.0}, qat_learning_rate=0.01
    )
    family, generator = load_family("mlp_softsign"), torch.Generator().manual_seed(0)
    spec = StudentSpec(family="mlp_softsign", base=(6,), hidden=(6,))
    spaces = room.pool.spaces
    floating = Student(spec, spaces, family.build(spec, spaces, generator))
    views = torch.randn(64, spaces.observation_size, generator=generator)
    student = training_twin(quantize(floating, replace(spec, bits=parse_bits("w3a8i8")), family, [views]), family)
    network = student.network
    assert isinstance(network, FakeQuantMlp)
    network.settle(1.0)

    def integers() -> list[list[int]]:
        weights = [linear.weight / network.weight_scale(index) for index, linear in enumerate(network.linears)]
        return [weight.round().int().tolist() for weight in weights]

    before, bias = integers(), network.linears[0].bias.detach().clone()
    better = polish(student, room, seed=1)
    assert integers() == before
    assert better == (not torch.equal(network.linears[0].bias, bias))


def test_polish_keeps_what_cannot_be_improved(make_room: MakeRoom) -> None:
    """A student with the teacher's own network names the largest each time: nothing returns more."""
    room = make_room(make_teacher=teach_with_critic, polish={"rounds": 1, "episodes": 16, "learning_rate": 0.01})
    student = Student(SPEC, room.pool.spaces, room.teacher.actors["left"].requires_grad_(True))
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    assert not polish(student, room, seed=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
