import pytest
import torch

from kdnas.distill import RowMemory, kl_with_temperature, train
from kdnas.distill.trainer import play_on_policy
from kdnas.errors import StudentError
from kdnas.spaces import StudentSpec
from kdnas.students import Student, load_family
from kdnas.teachers import Rows

from .conftest import MakeRoom

SPEC = StudentSpec(family="mlp", base=(16,), hidden=(16,))


def fresh(room, spec: StudentSpec = SPEC) -> Student:
    return Student(spec, room.pool.spaces, load_family("mlp").build(spec, room.pool.spaces, seeded(3)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def divergence(student: Student, rows: Rows) -> float:
    logits = student.eval()(torch.from_numpy(rows.observations))
    return float(kl_with_temperature(logits, torch.from_numpy(rows.logits), None, 1.0))


def test_the_student_comes_to_answer_as_its_teacher(make_room: MakeRoom, demonstrations: Rows) -> None:
    room = make_room()
    student = fresh(room)
    before = divergence(student, demonstrations)
    memory = RowMemory(demonstrations, 10_000, seeded(0))
    last = train(student, room, memory, steps=400, learning_rate=0.01, seed=1)
    assert not student.training
    assert divergence(student, demonstrations) < before / 20
    # The mean of the last 200 steps, on the way there.
    assert divergence(student, demonstrations) / 3 < last < before / 5


def test_the_same_seed_gives_the_same_student(make_room: MakeRoom, demonstrations: Rows) -> None:
    room, weights = make_room(), []
    for seed in (1, 1, 2):
        student = fresh(room)
        train(student, room, RowMemory(demonstrations, 1000, seeded(0)), steps=30, learning_rate=0.01, seed=seed)
        weights.append(student.network.linears[0].weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])  # other on-policy episodes


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
    make_room: MakeRoom, demonstrations: Rows, spec: StudentSpec, rounds: int, added: int
) -> None:
    room = make_room(on_policy_rounds=rounds)
    memory = RowMemory(demonstrations, 10_000, seeded(0))
    train(fresh(room, spec), room, memory, steps=9, learning_rate=0.01, seed=1)
    # 16 episodes of 5 steps, seen from both seats of the pool.
    assert memory.size == 320 + added * 16 * 5 * 2


def test_on_policy_rows_are_labelled_by_the_teacher(make_room: MakeRoom, demonstrations: Rows) -> None:
    room = make_room()
    memory = RowMemory(demonstrations, 10_000, seeded(0))
    play_on_policy(fresh(room), room, memory, seeded(5))
    observations, logits, masks = memory.batch(500)
    assert masks is None
    torch.testing.assert_close(logits, room.teacher.logits("left", observations))


def test_masks_come_along(make_room: MakeRoom) -> None:
    room = make_room({"masked": True})
    student = fresh(room)
    seen = torch.zeros(4, 3)
    rows = Rows(observations=seen.numpy(), logits=seen.numpy(), masks=torch.ones(4, 3, dtype=torch.bool).numpy())
    memory = RowMemory(rows, 1000, seeded(0))
    play_on_policy(student, room, memory, seeded(5))
    masks = memory.batch(10)[2]
    assert masks is not None
    assert masks.all()


def test_a_loss_that_is_not_finite_ends_the_training(make_room: MakeRoom, demonstrations: Rows) -> None:
    room = make_room()
    with pytest.raises(StudentError, match=r"student mlp 16 float: the loss became (nan|inf) at step \d+ of 40"):
        train(
            fresh(room), room, RowMemory(demonstrations, 1000, seeded(0)), steps=40, learning_rate=1e30, seed=1
        )


def test_weights_that_are_not_finite_end_it_too(make_room: MakeRoom, demonstrations: Rows) -> None:
    room, student = make_room(), None
    student = fresh(room)
    with torch.no_grad():
        student.network.linears[0].weight[0, 0] = torch.nan
    with pytest.raises(StudentError, match="holds NaN or infinity"):
        train(student, room, RowMemory(demonstrations, 1000, seeded(0)), steps=0, learning_rate=0.01, seed=1)


def test_no_steps_leave_a_student_as_it_was(make_room: MakeRoom, demonstrations: Rows) -> None:
    room = make_room()
    student = fresh(room)
    before = divergence(student, demonstrations)
    assert train(student, room, RowMemory(demonstrations, 1000, seeded(0)), steps=0, learning_rate=0.01, seed=1) == 0
    assert divergence(student, demonstrations) == before
