from dataclasses import replace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from kdnas.compress import quantize, training_twin
from kdnas.distill import Classroom, LessonMemory, Lessons, Teaching, Training, divergence, train
from kdnas.distill.snapshot import Snapshot
from kdnas.distill.trainer import play_on_policy
from kdnas.errors import StudentError
from kdnas.spaces import StudentSpec
from kdnas.spaces.space import parse_bits
from kdnas.students import Student, load_family

from .conftest import MakeRoom

SPEC = StudentSpec(family="mlp", base=(16,), hidden=(16,))


def fresh(room: Classroom, spec: StudentSpec = SPEC) -> Student:
    return Student(spec, room.pool.spaces, load_family(spec.family).build(spec, room.pool.spaces, seeded(3)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def distance(student: Student, lessons: Lessons) -> float:
    outputs = student.eval()(lessons.views)
    return float(divergence(student.spaces.actions, outputs, lessons.parameters, lessons.masks, 1.0).mean())


def learn(
    student: Student,
    room: Classroom,
    memory: LessonMemory,
    *,
    steps: int,
    rounds: int | None = None,
    learning_rate: float = 0.01,
    seed: int = 1,
    held_out: Lessons | None = None,
    since: Snapshot | None = None,
) -> Training:
    return train(
        student,
        room,
        memory,
        Teaching(room, student, seeded(9)),
        steps=steps,
        on_policy_rounds=room.recipe.on_policy_rounds if rounds is None else rounds,
        learning_rate=learning_rate,
        seed=seed,
        held_out=held_out,
        since=since,
    )


def test_the_student_comes_to_answer_as_its_teacher(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room()
    student = fresh(room)
    before = distance(student, demonstrations)
    memory = LessonMemory(demonstrations, 10_000, seeded(0))
    training = learn(student, room, memory, steps=400)
    assert not student.training
    assert distance(student, demonstrations) < before / 20
    # The mean of the last 200 steps, on the way there.
    assert distance(student, demonstrations) / 3 < training.loss < before / 5
    assert training.steps == 400


def test_the_same_seed_gives_the_same_student(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room, weights = make_room(), []
    for seed in (1, 1, 2):
        student = fresh(room)
        learn(student, room, LessonMemory(demonstrations, 2000, seeded(0)), steps=30, seed=seed)
        weights.append(student.network.linears[0].weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])  # other on-policy episodes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("bits", ["float", "w4a8i8"])
def test_a_student_is_trained_on_cuda_and_comes_back(make_room: MakeRoom, demonstrations: Lessons, bits: str) -> None:
    room = make_room(device="cuda", loss={"role": 0.1, "role_size": 2} if bits == "float" else {})
    student = fresh(room)
    memory = LessonMemory(demonstrations, 10_000, seeded(0))
    if bits != "float":
        spec, family = replace(SPEC, bits=parse_bits(bits)), load_family("mlp")
        student = training_twin(quantize(student, spec, family, [memory.batch(64).views]), family)
    before = distance(student, demonstrations)
    learn(student, room, memory, steps=400)
    assert student.device.type == "cpu"
    assert distance(student, demonstrations) < before / 3


@pytest.mark.parametrize(
    ("spec", "rounds", "added"),
    [
        (SPEC, 0, 0),
        (SPEC, 1, 0),  # an ancestor knows nothing in its first round
        (SPEC, 3, 2),
        (StudentSpec(family="mlp", base=(16,), hidden=(8,)), 3, 3),
    ],
)
def test_on_policy_rounds_join_the_memory(
    make_room: MakeRoom, demonstrations: Lessons, spec: StudentSpec, rounds: int, added: int
) -> None:
    room = make_room(on_policy_rounds=rounds)
    memory = LessonMemory(demonstrations, 10_000, seeded(0))
    learn(fresh(room, spec), room, memory, steps=9)
    # 64 demonstrated episodes of 5 steps, and then 16 a round, seen from both seats of the pool.
    assert memory.size == 64 * 5 * 2 + added * 16 * 5 * 2


@pytest.mark.parametrize(("step", "played"), [(3, 2), (4, 2), (6, 3)])
def test_who_goes_on_plays_the_rounds_of_before_again(
    make_room: MakeRoom, demonstrations: Lessons, step: int, played: int
) -> None:
    """Rounds begin at 0, 3 and 6 of 9 steps; those before a step are made up for at once, the others when they come."""
    room = make_room()
    spec = StudentSpec(family="mlp", base=(16,), hidden=(8,))
    student = fresh(room, spec)
    count = sum(parameter.numel() for parameter in student.parameters())
    nothing = torch.zeros(count)
    since = Snapshot(step=step, parameters=nothing, mean=nothing, square=torch.ones(count))
    memory = LessonMemory(demonstrations, 10_000, seeded(0))
    sizes: list[int] = []
    hook = register_optimizer_step_pre_hook(lambda *_: sizes.append(memory.size))
    try:
        training = learn(student, room, memory, steps=9, rounds=3, since=since)
    finally:
        hook.remove()
    assert training.steps == 9
    assert len(sizes) == 9 - step
    assert sizes[0] == 640 + played * 16 * 5 * 2
    assert memory.size == 640 + 3 * 16 * 5 * 2


def test_on_policy_rows_are_labelled_by_the_teacher(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room()
    memory = LessonMemory(demonstrations, 10_000, seeded(0))
    play_on_policy(fresh(room), room, memory, seeded(5))
    assert memory.size == 640 + 16 * 5 * 2
    rows = memory.batch(500)
    assert rows.masks is None
    torch.testing.assert_close(rows.parameters, room.teacher.actors["left"](rows.views))
    # Tracks of five steps, each.
    assert set(rows.position.tolist()) == set(range(5))


def test_a_student_that_remembers_learns_from_its_own_tracks_alone(
    make_room: MakeRoom, demonstrations: Lessons
) -> None:
    room = make_room()
    spec = StudentSpec(family="gru", base=(4,), hidden=(4,))
    memory = LessonMemory(demonstrations, 10_000, seeded(0))
    play_on_policy(fresh(room, spec), room, memory, seeded(5))
    # Sixteen episodes of five steps; in each, one seat of two for sure and the other one by a coin.
    first = memory.size
    assert 16 * 5 < first < 2 * 16 * 5
    assert first % 5 == 0
    play_on_policy(fresh(room, spec), room, memory, seeded(6))
    assert memory.size >= first + 16 * 5


def test_masks_come_along(make_room: MakeRoom) -> None:
    room = make_room({"masked": True})
    student = fresh(room)
    seen = torch.zeros(4, 3)
    lessons = Lessons(views=seen, parameters=seen, position=torch.arange(4), masks=torch.ones(4, 3, dtype=torch.bool))
    memory = LessonMemory(lessons, 1000, seeded(0))
    play_on_policy(student, room, memory, seeded(5))
    masks = memory.batch(10).masks
    assert masks is not None
    assert masks.all()


def test_a_loss_that_is_not_finite_ends_the_training(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room()
    with pytest.raises(StudentError, match=r"student mlp 16 float: the loss became (nan|inf) at step \d+ of 40"):
        learn(fresh(room), room, LessonMemory(demonstrations, 1000, seeded(0)), steps=40, learning_rate=1e30)


def test_weights_that_are_not_finite_end_it_too(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room()
    student = fresh(room)
    with torch.no_grad():
        student.network.linears[0].weight[0, 0] = torch.nan
    with pytest.raises(StudentError, match="holds NaN or infinity"):
        learn(student, room, LessonMemory(demonstrations, 1000, seeded(0)), steps=0)


def test_no_steps_leave_a_student_as_it_was(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room()
    student = fresh(room)
    before = distance(student, demonstrations)
    training = learn(student, room, LessonMemory(demonstrations, 1000, seeded(0)), steps=0)
    assert training == Training(steps=0, loss=0.0)
    assert distance(student, demonstrations) == before
