"""The terms of the distillation loss, as pure functions. B batch, N outputs of a student, P parameters of a teacher."""

from torch import Tensor

from kdnas.policies.actions import ActionSpace, Box
from kdnas.policies.distribution import LOG_STD_RANGE, factors
from kdnas.policies.masks import mask_logits


def divergence(
    actions: ActionSpace, student: Tensor, teacher: Tensor, mask: Tensor | None, temperature: float
) -> Tensor:
    """tau^2 KL of teacher and student, (B,)."""
    if isinstance(actions, Box):
        mean, log_std = teacher.chunk(2, -1)
        return ((student - mean) * (-log_std.clamp(*LOG_STD_RANGE)).exp()).square().sum(-1) / 2
    rows = student.new_zeros(len(student))
    student, teacher = mask_logits(student, mask), mask_logits(teacher, mask)
    for own, his in zip(factors(actions, student), factors(actions, teacher), strict=True):
        log_teacher, log_student = (his / temperature).log_softmax(-1), (own / temperature).log_softmax(-1)
        rows = rows + temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    return rows
