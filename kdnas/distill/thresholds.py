"""What follows a student's progress: which rows still teach it, and when it has stopped learning. B batch."""

import torch
from torch import Tensor


class AgreementThreshold:
    """Rows on which a student agrees with its teacher well enough, by its own standard so far, teach nothing.

    The threshold is the `quantile` of the rows' divergence in the first batch, and then follows that of each batch by
    an exponential moving average: it falls as the student learns, and so asks for more and more. Each training has its
    own.

    Args:
        quantile: share of rows to leave out, in (0, 1). The threshold lags, so while a student improves quickly more
            rows than this lie below it.
        momentum: of the average, in [0, 1).
    """

    def __init__(self, quantile: float, momentum: float) -> None:
        self.quantile, self.momentum = quantile, momentum
        self.threshold: Tensor | None = None
        """(), or None before the first batch."""

    @torch.no_grad()
    def weights(self, divergence: Tensor, advantages: Tensor | None = None) -> Tensor:
        """Take in a batch, and weigh its rows: (B,), mean 1.

        A row whose divergence is below the threshold weighs 0. The others weigh alike, or, with advantages, as
        1 + |A| / mean |A| over them: what is decided there matters, for better or worse. A batch that is wholly below
        is kept whole, as the threshold lags and nothing would be learned until it arrives.

        Args:
            divergence: of each row, (B,).
            advantages: of each row, (B,), in any unit.
        """
        here = torch.quantile(divergence, self.quantile)
        if self.threshold is None:
            self.threshold = here
        else:
            before = self.threshold.to(here.device)  # a student moves to where it plays, and is tuned there
            self.threshold = before + (1 - self.momentum) * (here - before)
        kept = divergence >= self.threshold
        weights = (kept if kept.any() else torch.ones_like(kept)).to(divergence.dtype)
        if advantages is not None:
            size = advantages.abs()
            weights = weights * (1 + size / ((size * weights).sum() / weights.sum()).clamp_min(1e-8))
        return weights / weights.mean()


class Plateau:
    """Says when a held-out divergence no longer falls.

    A check is progress if the divergence lies at least the share `tolerance` below that of the last check that was
    progress: small steps add up, and noise does not. The first one always is.

    Args:
        patience: checks in a row without progress until it says stop; 0 never does.
        tolerance: relative.
    """

    def __init__(self, patience: int, tolerance: float) -> None:
        self.patience, self.tolerance = patience, tolerance
        self.best: float | None = None
        """Divergence of the last check that was progress."""
        self.waited = 0
        """Checks since then."""

    def should_stop(self, divergence: float) -> bool:
        """Take in a check; whether it is time to stop."""
        # `<` as well: nothing is left to learn at 0, though 0 <= 0 x (1 - tolerance).
        if self.best is None or (divergence < self.best and divergence <= self.best * (1 - self.tolerance)):
            self.best, self.waited = divergence, 0
        else:
            self.waited += 1
        return 0 < self.patience <= self.waited
