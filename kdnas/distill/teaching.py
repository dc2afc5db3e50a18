"""`Teaching`: what a student is corrected by at each step of its training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdnas.config.study import DistillTable
from kdnas.distill.lessons import Lessons
from kdnas.distill.losses import divergence
from kdnas.distill.memory import LessonMemory
from kdnas.students.student import Student


@dataclass(kw_only=True)
class Teaching:
    """Draws lessons from a memory and turns a student's answers to them into a loss."""

    recipe: DistillTable

    def loss(self, student: Student, memory: LessonMemory, rows: int) -> Tensor:
        """The loss (a scalar) of a student on about so many random rows; recurrent ones get stretches of tracks."""
        outputs, lessons, counted = answer(student, memory, rows, self.recipe)
        per_row = divergence(
            student.spaces.actions, outputs, lessons.parameters, lessons.masks, self.recipe.temperature
        )
        if counted is None:
            return per_row.mean()
        return (per_row * counted).sum() / counted.sum().clamp_min(1)


def answer(
    student: Student, memory: LessonMemory, rows: int, recipe: DistillTable
) -> tuple[Tensor, Lessons, Tensor | None]:
    """Outputs (R, N) of a student, the lessons (R) that it was asked, and which of them count, None being all."""
    if not student.hidden_size:
        lessons = memory.batch(rows)
        return student(lessons.views), lessons, None
    length = recipe.sequence_steps
    windows = memory.windows(max(rows // length, 1), length, recipe.burn_in_steps)
    outputs = student(windows.lessons.views.reshape(-1, length, student.spaces.observation_size))
    return outputs.flatten(0, 1), windows.lessons, windows.counted.flatten().to(torch.float32)
