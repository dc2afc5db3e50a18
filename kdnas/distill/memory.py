"""Training rows of one pool: demonstrations first, then the student's own on-policy states, the oldest overwritten."""

import torch
from torch import Tensor

from kdnas.teachers.demonstrations import Rows


class RowMemory:
    """A ring of at most `capacity` rows; the first `keep` demonstrations are never overwritten.

    DAgger (Ross et al. 2011, arXiv 1011.0686): train on the union of all data, each labelled by the teacher.
    """

    def __init__(self, demonstrations: Rows, capacity: int, generator: torch.Generator) -> None:
        count = len(demonstrations.observations)
        capacity = max(capacity, 2)  # one demonstration, one row of the student's own
        self.keep = min(count, capacity // 2)
        # A random half, at most, of what fits: demonstrations come in the order of their episodes.
        chosen = torch.randperm(count, generator=generator)[: self.keep].sort().values.numpy()
        observation_size, action_count = demonstrations.observations.shape[1], demonstrations.logits.shape[1]
        self._observations = torch.empty(capacity, observation_size)
        self._logits = torch.empty(capacity, action_count)
        masked = demonstrations.masks is not None
        self._masks = torch.ones(capacity, action_count, dtype=torch.bool) if masked else None
        self.size, self._next, self._generator = 0, 0, generator
        self._capacity = capacity
        self.add(
            Rows(
                observations=demonstrations.observations[chosen],
                logits=demonstrations.logits[chosen],
                masks=None if demonstrations.masks is None else demonstrations.masks[chosen],
            )
        )

    def add(self, rows: Rows) -> None:
        """Take in rows, in place of the oldest on-policy ones when there is no room."""
        room = self._capacity - self.keep
        count = min(len(rows.observations), room)  # of more than a ringful, the latest are kept
        if not count:
            return
        places = torch.arange(self._next, self._next + count)
        places = torch.where(places < self._capacity, places, self.keep + (places - self.keep) % room)
        self._observations[places] = torch.from_numpy(rows.observations[-count:])
        self._logits[places] = torch.from_numpy(rows.logits[-count:])
        if self._masks is not None and rows.masks is not None:
            self._masks[places] = torch.from_numpy(rows.masks[-count:])
        self.size = min(self._capacity, max(self.size, self._next + count))
        self._next = int(places[-1]) + 1

    def batch(self, count: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Random rows: observations (count, O), teacher logits (count, N), masks (count, N) or None."""
        picks = torch.randint(self.size, (count,), generator=self._generator)
        # index_select takes a third of the time of indexing by a tensor.
        masks = None if self._masks is None else self._masks.index_select(0, picks)
        return self._observations.index_select(0, picks), self._logits.index_select(0, picks), masks
