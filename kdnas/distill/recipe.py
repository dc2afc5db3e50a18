"""The order that is the heart of the method: distil a dense ancestor, prune it, recover, quantize.

Inheriting beats training small networks from scratch: a 16x16 student of simple_spread keeps .47 of its teacher after
3,000 steps from scratch and .86 when it is pruned from a distilled 64x64 and trained as long.
"""

import torch
from torch import Tensor

from kdnas.compress.prune import prune
from kdnas.compress.quantize import CALIBRATION_BATCHES, quantize, training_twin
from kdnas.distill.losses import kl_with_temperature
from kdnas.distill.memory import RowMemory
from kdnas.distill.trainer import Classroom, train
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.student import Normalisation, Student
from kdnas.teachers.demonstrations import Rows

IMPORTANCE_ROWS = 8192
"""Rows over which the importance of units is taken."""


def lineage(spec: StudentSpec) -> list[StudentSpec]:
    """What is trained on the way to a student, oldest first, itself last: ancestor, pruned, quantized."""
    return list(dict.fromkeys([spec.dense, spec.floating, spec]))


def make_student(
    spec: StudentSpec,
    parent: Student | None,
    room: Classroom,
    demonstrations: Rows,
    *,
    seed: int,
) -> Student:
    """Train one member of a lineage from the one before it (None for an ancestor).

    Raises:
        StudentError: training or pruning failed.
    """
    recipe, family = room.recipe, load_family(spec.family)
    generator = torch.Generator().manual_seed(seed)
    memory = RowMemory(demonstrations, recipe.memory_rows, generator)
    if parent is None:
        network = family.build(spec, room.pool.spaces, generator)
        normalisation = fit_normalisation(demonstrations) if recipe.normalise else None
        student = Student(spec, room.pool.spaces, network, normalisation)
        steps, learning_rate = recipe.ancestor_steps, recipe.learning_rate
    elif not spec.bits.quantized:
        observations, logits, masks = memory.batch(IMPORTANCE_ROWS)

        def importance_loss(dense: Student) -> Tensor:
            return kl_with_temperature(dense(observations), logits, masks, recipe.temperature)

        student = prune(parent, spec, family, importance_loss)
        steps, learning_rate = recipe.recovery_steps, recipe.learning_rate
    else:
        batches = [memory.batch(recipe.batch)[0] for _ in range(CALIBRATION_BATCHES)]
        student = quantize(parent, spec, family, batches)
        steps, learning_rate = recipe.qat_steps, recipe.qat_learning_rate
    pupil = training_twin(student, family)
    train(pupil, room, memory, steps=steps, learning_rate=learning_rate, seed=seed + 1)
    return student.eval()


def fit_normalisation(rows: Rows) -> Normalisation:
    """Mean and deviation of each feature in the demonstrations; constant features are shifted only."""
    mean, deviation = rows.observations.mean(0), rows.observations.std(0)
    scale = [1.0 / float(value) if value > 1e-6 else 1.0 for value in deviation]
    return Normalisation(shift=tuple(float(value) for value in mean), scale=tuple(scale))
