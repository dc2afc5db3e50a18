"""`MarginalLosses`: what each student costs a team alone, and from their sum what teams that were never played retain.

A student's marginal loss is the retention that is lost when it takes the place of its group in a team of teachers. One
played team per student and group then foretells every mixed team: losses add up, to first order. The sum is taken of
returns episode by episode, all on the same seeds, so that how hard an episode was cancels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kdnas.evaluation.score import Interval, check_teacher_beats_random
from kdnas.spaces.spec import StudentSpec
from kdnas.study.returns import Returns

NORMAL_95 = 1.959963984540054
"""Standard errors to either side of a mean that hold 95 % of a normal distribution."""
LEAST_TEAMS = 8
"""Played teams below which no correction is fitted."""

Key = tuple[str, StudentSpec, int]
"""Group, student, rung."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a team that was not played is expected to retain."""

    retention: float
    standard_error: float
    """Of the episodes alone; that losses do not quite add up comes on top (`prediction_error`)."""


@dataclass(kw_only=True)
class MarginalLosses:
    """Per-episode returns of teams of teachers in which one group plays a student, by (group, student, rung).

    Args:
        teacher: returns of the team of teachers.
        random: returns of random play.
        returns: (group, student, rung) -> returns of the teachers with that student in that group.

    Raises:
        EnvError: the teacher is no better than random play.
    """

    teacher: Returns
    random: Returns
    returns: dict[Key, Returns] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.teacher.ndim != 1 or self.teacher.shape != self.random.shape:
            raise ValueError(f"teacher {self.teacher.shape} and random {self.random.shape} must be of equal episodes")
        check_teacher_beats_random(self.teacher, self.random)
        for (group, spec, rung), returns in self.returns.items():
            self.record(group, spec, rung, returns)

    def record(self, group: str, spec: StudentSpec, rung: int, returns: Returns) -> None:
        """Take in the returns (E,) of the teachers with a student in one group; what was there is replaced."""
        if returns.shape != self.teacher.shape or not np.isfinite(returns).all():
            raise ValueError(f"{group} {spec}: returns must be {self.teacher.shape} finite numbers: {returns.shape}")
        self.returns[group, spec, rung] = returns.astype(np.float64)

    def loss(self, group: str, spec: StudentSpec, rung: int) -> Interval:
        """Retention lost by one student at a rung.

        The interval is the normal one of a ratio of means (delta method): the standard error of
        (teacher - student) - loss x (teacher - random) over episodes, over the mean of teacher - random. So the three
        are paired, as in `make_score`, which resamples instead.

        Example: teacher -8, random -28, with the student -9 in every episode: 1 / 20 = 0.05.

        Raises:
            KeyError: it was not played at that rung.
        """
        retention, error = self._retention(self._recorded(group, spec, rung))
        lost, reach = 1.0 - retention, NORMAL_95 * error
        return Interval(mean=lost, low=lost - reach, high=lost + reach, episodes=len(self.teacher))

    def predict(
        self, candidate: Mapping[str, StudentSpec], rungs: Mapping[str, int], episodes: int | None = None
    ) -> Prediction:
        """What a team retains if its losses add up: teacher + sum over groups of (student - teacher), each episode.

        Groups that are missing keep their teacher; `rungs` has a rung for each student. With `episodes` only the first
        of them count: what a team retained in these is compared with what it was expected to retain in these.

        Raises:
            KeyError: a student of it was never played alone at that rung.
        """
        expected = self.teacher.copy()
        for group, spec in candidate.items():
            expected += self._recorded(group, spec, rungs[group]) - self.teacher
        retention, error = self._retention(expected[:episodes])
        return Prediction(retention=retention, standard_error=error)

    def _recorded(self, group: str, spec: StudentSpec, rung: int) -> Returns:
        if (group, spec, rung) not in self.returns:
            raise KeyError(f"{group} {spec}: was not played alone at rung {rung}")
        return self.returns[group, spec, rung]

    def _retention(self, returns: Returns) -> tuple[float, float]:
        """Retention by the returns (e,) of the first episodes, and its standard error: infinite, not known, of one."""
        random = self.random[: len(returns)]
        above, gap = returns - random, self.teacher[: len(returns)] - random
        retention = float(above.mean() / gap.mean())
        if len(gap) < 2:
            return retention, math.inf
        spread = float((above - retention * gap).std(ddof=1))
        return retention, spread / math.sqrt(len(gap)) / float(gap.mean())


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Played retention on predicted retention: predicted + shift - steeper x (1 - predicted).

    Example: with shift 0 and steeper 0.2 a team that is predicted to lose 0.1 is expected to lose 0.12.
    """

    shift: float
    steeper: float
    """How much more is lost than the sum says, as a share of the sum; above -1, so that the order of teams stays."""
    error: float
    """Root mean square error on teams that the fit had not seen (each left out once)."""
    teams: int
    """Fitted on so many."""

    def apply(self, predicted: float) -> float:
        """The retention that is expected of a team whose losses add up to 1 - predicted."""
        return predicted + self.shift - self.steeper * (1.0 - predicted)


def prediction_error(predicted: NDArray[np.float64], played: NDArray[np.float64]) -> float:
    """Root mean square error of the plain sum, over teams (n,); NaN without any."""
    return float(np.sqrt(np.mean((played - predicted) ** 2))) if len(played) else math.nan


def fit_correction(predicted: NDArray[np.float64], played: NDArray[np.float64]) -> Correction | None:
    """A correction from the teams (n,) that were predicted and then played; None where it does not help.

    It is refused with fewer than `LEAST_TEAMS` teams, when its leave-one-out error is not below the error of the plain
    sum, and when it would reverse the order of teams.
    """
    if predicted.shape != played.shape or predicted.ndim != 1:
        raise ValueError(f"predicted {predicted.shape} and played {played.shape} must be of the same teams (n,)")
    teams = len(played)
    if teams < LEAST_TEAMS:
        return None
    lost, residual = 1.0 - predicted, played - predicted
    held_out = []
    for left in range(teams):
        others = np.arange(teams) != left
        shift, steeper = _ridge(lost[others], residual[others])
        held_out.append(residual[left] - (shift - steeper * lost[left]))
    error = float(np.sqrt(np.mean(np.square(held_out))))
    shift, steeper = _ridge(lost, residual)
    if error >= prediction_error(predicted, played) or steeper <= -1.0:
        return None
    return Correction(shift=shift, steeper=steeper, error=error, teams=teams)


def _ridge(lost: NDArray[np.float64], residual: NDArray[np.float64]) -> tuple[float, float]:
    """Shift and steepness of residual = shift - steeper x lost, drawn towards none at all with the weight of one team.

    The slope is penalised in units of the root mean square loss, so that the scale of losses does not matter.
    """
    scale = float(np.sqrt(np.mean(lost**2))) or 1.0
    columns = np.stack([np.ones_like(lost), -lost / scale], 1)
    shift, slope = np.linalg.solve(columns.T @ columns + np.eye(2), columns.T @ residual)
    return float(shift), float(slope) / scale
