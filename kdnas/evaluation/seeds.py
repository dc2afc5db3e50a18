"""Episode seeds: three disjoint sets that derive from the study's seed."""

from dataclasses import dataclass

import numpy as np

_SETS = {"search": 0, "validation": 1, "final": 2, "demonstrations": 3}


@dataclass(frozen=True)
class SeedSets:
    """Episode seeds of a study.

    `search` scores every candidate, `validation` chooses between versions of one student, `final` makes the figures
    that are printed. Nothing is ever chosen on `final`. Sets are disjoint by construction: the two lowest bits of a
    seed name its set.
    """

    study_seed: int

    def search(self, count: int) -> list[int]:
        return self._draw("search", count)

    def validation(self, count: int) -> list[int]:
        return self._draw("validation", count)

    def final(self, count: int) -> list[int]:
        return self._draw("final", count)

    def demonstrations(self, count: int) -> list[int]:
        """Seeds of recorded teacher episodes and of on-policy training data."""
        return self._draw("demonstrations", count)

    def _draw(self, name: str, count: int) -> list[int]:
        kind = _SETS[name]
        # 29 random bits above 2 bits of kind: positive in int32, as some environments want their seeds.
        drawn = np.random.SeedSequence([self.study_seed, kind]).generate_state(count) >> 3
        return [int(value) * 4 + kind for value in drawn]
