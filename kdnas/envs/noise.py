"""`Noise`: the random numbers of what students see, which belong to an episode and not to a batch."""

from collections.abc import Sequence

import numpy as np

from kdnas.policies.arrays import Floats

BLOCK_STEPS = 32
"""Steps that are drawn together: drawing them one by one would cost more than small environments do."""

BLOCK_NUMBERS = 1 << 24
"""Numbers that are drawn together at most, 64 MiB; fewer steps are, where the batch is large."""

_TAG = 0x6B646E61732E7669
"""Keeps the noise apart from the generators that environments make of the same seeds."""


class Noise:
    """Standard normal numbers for one group in B episodes.

    Every episode draws from a generator of its own, made of its seed and the group's name: its numbers do not depend
    on the batch that it is played in, nor on what other groups see.
    """

    def __init__(self, seeds: Sequence[int], group: str, shape: tuple[int, int]) -> None:
        name = int.from_bytes(group.encode(), "big")
        self._generators = [
            np.random.Generator(np.random.PCG64(np.random.SeedSequence([int(seed), _TAG, name]))) for seed in seeds
        ]
        self._shape = shape
        per_step = max(1, len(seeds) * shape[0] * shape[1])
        self._steps = max(1, min(BLOCK_STEPS, BLOCK_NUMBERS // per_step))
        self._block: Floats = np.zeros((len(seeds), 0, *shape), np.float32)
        self._next = 0

    def draw(self) -> Floats:
        """The next step's numbers (B, *shape)."""
        if self._next == self._block.shape[1]:
            self._block = np.zeros((len(self._generators), self._steps, *self._shape), np.float32)
            for generator, rows in zip(self._generators, self._block, strict=True):
                generator.standard_normal(dtype=np.float32, out=rows)
            self._next = 0
        self._next += 1
        return self._block[:, self._next - 1]
