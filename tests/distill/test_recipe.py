import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from kdnas.compress import quantize
from kdnas.distill import Classroom, LessonMemory, Lessons, Stage, divergence, last_stage, lineage, make_student
from kdnas.distill.recipe import fit_normalisation
from kdnas.distill.trainer import play_on_policy
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.students import QuantMlp, Student

from .conftest import MakeRoom, demonstrate


def spec(bits: str, *hidden: int) -> StudentSpec:
    return StudentSpec(family="mlp", base=(16,) * len(hidden), hidden=hidden, bits=parse_bits(bits))


@torch.no_grad()
def distance(student: Student, lessons: Lessons) -> float:
    outputs = student(lessons.views)
    return float(divergence(student.spaces.actions, outputs, lessons.parameters, lessons.masks, 1.0).mean())


def made(own: StudentSpec, parent: Student | None, room: Classroom, lessons: Lessons, *, seed: int) -> Student:
    """Trained to the end, at once."""
    return make_student(last_stage(own, room.recipe), parent, room, lessons, seed=seed)[0]


def test_a_child_inherits(make_room: MakeRoom, demonstrations: Lessons) -> None:
    """With no step of its own a pruned student is its ancestor without some units, and a quantized one its rounding."""
    room = make_room(recovery_steps=0, qat_steps=0, on_policy_rounds=0)
    ancestor = made(spec("float", 16), None, room, demonstrations, seed=1)
    pruned = made(spec("float", 8), ancestor, room, demonstrations, seed=2)
    units = {tuple(row) for row in ancestor.network.linears[0].weight.tolist()}
    assert {tuple(row) for row in pruned.network.linears[0].weight.tolist()} <= units
    assert pruned.spec == spec("float", 8)
    quantized = made(spec("w8a8i8", 8), pruned, room, demonstrations, seed=3)
    assert isinstance(quantized.network, QuantMlp)
    assert torch.equal(quantized.network.linears[1].weight, pruned.network.linears[1].weight)
    ranges = quantized.network.input_ranges.exp2()  # the inputs are smaller by these, and their weights larger
    assert torch.allclose(quantized.network.linears[0].weight, pruned.network.linears[0].weight * ranges)
    assert abs(distance(quantized, demonstrations) - distance(pruned, demonstrations)) < 0.05


def test_quantized_students_learn_and_stay_brevitas_networks(make_room: MakeRoom, demonstrations: Lessons) -> None:
    ancestor = made(spec("float", 16), None, make_room(), demonstrations, seed=1)
    rounded, trained = (
        made(spec("w2a8i8", 16), ancestor, make_room(qat_steps=steps), demonstrations, seed=2)
        for steps in (0, 400)
    )
    assert type(trained.network) is type(rounded.network) is QuantMlp
    assert not trained.training
    assert distance(trained, demonstrations) < 0.8 * distance(rounded, demonstrations)


def test_inheriting_beats_starting_from_scratch(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room(recovery_steps=20)
    ancestor = made(spec("float", 16), None, room, demonstrations, seed=1)
    pruned = made(spec("float", 8), ancestor, room, demonstrations, seed=2)
    alone = StudentSpec(family="mlp", base=(8,), hidden=(8,))
    scratch = made(alone, None, make_room(ancestor_steps=20), demonstrations, seed=1)
    assert distance(pruned, demonstrations) < distance(scratch, demonstrations) / 2


def test_every_phase_ends_in_evaluation_mode_with_its_own_spec(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room, parent = make_room(), None
    since = None
    for stage in lineage(last_stage(spec("w4a8i8", 8), room.recipe)):
        goes_on = parent is not None and parent.spec == stage.spec
        began = since if goes_on else None
        parent, training = make_student(stage, parent, room, demonstrations, seed=1, since=began)
        since = training.snapshot
        assert not parent.training
        assert parent.spec == stage.spec
        assert distance(parent, demonstrations) < 0.5  # of an untrained one it is above 1


def test_the_same_seed_gives_the_same_student(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room(ancestor_steps=10)
    one, two, other = (made(spec("float", 16), None, room, demonstrations, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.network.linears[1].weight, two.network.linears[1].weight)
    assert not torch.equal(one.network.linears[1].weight, other.network.linears[1].weight)


def test_normalisation_by_hand() -> None:
    seen = torch.tensor([[1.0, 5.0, -2.0], [3.0, 5.0, 2.0]])
    normalisation = fit_normalisation(seen)
    # Means 2, 5, 0; deviations 1, 0, 2: a feature that never changes is shifted only.
    assert normalisation.shift == (2.0, 5.0, 0.0)
    assert normalisation.scale == (1.0, 1.0, 0.5)


def test_normalisation_is_the_ancestors_and_is_inherited(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room(normalise=True, ancestor_steps=5, recovery_steps=5, on_policy_rounds=0)
    ancestor = made(spec("float", 16), None, room, demonstrations, seed=1)
    assert ancestor.normalisation == fit_normalisation(demonstrations.views)
    pruned = made(spec("float", 8), ancestor, room, demonstrations, seed=2)
    assert pruned.normalisation == ancestor.normalisation
    plain = made(spec("float", 16), None, make_room(ancestor_steps=1), demonstrations, seed=1)
    assert plain.normalisation is None


def test_no_student_learns_from_an_episode_that_it_is_scored_on(make_room: MakeRoom, demonstrations: Lessons) -> None:
    """On-policy seeds are of the demonstrations' kind, whose two lowest bits are 3."""
    room = make_room(ancestor_steps=2)
    student = made(spec("float", 16), None, room, demonstrations, seed=1)
    seeds: list[int] = []
    reset = room.env.reset
    room.env.reset = lambda given: (seeds.extend(given), reset(given))[1]
    memory = LessonMemory(demonstrations, 1000, torch.Generator().manual_seed(0))
    play_on_policy(student, room, memory, torch.Generator().manual_seed(4))
    assert len(seeds) == 16
    assert {seed % 4 for seed in seeds} == {3}


def test_quantized_students_learn_roles_too(make_room: MakeRoom, demonstrations: Lessons) -> None:
    room = make_room(loss={"role": 0.1, "role_size": 2}, recovery_steps=5, on_policy_rounds=0, qat_steps=5)
    lessons = room.lessons(demonstrate(room.env, room.teacher))
    ancestor = made(spec("float", 16), None, room, lessons, seed=1)
    assert type(made(spec("w4a8i8", 16), ancestor, room, lessons, seed=2).network) is QuantMlp


def test_recurrent_students_are_calibrated_on_stretches(
    make_room: MakeRoom, demonstrations: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = make_room(ancestor_steps=2, qat_steps=2, on_policy_rounds=0, sequence_steps=4, burn_in_steps=1)
    own = StudentSpec(family="gru", base=(4,), hidden=(4,), bits=parse_bits("w8a8i8"))
    shapes: list[tuple[int, ...]] = []

    def note(student, spec, family, batches):
        shapes.extend(tuple(batch.shape) for batch in batches)
        return quantize(student, spec, family, batches)

    monkeypatch.setattr("kdnas.distill.recipe.quantize", note)
    made(own, made(own.dense, None, room, demonstrations, seed=1), room, demonstrations, seed=2)
    assert set(shapes) == {(32, 4, 3)}  # 128 rows in stretches of four steps


def test_a_rung_goes_on_from_the_one_below(make_room: MakeRoom, demonstrations: Lessons) -> None:
    """Half of 100 steps end at 50, and cool down from 35 on; the rest is 65 steps more."""
    room, own = make_room(rungs=(0.5, 1.0)), spec("float", 8)
    low, high = (Stage(spec=own, rung=rung) for rung in (0, 1))
    ancestor, _ = make_student(Stage(spec=own.dense), None, room, demonstrations, seed=1)
    first, took = make_student(low, ancestor, room, demonstrations, seed=2)
    assert took.steps == 50
    assert took.snapshot is not None
    assert took.snapshot.step == 35
    before = distance(first, demonstrations)
    steps: list[int] = []
    hook = register_optimizer_step_pre_hook(lambda *_: steps.append(1))
    try:
        second, took = make_student(high, first, room, demonstrations, seed=3, since=took.snapshot)
    finally:
        hook.remove()
    assert (took.steps, len(steps)) == (100, 65)
    assert distance(second, demonstrations) < before


def test_polish_comes_after_the_last_rung_alone(
    make_room: MakeRoom, demonstrations: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("kdnas.distill.recipe.polish", lambda pupil, room, seed: asked.append(str(pupil.spec)))
    room = make_room(ancestor_steps=2, recovery_steps=4, qat_steps=4, polish={"rounds": 1}, on_policy_rounds=0)
    parent = None
    for stage in lineage(last_stage(spec("w4a8i8", 8), room.recipe)):
        parent, _ = make_student(stage, parent, room, demonstrations, seed=1)
    assert asked == ["mlp 8 float", "mlp 8 w4a8i8"]
