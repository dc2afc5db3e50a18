"""`InputRanges`: a quantized network whose inputs are in units of ranges of their own before they become integers.

A scale of its own lets a feature be as large in integers as it matters, which weights of few bits cannot say: they are
worth .015 of the return to 24x24 students of simple_spread at 4 bits.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdnas.students.quantizers import STATISTICS_BATCHES


class InputRanges(nn.Module):
    """Ranges are learned, as logarithms; they start at what the first batches in training mode show.

    `places` says of each input which range is its own, where some share one; without it there is one for each.
    """

    places: Tensor

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__()
        ranges = max(places) + 1
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.input_ranges = nn.Parameter(torch.zeros(ranges))
        """Of each feature, (R,): log2 of the magnitude of the integer farthest from 0."""
        self.unseen = STATISTICS_BATCHES
        """Batches that the ranges of inputs are still to be taken from."""
        self._largest = torch.zeros(ranges)

    def input_factors(self) -> Tensor:
        """What each input is multiplied by, (O,), so that its range becomes 1."""
        factors = (-self.input_ranges).exp2()[self.places]
        if torch.onnx.is_in_onnx_export():
            return torch.tensor(factors.tolist())  # the graph holds these numbers, and not how they are computed
        return factors

    @torch.no_grad()
    def widen(self, inputs: Tensor) -> Tensor:
        """Widen the ranges to one more batch of inputs (rows, O).

        The answer, (R,), is what the weights that read inputs of these ranges are to be multiplied by, so that the
        function stays the same.
        """
        self.unseen -= 1
        self._largest = self._largest.to(inputs.device).scatter_reduce(0, self.places, inputs.abs().amax(0), "amax")
        most = self._largest.max()
        # A feature that is always 0 so far says nothing of its range.
        ranges = torch.where(self._largest > 0, self._largest, most if most > 0 else 1.0).log2()
        factors = (ranges - self.input_ranges).exp2()
        self.input_ranges.copy_(ranges)
        return factors

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self.unseen = 0
