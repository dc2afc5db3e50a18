"""The one-standard-error rule: who retains as much as the best, as far as the episodes can tell.

Of all models whose error is within one standard error of the best one's, the simplest is taken (Breiman, Friedman,
Olshen and Stone, Classification and Regression Trees, 1984, chapter 3).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdnas.evaluation.paired import standard_error

if TYPE_CHECKING:
    from kdnas.study.front import Member


def best_of(members: Sequence["Member"]) -> "Member":
    """The highest retention; of equal ones the first trial."""
    return max(members, key=lambda member: (member.score.retention.mean, -member.trial))


def error_of_lead(best: "Member", member: "Member") -> float:
    """Standard error of how much more the best retains than another one.

    All members have played the same episodes, so where their returns are kept it is that of the differences, episode by
    episode: what was hard for both says nothing. Otherwise it is the error of the best one's retention alone.
    """
    if best.parts is not None and member.parts is not None:
        return standard_error(best.parts - member.parts)
    return best.score.retention.standard_error


def within_one_error(members: Sequence["Member"]) -> list["Member"]:
    """The members whose retention is at most one standard error below the best one's, itself among them."""
    best = best_of(members)
    return [
        member
        for member in members
        if best.score.retention.mean - member.score.retention.mean <= error_of_lead(best, member)
    ]
