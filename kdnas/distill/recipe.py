"""The order that is the heart of the method: distil a dense ancestor, prune it, recover, quantize.

Inheriting beats training small networks from scratch: a 16x16 student of simple_spread keeps .47 of its teacher after
3,000 steps from scratch and .86 when it is pruned from a distilled 64x64 and trained as long.
"""

import torch
from torch import Tensor

from kdnas.compress.quantize import CALIBRATION_BATCHES, quantize, training_twin
from kdnas.distill.classroom import Classroom
from kdnas.distill.flips import MOST_BITS, flip_weights
from kdnas.distill.inheritance import HELD_OUT, inherit
from kdnas.distill.lessons import Lessons, split_tracks
from kdnas.distill.memory import LessonMemory
from kdnas.distill.polish import polish
from kdnas.distill.snapshot import Snapshot
from kdnas.distill.stage import Effort, Stage, last_stage
from kdnas.distill.teaching import Teaching, ask
from kdnas.distill.trainer import Training, train
from kdnas.students.fake_quant import FakeQuantMlp
from kdnas.students.family import load_family
from kdnas.students.student import Normalisation, Student


def make_student(
    stage: Stage,
    parent: Student | None,
    room: Classroom,
    demonstrations: Lessons,
    *,
    seed: int,
    since: Snapshot | None = None,
) -> tuple[Student, Training]:
    """Train one stage of a lineage from the one before it (None for an ancestor), or from a wider relative.

    A stage whose parent is the same student on the rung below goes on from the parent's `since`.

    Raises:
        StudentError: training or pruning failed.
    """
    spec, recipe = stage.spec, room.recipe
    family, effort = load_family(spec.family), Effort.of(stage, room.recipe)
    generator = torch.Generator().manual_seed(seed)
    held_out = None
    if recipe.adaptive.patience and not spec.bits.quantized:  # integers settle on a schedule of their own
        demonstrations, held_out = split_tracks(demonstrations, HELD_OUT, generator)
    memory = LessonMemory(demonstrations, recipe.memory_rows, generator)
    if parent is None:
        spaces = room.pool.spaces
        network = family.build(spec, spaces.inputs, generator)
        normalisation = fit_normalisation(demonstrations.views[:, list(spaces.kept)]) if recipe.normalise else None
        student = Student(spec, spaces, network, normalisation)
        learning_rate = recipe.learning_rate
    elif parent.spec == spec:
        student, learning_rate = parent, recipe.learning_rate
    elif not spec.bits.quantized:
        student = inherit(parent, spec, memory, recipe)
        learning_rate = recipe.learning_rate
    else:
        batches = [ask(parent, memory, recipe.batch, recipe)[0] for _ in range(CALIBRATION_BATCHES)]
        student = quantize(parent, spec, family, batches)
        learning_rate = recipe.qat_learning_rate
    # A twin computes without calling its layers, so that nobody could listen to the last one.
    pupil = student if room.roles is not None else training_twin(student, family)
    teaching = Teaching(room, pupil, generator)
    training = train(
        pupil,
        room,
        memory,
        teaching,
        steps=effort.steps,
        on_policy_rounds=effort.on_policy_rounds,
        learning_rate=learning_rate,
        seed=seed + 1,
        held_out=held_out,
        since=since,
    )
    narrow = isinstance(pupil.network, FakeQuantMlp) and spec.bits.narrowest_weight <= MOST_BITS
    if narrow and effort.steps and effort.flip_rounds:
        flip_weights(pupil, memory, teaching, rounds=effort.flip_rounds, batch=recipe.batch)
        student.check_finite()
    if recipe.polish.rounds and parent is not None and stage == last_stage(spec, recipe):
        polish(pupil, room, seed=seed + 2)
    return student.eval(), training


def fit_normalisation(features: Tensor) -> Normalisation:
    """Mean and deviation of each feature of demonstrations (R, features); constant ones are shifted only."""
    mean, deviation = features.mean(0), features.std(0, correction=0)
    scale = [1.0 / float(value) if value > 1e-6 else 1.0 for value in deviation]
    return Normalisation(shift=tuple(float(value) for value in mean), scale=tuple(scale))
