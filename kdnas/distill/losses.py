"""The terms of the distillation loss, as pure functions. B batch, N actions."""

from torch import Tensor

from kdnas.policies.categorical import mask_logits


def kl_with_temperature(student: Tensor, teacher: Tensor, mask: Tensor | None, temperature: float) -> Tensor:
    """tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)), mean over the batch.

    student, teacher: logits (B, N); mask (B, N) legal actions or None, applied to both. Hinton et al. 2015
    (arXiv 1503.02531); tau^2 keeps the size of the gradient when the temperature changes.
    """
    log_teacher = (mask_logits(teacher, mask) / temperature).log_softmax(-1)
    log_student = (mask_logits(student, mask) / temperature).log_softmax(-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1).mean()
