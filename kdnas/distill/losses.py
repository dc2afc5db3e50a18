"""The terms of the distillation loss, as pure functions.

B batch, N outputs of a student, P parameters of a teacher, R width of a role. Terms are per row, (B,), so that rows can
be weighted; `relation` compares whole batches and is a scalar. Rows without one legal action cost nothing but in
`cross_entropy`, where they cost a constant: no gradient comes of them anywhere.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init  # leaves the global generator alone

from kdnas.policies.actions import ActionSpace, Box
from kdnas.policies.distribution import LOG_STD_RANGE, factors, log_prob, log_probabilities, mode
from kdnas.policies.masks import mask_logits


def divergence(
    actions: ActionSpace, student: Tensor, teacher: Tensor, mask: Tensor | None, temperature: float
) -> Tensor:
    """How far the student's action distribution is from the teacher's: (B,).

    Discrete, and summed over the factors of MultiDiscrete: tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)). Hinton
    et al. 2015 (arXiv 1503.02531); tau^2 keeps the size of the gradient when the temperature changes.

    Box: KL(N(mu_T, sigma_T^2) || N(mu_S, sigma_T^2)) = sum_d (mu_S - mu_T)^2 / (2 sigma_T^2), with the deviation of the
    teacher on both sides, because a student says only means. A temperature would make both variances tau^2 sigma_T^2,
    which divides this by tau^2, and the factor tau^2 restores it: it cancels, and is not read. Clipping and squashing
    to the bounds come after: squashing is one bijection on both sides and leaves a KL as it is.

    student (B, N); teacher (B, P); mask (B, N) legal actions or None, applied to both; a Box has none.
    """
    if isinstance(actions, Box):
        mean, log_std = teacher.chunk(2, -1)
        return (0.5 * ((student - mean) * (-log_std.clamp(*LOG_STD_RANGE)).exp()).square()).sum(-1)
    said = [factors(actions, _sharpen(mask_logits(logits, mask), temperature)) for logits in (teacher, student)]
    parts = [_Divergence.apply(own, his) for his, own in zip(*said, strict=True)]  # type: ignore[no-untyped-call]
    total: Tensor = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
    return total if temperature == 1 else temperature**2 * total


def cross_entropy(actions: ActionSpace, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """-log pi_S(argmax pi_T), summed over factors: (B,).

    student, teacher: (B, N) of Discrete or MultiDiscrete actions; mask (B, N) or None, applied to both. A Box is
    refused by `check_terms`: there it would be the `divergence` and a constant.
    """
    assert not isinstance(actions, Box)
    return -log_prob(actions, mask_logits(student, mask), mode(actions, mask_logits(teacher, mask)))


def q_error(
    actions: ActionSpace, student: Tensor, teacher: Tensor, mask: Tensor | None, q_temperature: float
) -> Tensor:
    """mean over legal actions of (q_temperature z_S - Q_T)^2: (B,).

    The student's outputs are read as the teacher's parameters are, Q / q_temperature. student, teacher: (B, N) of
    Discrete or MultiDiscrete actions; mask (B, N) or None. A teacher without values is refused by `check_terms`.
    """
    assert not isinstance(actions, Box)
    squared = (q_temperature * (student - teacher)).square()
    if mask is None:
        return squared.mean(-1)
    return torch.where(mask, squared, 0.0).sum(-1) / mask.sum(-1).clamp_min(1)


def own_policy(actions: ActionSpace, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """Parameters (..., P) of the policy that a student's outputs (..., N) stand for: masked logits, or means with the
    deviations that its teacher's parameters (..., P) hold."""
    if isinstance(actions, Box):
        return torch.cat([student, teacher[..., actions.outputs :]], -1)
    return mask_logits(student, mask)


def representation(actions: ActionSpace, outputs: Tensor, mask: Tensor | None) -> Tensor:
    """What `relation` compares: (B, N) of a student's outputs (B, N) or a teacher's parameters (B, P).

    Means of a Box; else logits less their mean over the legal actions of their factor, which softmax does not see, and
    0 for illegal ones, which nobody trains.
    """
    if isinstance(actions, Box):
        return outputs[..., : actions.outputs]
    legal = torch.ones_like(outputs, dtype=torch.bool) if mask is None else mask
    centred = []
    for logits, allowed in zip(factors(actions, outputs), factors(actions, legal), strict=True):
        kept = torch.where(allowed, logits, 0.0)
        mean = kept.sum(-1, keepdim=True) / allowed.sum(-1, keepdim=True).clamp_min(1)
        centred.append(torch.where(allowed, logits - mean, 0.0))
    return torch.cat(centred, -1)


def similarity(left: Tensor, right: Tensor) -> Tensor:
    """Linear CKA of two representations (B, N), (B, M) of the same B rows: a scalar in [0, 1], whatever their widths.

    ||Y' X||_F^2 / (||X' X||_F ||Y' Y||_F), X and Y centred over the batch (Kornblith et al. 2019, arXiv 1905.00414,
    section 3). It does not change when either is rotated or multiplied by a number. A representation that is constant
    over the batch is similar to nothing: 0, without gradient. Few rows make everything similar: B should be many N.
    """
    x, y = _unit(left), _unit(right)
    power = (x.T @ x).square().sum() * (y.T @ y).square().sum()
    return (y.T @ x).square().sum() / power.clamp_min(1e-12).sqrt()


def relation(student: Tensor, teacher: Tensor, others: Sequence[Tensor]) -> Tensor:
    """mean_j (R_j^S - R_j^T)^2: whether the student relates to its team mates as its teacher does; a scalar.

    R_j = `similarity`(g, g_j), where g is what the student, or its teacher, says, and g_j what the teacher of agent j
    says in the same states. Structural relations between agents are distilled after Tseng et al. 2022 (Offline
    multi-agent reinforcement learning with knowledge distillation, NeurIPS), there of features of equal width. The
    g_j are the teachers' for the student as well, so that a student is no other student's, and fits into any team.

    student, teacher: (B, N); others: at least one (B, N_j); all of them by `representation`.
    """
    gaps = [(similarity(student, other) - similarity(teacher, other)).square() for other in others]
    return torch.stack(gaps).mean()


def role_alignment(projected: Tensor, roles: Tensor) -> Tensor:
    """1 - cos(P h_S, role_T): (B,), from 0 to 2.

    projected: a `Projector`'s (B, R); roles: `kdnas.teachers.roles.Roles`' (B, R). Lengths below 0.001 count as 0.001:
    a row of zeros costs 1, and its gradient stays small.
    """
    return 1 - torch.cosine_similarity(projected, roles, dim=-1, eps=1e-3)


class Projector(nn.Module):
    """P of `role_alignment`: a student's last hidden layer (B, H) -> (B, R). Trained with it, and never deployed."""

    def __init__(self, hidden_width: int, role_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = skip_init(nn.Linear, hidden_width, role_size)  # type: ignore[no-untyped-call]
        nn.init.orthogonal_(self.linear.weight, generator=generator)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        projected: Tensor = self.linear(hidden)
        return projected


def weighted_mean(rows: Tensor, weights: Tensor | None) -> Tensor:
    """mean_b w_b l_b of rows and weights (B,); without weights the plain mean.

    It is divided by B and not by the sum of the weights: a batch that weighs nothing teaches nothing.
    """
    return rows.mean() if weights is None else (weights * rows).mean()


def _sharpen(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature


class _Divergence(torch.autograd.Function):
    """KL(softmax(z_T) || softmax(z_S)) of logits (B, N), with d/dz_S = softmax(z_S) - softmax(z_T) written down.

    The operations of so small a loss take longer to be called than to be computed, forwards and backwards.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        log_teacher, log_student = log_probabilities(teacher), log_probabilities(student)
        taught = log_teacher.exp()
        ctx.save_for_backward(taught, log_student)
        return (taught * (log_teacher - log_student)).sum(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        taught, log_student = ctx.saved_tensors
        return log_student.exp().sub_(taught).mul_(gradient.unsqueeze(-1)), None


def _unit(rows: Tensor) -> Tensor:
    """Rows (B, N) centred over the batch and of Frobenius norm 1, or zeros if they are constant but for rounding.

    The norm is detached: CKA ignores scale, so its gradient is the same, and constants have none.
    """
    centred = rows - rows.mean(0)
    norm = centred.detach().norm()
    return torch.where(norm > 1e-6 * rows.detach().norm(), centred / norm.clamp_min(1e-30), 0.0)
