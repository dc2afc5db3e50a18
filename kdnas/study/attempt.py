"""`Attempt`: a feasible trial on its way through the rungs; `Played` and `Lost`: a team at the end of it."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kdnas.evaluation.score import Score
from kdnas.evaluation.sequential import Rival
from kdnas.spaces.space import Candidate
from kdnas.spaces.spec import StudentSpec
from kdnas.study.front import Objectives
from kdnas.study.gate import Verdict
from kdnas.study.returns import Returns

if TYPE_CHECKING:
    import optuna

Signature = tuple[tuple[str, str], ...]
"""What makes two candidates the same team."""


@dataclass(kw_only=True)
class Attempt:
    """A trial from its price to its end. Its rungs are, first, its students' recovery, and then its episodes.

    It is *schooled* while its students are trained or played among teachers, *waits* for its promotion when they were,
    and is *played* when they are complete.
    """

    draft: "optuna.Trial"
    """What the sampler knows of it."""
    trial: "optuna.Trial"
    """What is stored of it."""
    candidate: dict[str, StudentSpec]
    verdict: Verdict
    rung: int
    """The rung at which it is judged next."""
    waits: bool = False
    predicted: dict[int, float] = field(default_factory=dict)
    """Rung -> what it was predicted to retain."""
    judged_at: dict[int, float] = field(default_factory=dict)
    """Rung -> when, in seconds since 1970."""
    stage: int = 0
    """The part of the episodes that is played next."""
    playing: "Future[Any] | None" = None
    parts: list[Returns] = field(default_factory=list)
    """Returns so far, part by part."""

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def returns(self) -> Returns:
        """(e,), of the episodes played so far."""
        return np.concatenate(self.parts)

    def note_rungs(self) -> None:
        """Write down with the trial how far it has come."""
        if self.predicted:
            self.trial.set_user_attr("rungs", self.predicted)
            self.trial.set_user_attr("judged_at", self.judged_at)

    def objectives(self, retention: float) -> Objectives:
        """Its objectives with a retention, predicted or played."""
        team = self.verdict.cost.team
        return retention, float(team.flops), float(team.memory_bytes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """A team that was played."""

    candidate: Candidate
    score: Score
    objectives: Objectives
    returns: Returns
    """(e,), of as many search episodes as it took."""
    predicted: float
    """What the sum of its students' losses said of these episodes."""

    @property
    def rival(self) -> Rival:
        """Whom others that cost no less are compared with."""
        return Rival(returns=self.returns, flops=self.objectives[1], memory_bytes=self.objectives[2])


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A team that a race or its first episodes left behind."""

    candidate: Candidate
    reason: str
    rung: int
    """Where: it may try again when its students have come further."""


def signature(candidate: Candidate) -> Signature:
    """Equal for equal teams."""
    return tuple((group, spec.digest) for group, spec in sorted(candidate.items()))
