"""A training that stops at a rung and goes on is the one that was never cut."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from kdnas.distill import Classroom, LessonMemory, Lessons, Teaching, train
from kdnas.distill.snapshot import Snapshot
from kdnas.spaces import StudentSpec
from kdnas.students import Student, load_family

from .conftest import MakeRoom

SPEC = StudentSpec(family="mlp", base=(16,), hidden=(8,))
STEPS, RUNG = 1000, 0.33
CUT = 231
"""330 steps end with a cool-down over 30 %: int(.3 x 330) = 99 of them."""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Dated(LessonMemory):
    """Draws for its n-th batch the same rows, however many were drawn before."""

    def __init__(self, lessons: Lessons, begins: int) -> None:
        self.dice = seeded(0)
        super().__init__(lessons, 10_000, self.dice)
        self.count = begins

    def batch(self, size: int) -> Lessons:
        self.dice.manual_seed(self.count)
        self.count += 1
        return super().batch(size)


class Diary:
    """Learning rate and parameters before each step of every optimizer, from a step on."""

    def __init__(self, begins: int) -> None:
        self.rates: dict[int, float] = {}
        self.weights: dict[int, Tensor] = {}
        self.step = begins

    def note(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        (settings,) = optimizer.param_groups
        self.rates[self.step] = settings["lr"]
        self.weights[self.step] = torch.cat([parameter.detach().flatten() for parameter in settings["params"]])
        self.step += 1


def learn(
    room: Classroom, lessons: Lessons, *, steps: int, since: Snapshot | None = None
) -> tuple[Diary, Snapshot, Tensor]:
    """Train the same untrained student; returns what was noted, where it stood before its cool-down, and its end."""
    begins = since.step if since else 0
    network = load_family("mlp").build(SPEC, room.pool.spaces, seeded(3))
    student, diary = Student(SPEC, room.pool.spaces, network), Diary(begins)
    hook = register_optimizer_step_pre_hook(diary.note)  # type: ignore[arg-type]
    try:
        training = train(
            student,
            room,
            Dated(lessons, begins),
            Teaching(room, student, seeded(9)),
            steps=steps,
            on_policy_rounds=0,
            learning_rate=0.01,
            seed=1,
            since=since,
        )
    finally:
        hook.remove()
    assert training.snapshot is not None
    assert training.steps == steps
    return diary, training.snapshot, torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def test_a_training_that_was_cut_is_the_one_that_was_not(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room()
    uncut, _, end = learn(room, demonstrations, steps=STEPS)
    short, snapshot, left = learn(room, demonstrations, steps=round(RUNG * STEPS))
    assert snapshot.step == CUT
    # Up to there the short one is the long one.
    assert {step: short.rates[step] for step in range(CUT)} == {step: uncut.rates[step] for step in range(CUT)}
    assert torch.equal(snapshot.parameters, uncut.weights[CUT])
    # Then it cooled down, and was another student when it ended.
    assert short.rates[CUT + 98] == pytest.approx(0.01 / 99)
    assert not torch.equal(left, end)

    resumed, later, resumed_end = learn(room, demonstrations, steps=STEPS, since=snapshot)
    # From there on it keeps the rate that the long one had, as if it had never fallen: constant to 700, then to 0.
    assert resumed.rates == {step: rate for step, rate in uncut.rates.items() if step >= CUT}
    assert resumed.rates[699] == resumed.rates[700] == 0.01
    assert resumed.rates[999] == pytest.approx(0.01 / 300)
    assert all(torch.equal(weights, uncut.weights[step]) for step, weights in resumed.weights.items())
    assert torch.equal(resumed_end, end)
    assert later.step == 700


def test_a_snapshot_that_ends_where_the_next_begins_is_kept(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room()
    _, snapshot, _ = learn(room, demonstrations, steps=330)
    _, again, _ = learn(room, demonstrations, steps=330, since=snapshot)
    assert again.step == snapshot.step
    assert torch.equal(again.square, snapshot.square)


def made(sizes: tuple[int, ...]) -> tuple[list[nn.Parameter], torch.optim.Adam]:
    parameters = [nn.Parameter(torch.arange(1.0, size + 1)) for size in sizes]
    return parameters, torch.optim.Adam(parameters, lr=0.1)


@pytest.fixture
def stood() -> Snapshot:
    """After two steps whose gradients are 1 and then 3, of two parameters of two and one numbers."""
    parameters, optimizer = made((2, 1))
    for gradient in (1.0, 3.0):
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    return Snapshot.of(2, parameters, optimizer)


def test_what_is_kept_by_hand(stood: Snapshot) -> None:
    # .1 x 1 = .1, and .9 x .1 + .1 x 3 = .39; .001 x 1, and .999 x .001 + .001 x 9 = .009999.
    torch.testing.assert_close(stood.mean, torch.full((3,), 0.39))
    torch.testing.assert_close(stood.square, torch.full((3,), 0.009999))
    # The first step is one learning rate, 1 -> .9; parameters lie one after the other.
    assert stood.parameters.shape == (3,)
    assert stood.parameters[0] == stood.parameters[2] < 0.9


def test_it_is_restored_into_another_optimizer(stood: Snapshot) -> None:
    parameters, optimizer = made((2, 1))
    stood.restore(parameters, optimizer)
    again = Snapshot.of(2, parameters, optimizer)
    for name in ("parameters", "mean", "square"):
        assert torch.equal(getattr(again, name), getattr(stood, name))
    # What the optimizer then does with its state leaves what was kept as it is.
    before = stood.mean.clone()
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(stood.mean, before)
    assert {float(state["step"]) for state in optimizer.state.values()} == {3.0}


def test_another_number_of_parameters_cannot_go_on(stood: Snapshot) -> None:
    with pytest.raises(ValueError, match="4 parameters cannot go on from 3"):
        stood.restore(*made((2, 2)))


def test_tensors_come_back(stood: Snapshot) -> None:
    again = Snapshot.from_tensors(stood.tensors())
    assert again.step == 2
    for name in ("parameters", "mean", "square"):
        assert torch.equal(getattr(again, name), getattr(stood, name))


@pytest.mark.parametrize(
    "change",
    [
        {"mean": torch.zeros(2)},
        {"square": torch.zeros(4)},
        {"parameters": torch.zeros(3, 1)},
        {name: torch.zeros(3, 1) for name in ("parameters", "mean", "square")},
        {"step": torch.tensor(0)},
    ],
)
def test_damaged_tensors_are_refused(stood: Snapshot, change: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="its snapshot is damaged"):
        Snapshot.from_tensors(stood.tensors() | change)


@pytest.mark.parametrize("name", ["step", "parameters", "mean", "square"])
def test_missing_tensors_are_refused(stood: Snapshot, name: str) -> None:
    tensors = stood.tensors()
    del tensors[name]
    with pytest.raises(KeyError, match=name):
        Snapshot.from_tensors(tensors)
