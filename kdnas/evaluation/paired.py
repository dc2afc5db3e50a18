"""Retention episode by episode: teams that played the same episodes are compared on their differences."""

import numpy as np
from numpy.typing import NDArray


def retention_parts(
    student: NDArray[np.float64], teacher: NDArray[np.float64], random: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each episode says of the retention (E,): the mean is the retention R, the spread its uncertainty.

    An episode moves the denominator of R too: with gap = teacher - random, its part is R + (student - random - R gap) /
    mean(gap), the linearised ratio of two means (Cochran, Sampling Techniques, 1977, chapter 6). The parts of two teams
    subtract to those of the difference of their retentions, free of what was hard for both.

    Example: teacher 0 and random -20 in two episodes, student -1 and -3. R is (-2 + 20) / 20 = 0.9, the parts are
    0.9 + (19 - 18) / 20 = 0.95 and 0.9 + (17 - 18) / 20 = 0.85.
    """
    gap = teacher - random
    own = student - random
    retention = own.mean() / gap.mean()
    parts: NDArray[np.float64] = retention + (own - retention * gap) / gap.mean()
    return parts


def standard_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean of values (E,), at least two.

    Example: 0.95 and 0.85 deviate by 0.05 from their mean: sqrt(2 x 0.05^2 / 1) / sqrt(2) = 0.05.
    """
    return float(values.std(ddof=1) / len(values) ** 0.5)
