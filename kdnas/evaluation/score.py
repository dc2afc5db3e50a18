"""`Score`: how well a team plays, with its uncertainty."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdnas.errors import EnvError

RESAMPLES = 2000
"""Bootstrap resamples of an interval."""

_NORMAL = 1.959964
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over episodes with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    episodes: int

    @property
    def standard_error(self) -> float:
        """Half the interval over the 1.96 standard errors that it would be of a normal distribution."""
        return (self.high - self.low) / (2 * _NORMAL)

    def as_json(self) -> dict[str, Any]:
        return {"mean": self.mean, "low": self.low, "high": self.high, "episodes": self.episodes}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Interval":
        return cls(
            mean=float(data["mean"]), low=float(data["low"]), high=float(data["high"]), episodes=int(data["episodes"])
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """Return and retention of a team over fixed episodes.

    Return: undiscounted sum of rewards over an episode, mean over agents, greedy actions. Retention: (student - random)
    / (teacher - random) on the same episodes; its interval resamples episodes of the three together.
    """

    retention: Interval
    returned: Interval

    def as_json(self) -> dict[str, Any]:
        return {"retention": self.retention.as_json(), "return": self.returned.as_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Score":
        return cls(retention=Interval.from_json(data["retention"]), returned=Interval.from_json(data["return"]))


def make_score(student: NDArray[np.float64], teacher: NDArray[np.float64], random: NDArray[np.float64]) -> Score:
    """Score per-episode returns (E,), all three played on the same episode seeds.

    Example: student -9, teacher -8, random -28 in every episode: retention (-9 + 28) / (-8 + 28) = 0.95.

    Raises:
        EnvError: the teacher is no better than random play, so that retention means nothing.
    """
    check_teacher_beats_random(teacher, random)
    episodes = len(student)
    picks = np.random.default_rng(0).integers(episodes, size=(RESAMPLES, episodes))
    means = [returns[picks].mean(1) for returns in (student, teacher, random)]
    gap = means[1] - means[2]
    usable = gap > 0  # a resample in which the teacher is not better says nothing of retention
    ratios = (means[0] - means[2])[usable] / gap[usable]
    retention = (student.mean() - random.mean()) / (teacher.mean() - random.mean())
    return Score(
        retention=_interval(float(retention), ratios, episodes),
        returned=_interval(float(student.mean()), means[0], episodes),
    )


def make_gain(
    after: NDArray[np.float64],
    before: NDArray[np.float64],
    teacher: NDArray[np.float64],
    random: NDArray[np.float64],
) -> Interval:
    """How much more retention one team has than another, from per-episode returns (E,) on the same episodes.

    Its interval resamples the episodes of all four together, so that what is hard for both teams cancels.

    Example: after -9, before -10, teacher -8, random -28 in every episode: (-9 + 10) / (-8 + 28) = 0.05.

    Raises:
        EnvError: the teacher is no better than random play.
    """
    check_teacher_beats_random(teacher, random)
    episodes = len(after)
    picks = np.random.default_rng(0).integers(episodes, size=(RESAMPLES, episodes))
    more, gap = (each[picks].mean(1) for each in (after - before, teacher - random))
    gained = (after - before).mean() / (teacher - random).mean()
    return _interval(float(gained), more[gap > 0] / gap[gap > 0], episodes)


def bootstrap(returns: NDArray[np.float64]) -> Interval:
    """Mean of per-episode returns (E,) with its interval."""
    picks = np.random.default_rng(0).integers(len(returns), size=(RESAMPLES, len(returns)))
    return _interval(float(returns.mean()), returns[picks].mean(1), len(returns))


def check_teacher_beats_random(teacher: NDArray[np.float64], random: NDArray[np.float64]) -> None:
    """Refuse a teacher whose mean return is not above random play's.

    Raises:
        EnvError: with both returns.
    """
    if not teacher.mean() > random.mean():
        raise EnvError(
            f"the teacher returns {teacher.mean():.3f} and random play {random.mean():.3f}: there is nothing to "
            "retain; is it the teacher of this environment?"
        )


def _interval(mean: float, resampled: NDArray[np.float64], episodes: int) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(mean=mean, low=float(low), high=float(high), episodes=episodes)
