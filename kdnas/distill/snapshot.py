"""`Snapshot`: where a training stood before it cooled down, so that a later rung goes on from there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Weights and Adam's moments at a step of a training whose learning rate had not fallen yet.

    From here a longer training has the schedule that it would have had at once, and a rung costs no more than its own
    cool-down (Haegele et al. 2024, arXiv 2405.18392).
    """

    step: int
    parameters: Tensor
    """(P,), those of the student and then those of the losses, one after the other."""
    mean: Tensor
    """(P,), Adam's average of the gradient."""
    square: Tensor
    """(P,), and of its square."""

    @classmethod
    def of(cls, step: int, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Adam) -> "Snapshot":
        """A copy of where a training stands."""
        states = [optimizer.state[parameter] for parameter in parameters]
        return cls(
            step=step,
            parameters=_joined([parameter.detach() for parameter in parameters]),
            mean=_joined([state["exp_avg"] for state in states]),
            square=_joined([state["exp_avg_sq"] for state in states]),
        )

    def restore(self, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Adam) -> None:
        """Bring a new training of the same parameters to where this one stood.

        Raises:
            ValueError: the parameters are not of the same number.
        """
        sizes = [parameter.numel() for parameter in parameters]
        if sum(sizes) != len(self.parameters):
            raise ValueError(f"{sum(sizes)} parameters cannot go on from {len(self.parameters)}")
        parts = [torch.split(tensor, sizes) for tensor in (self.parameters, self.mean, self.square)]
        with torch.no_grad():
            for parameter, value, mean, square in zip(parameters, *parts, strict=True):
                parameter.copy_(value.view_as(parameter))
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.step), device=parameter.device),
                    "exp_avg": mean.view_as(parameter).to(parameter.device, copy=True),
                    "exp_avg_sq": square.view_as(parameter).to(parameter.device, copy=True),
                }

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps of it."""
        step = torch.tensor(self.step)
        return {"step": step, "parameters": self.parameters, "mean": self.mean, "square": self.square}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Snapshot":
        """Read back what `tensors` gave.

        Raises:
            ValueError, KeyError: they are not of one training.
        """
        snapshot = cls(
            step=int(tensors["step"]),
            parameters=tensors["parameters"],
            mean=tensors["mean"],
            square=tensors["square"],
        )
        of_one = snapshot.parameters.shape == snapshot.mean.shape == snapshot.square.shape
        if not of_one or snapshot.parameters.ndim != 1 or snapshot.step < 1:
            raise ValueError("its snapshot is damaged")
        return snapshot


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1).cpu() for tensor in tensors])
