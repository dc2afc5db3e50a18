"""`Teaching`: what a student is corrected by at each step of its training."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kdnas.config.study import DistillTable
from kdnas.distill.classroom import Classroom, other_spaces
from kdnas.distill.lessons import Lessons
from kdnas.distill.losses import (
    Projector,
    cross_entropy,
    divergence,
    q_error,
    relation,
    representation,
    role_alignment,
    weighted_mean,
)
from kdnas.distill.memory import LessonMemory
from kdnas.distill.thresholds import AgreementThreshold
from kdnas.students.student import Student
from kdnas.teachers.advantages import advantage_weights


class Teaching:
    """One student's training: draws lessons, and turns the answers to them into a loss.

    A term of weight 0 is neither computed nor are its columns stored.
    """

    def __init__(self, room: Classroom, student: Student, generator: torch.Generator) -> None:
        recipe = room.recipe
        self._recipe, self._student = recipe, student
        self._actions = student.spaces.actions
        self._q_temperature = room.teacher.reading[room.pool.groups[0]].q_temperature
        self._other_outputs = [space.outputs for space in other_spaces(room.pool, room.env.spec)]
        self._threshold = None
        if recipe.adaptive.quantile:
            self._threshold = AgreementThreshold(recipe.adaptive.quantile, recipe.adaptive.momentum)
        self._projector = None
        if room.roles is not None:
            self._last = [module for module in student.network.modules() if isinstance(module, nn.Linear)][-1]
            self._projector = Projector(self._last.in_features, room.roles.size, generator)

    def to(self, device: torch.device) -> None:
        """Train on a device."""
        if self._projector is not None:
            self._projector.to(device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained beside the student, and not deployed."""
        if self._projector is not None:
            yield from self._projector.parameters()

    def loss(self, memory: LessonMemory, rows: int) -> Tensor:
        """The loss, a scalar, on about so many random rows; recurrent students get stretches of tracks."""
        with _Hearing(self._last if self._projector is not None else None) as hearing:
            outputs, lessons, counted = answer(self._student, memory, rows, self._recipe)
        return self._weigh(outputs, lessons, hearing.rows(counted))

    @torch.no_grad()
    def held_out(self, lessons: Lessons) -> float:
        """Mean divergence on rows that nothing is learned from; whole tracks for recurrent students."""
        student = self._student
        lessons = lessons.to(student.device)
        outputs = student(lessons.views) if not student.hidden_size else _by_track(student, lessons)
        return float(divergence(self._actions, outputs, lessons.parameters, lessons.masks, 1.0).mean())

    def _weigh(self, outputs: Tensor, lessons: Lessons, heard: Tensor | None) -> Tensor:
        table, taught = self._recipe.loss, lessons.parameters
        terms = []
        far = outputs.new_zeros(len(outputs))
        if table.kl or self._threshold is not None:
            far = divergence(self._actions, outputs, taught, lessons.masks, self._recipe.temperature)
        if table.kl:
            terms.append(far if table.kl == 1 else table.kl * far)
        if table.cross_entropy:
            terms.append(table.cross_entropy * cross_entropy(self._actions, outputs, taught, lessons.masks))
        if table.q and self._q_temperature is not None:
            terms.append(table.q * q_error(self._actions, outputs, taught, lessons.masks, self._q_temperature))
        if self._projector is not None and lessons.roles is not None and heard is not None:
            terms.append(table.role * role_alignment(self._projector(heard), lessons.roles))
        total = sum(terms[1:], start=terms[0]) if terms else torch.zeros_like(far)
        loss = weighted_mean(total, self._weights(far, lessons))
        if table.relation and lessons.others is not None:
            own, his = (representation(self._actions, said, lessons.masks) for said in (outputs, taught))
            loss = loss + table.relation * relation(own, his, torch.split(lessons.others, self._other_outputs, -1))
        return loss

    def _weights(self, far: Tensor, lessons: Lessons) -> Tensor | None:
        """What each row weighs, (R,), None being 1."""
        weights = None
        if lessons.advantages is not None:
            table = self._recipe.loss
            weights = advantage_weights(
                lessons.advantages, table.advantage_beta, table.advantage_low, table.advantage_high
            )
        if self._threshold is not None:
            chosen = self._threshold.weights(far.detach(), lessons.advantages)
            weights = chosen if weights is None else weights * chosen
        return weights


class _Hearing:
    """While it is open, what a layer is given, with its gradient: (rows, H) for each call."""

    def __init__(self, layer: nn.Module | None) -> None:
        self.heard: list[Tensor] = []
        self._layer = layer

    def __enter__(self) -> "_Hearing":
        if self._layer is not None:
            self._handle = self._layer.register_forward_pre_hook(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._layer is not None:
            self._handle.remove()

    def rows(self, places: Tensor | None) -> Tensor | None:
        """What the layer was given in some rows, None being all: (R, H); None where there is no layer."""
        if not self.heard:
            return None
        hidden = self.heard[0] if len(self.heard) == 1 else torch.stack(self.heard, 1).flatten(0, 1)
        return hidden if places is None else hidden.index_select(0, places)

    def _hear(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.heard.append(getattr(inputs[0], "value", inputs[0]))  # brevitas hands on a tensor with its scale


def answer(
    student: Student, memory: LessonMemory, rows: int, recipe: DistillTable
) -> tuple[Tensor, Lessons, Tensor | None]:
    """Outputs (R, N) of a student, the lessons (R) of the same rows, and which of those it was asked they are (R,),
    None being all: a recurrent student is asked some only to warm up."""
    views, lessons, counted = ask(student, memory, rows, recipe)
    outputs = student(views).flatten(0, -2)
    return outputs if counted is None else outputs.index_select(0, counted), lessons, counted


def ask(
    student: Student, memory: LessonMemory, rows: int, recipe: DistillTable
) -> tuple[Tensor, Lessons, Tensor | None]:
    """Random views as a student reads them, (R, V) or, for a recurrent one, stretches (C, L, V); then the lessons of
    those that count, and which they are, as `answer` says."""
    if not student.hidden_size:
        lessons = memory.batch(rows).to(student.device)
        return lessons.views, lessons, None
    length = recipe.sequence_steps
    windows = memory.windows(max(rows // length, 1), length, recipe.burn_in_steps)
    counted = windows.counted.flatten() if windows.counted.any() else torch.ones(len(windows.lessons))
    places = counted.nonzero().squeeze(1)
    views = windows.lessons.views.reshape(-1, length, student.spaces.observation_size).to(student.device)
    return views, windows.lessons.take(places).to(student.device), places.to(student.device)


def _by_track(student: Student, lessons: Lessons) -> Tensor:
    """Outputs (R, N), track by track from each one's beginning."""
    track = (lessons.position == 0).cumsum(0) - 1
    padded = lessons.views.new_zeros(int(track[-1]) + 1, int(lessons.position.max()) + 1, lessons.views.shape[-1])
    padded[track, lessons.position] = lessons.views
    outputs: Tensor = student(padded)[track, lessons.position]
    return outputs
