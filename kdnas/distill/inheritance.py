"""From whom a float student inherits: its dense ancestor, or a relative that is nearer to it and starts better."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from kdnas.compress.prune import prune
from kdnas.config.study import DistillTable
from kdnas.distill.classroom import Classroom
from kdnas.distill.lessons import Lessons, split_tracks
from kdnas.distill.losses import divergence
from kdnas.distill.memory import LessonMemory
from kdnas.distill.pool import Pool
from kdnas.distill.stage import Stage, last_stage
from kdnas.distill.teaching import Teaching, answer
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.student import Student

IMPORTANCE_ROWS = 8192
"""Rows over which the importance of units is taken."""

HELD_OUT = 0.05
"""Share of the demonstrated tracks by which students are compared, or a training is ended."""

RELATIVES = 2
"""Relatives that are tried beside the ancestor."""


def inherit(parent: Student, spec: StudentSpec, memory: LessonMemory, recipe: DistillTable) -> Student:
    """A copy of a wider float student, pruned to a spec: what matters least to its divergence from the teacher goes.

    Raises:
        StudentError: pruning failed.
    """

    def importance_loss(wider: Student) -> Tensor:
        outputs, lessons, _ = answer(wider, memory, IMPORTANCE_ROWS, recipe)
        return divergence(wider.spaces.actions, outputs, lessons.parameters, lessons.masks, 1.0).mean()

    return prune(parent, spec, load_family(spec.family), importance_loss)


def nearest_relatives(spec: StudentSpec, stages: Iterable[Stage], pool: Pool, recipe: DistillTable) -> list[Stage]:
    """Those of some stages, at most `RELATIVES`, that a spec may inherit from besides its ancestor, the smallest first.

    They are pruned float students of the same base, of which no layer is narrower, each at its highest rung; one that
    has only begun is none.

    Example: for 12x12 of 64x64, 16x12 and 16x16 come before 24x24; 24x8 is too narrow.
    """
    highest: dict[StudentSpec, Stage] = {}
    for stage in stages:
        other = stage.spec
        kind = (spec.family, spec.base, spec.inputs, spec.floating.bits)
        same = (other.family, other.base, other.inputs, other.bits) == kind
        wide = same and all(width >= own for width, own in zip(other.hidden, spec.hidden, strict=True))
        grown = stage.rung > 0 or stage == last_stage(other, recipe)
        if wide and grown and not stage.is_ancestor and other != spec.floating:
            highest[other] = max(highest.get(other, stage), stage, key=lambda one: one.rung)
    family, inputs = load_family(spec.family), pool.spaces.inputs

    def size(stage: Stage) -> tuple[int, tuple[int, ...]]:
        return sum(layer.macs for layer in family.layers(stage.spec, inputs)), stage.spec.hidden

    return sorted(highest.values(), key=size)[:RELATIVES]


def best_start(
    parents: Sequence[Student], spec: StudentSpec, room: Classroom, demonstrations: Lessons, *, seed: int
) -> int:
    """Which of some wider students a spec starts best from: pruned, and before any training, it is nearest to the
    teacher on demonstrated tracks of which none served to prune it. The first of equal ones.

    Raises:
        StudentError: pruning failed.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, held_out = split_tracks(demonstrations, HELD_OUT, generator)
    memory = LessonMemory(rows, 2 * IMPORTANCE_ROWS, generator)
    starts = [inherit(parent, spec, memory, room.recipe).eval() for parent in parents]
    far = [Teaching(room, start, generator).held_out(held_out) for start in starts]
    return far.index(min(far))
