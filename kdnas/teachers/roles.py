"""Roles: what a teacher's last hidden layer holds, as a few numbers that students of any width can be aligned with.

R rows, H width of the teacher's last hidden representation, `size` width of a role.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdnas.errors import TeacherError
from kdnas.teachers.teacher import Teacher

NEGLIGIBLE = 1e-8
"""Share of the largest variance below which a direction is no role: scaled up, it would say little but rounding."""


@contextmanager
def listen(network: nn.Module) -> Iterator[list[Tensor]]:
    """While it is open, each forward pass of `network` appends the input (rows, H) of the last `nn.Linear` it calls.

    A pass that calls no such layer appends nothing. Groups may share a network: its passes come in their order.
    """
    heard: list[Tensor] = []
    latest: list[Tensor] = []

    def before_linear(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        latest[:] = [inputs[0]]

    def after_pass(_module: nn.Module, _inputs: object, _outputs: object) -> None:
        heard.extend(tensor.detach().reshape(len(tensor), -1) for tensor in latest)
        latest.clear()

    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    handles = [linear.register_forward_pre_hook(before_linear) for linear in linears]
    handles.append(network.register_forward_hook(after_pass))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def role_features(teacher: Teacher, group: str, *inputs: Tensor) -> Tensor:
    """The teacher's last hidden representation (rows, H): the input of the last `nn.Linear` that a pass calls.

    Args:
        teacher: the teacher.
        group: whose network.
        inputs: what that network takes, as `teacher.probe(group)` shows: (rows, O), or (rows, O + S) of a centralised
            one, and the hidden state (rows, hidden_size) of a recurrent one.

    Raises:
        TeacherError: the network calls no `nn.Linear`.
    """
    with listen(teacher.actors[group]) as heard:
        teacher.actors[group](*inputs)
    if not heard:
        raise TeacherError(
            f"the teacher of group {group!r} has no nn.Linear, so no hidden layer that roles can be taken from; "
            "set role = 0 in [distill.loss]"
        )
    return heard[-1]


def has_roles(teacher: Teacher, group: str) -> bool:
    """Whether `role_features` finds a hidden layer."""
    try:
        role_features(teacher, group, *teacher.probe(group))
    except TeacherError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Roles:
    """A projection of hidden representations on their principal components, each scaled to variance 1.

    Scaled, because the first components of a network with ReLU are its overall activity: unscaled, they would decide
    the cosine of `distill.losses.role_alignment` alone.
    """

    mean: Tensor
    """(H,)."""
    directions: Tensor
    """(H, size): components, divided by their deviations."""

    @classmethod
    def fit(cls, rows: Tensor, size: int) -> "Roles":
        """Principal components of rows (R, H), by the singular values of their covariance; the largest loading of each
        is positive, so that the same rows always give the same roles.

        Rows that vary in fewer than `size` directions give so many roles.

        Raises:
            TeacherError: all rows are equal.
        """
        exact = rows.detach().double()  # eigenvalues of a covariance are squares: float32 would lose half the digits
        mean = exact.mean(0)
        centred = exact - mean
        _, variances, components = torch.linalg.svd(centred.T @ centred / len(rows))
        power = exact.square().mean(0).sum()  # float32 rounds equal rows differently, by 1e-7 of their size
        real = (variances > NEGLIGIBLE * variances[0]) & (variances > 1e-14 * power)
        size = min(size, int(real.sum()))
        if size == 0:
            raise TeacherError(
                f"the teacher's last hidden layer says the same to all {len(rows)} demonstrated observations, so there "
                "are no roles; set role = 0 in [distill.loss]"
            )
        chosen = components[:size]
        largest = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
        directions = (chosen * largest.sign() / variances[:size].sqrt().unsqueeze(1)).T
        return cls(mean=mean.to(rows.dtype), directions=directions.to(rows.dtype).contiguous())

    @property
    def size(self) -> int:
        """Numbers of a role."""
        return self.directions.shape[1]

    def transform(self, rows: Tensor) -> Tensor:
        """Roles (R, size) of hidden representations (R, H)."""
        return (rows - self.mean) @ self.directions
