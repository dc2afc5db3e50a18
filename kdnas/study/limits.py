"""What binds a front: how far its students go into each limit of the budget, and what the limits kept out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdnas.budgets.budget import parse_constraint
from kdnas.errors import RunError
from kdnas.study.front import Member
from kdnas.study.run_folder import trials_of

_SAME = 1e-9
"""Shares of a limit closer than this are equal."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One constraint of the budget, seen from the end of a search. A share is value / limit of the worst agent."""

    text: str
    used: float
    """Largest share that a student of the front takes."""
    trial: int
    """Whose it is."""
    tried: float
    """Largest share that any candidate which was not rejected takes, as it was priced in the search."""
    reached: bool
    """No candidate that was tried goes further than the front does."""
    rejected: int
    """Candidates that were rejected, by whichever limits."""
    broke: int
    """Those that broke this one."""
    broke_only: int
    """Those that broke this one and no other: without it they would have been tried."""

    @property
    def slack(self) -> float:
        """Share of the limit that the front's most expensive student leaves."""
        return 1.0 - self.used

    @property
    def binds(self) -> bool:
        """The front ends where this limit does, and something lies beyond that only this limit kept out.

        A limit that the front does not reach, though candidates nearer to it were tried, is no loss: what costs more
        was seen, and was not better.
        """
        return self.reached and self.broke_only > 0

    @property
    def binds_with_others(self) -> bool:
        """As `binds`, but whatever broke this limit broke another one too."""
        return self.reached and self.broke > self.broke_only == 0


def read_limits(run: Path, members: Sequence[Member]) -> tuple[Limit, ...]:
    """The limits of a run that has ended, and its front against them.

    Raises:
        KdnasError: the folder is no run, or its storage cannot be read.
    """
    return weigh_limits(members, trials_of(run))


def weigh_limits(members: Sequence[Member], trials: Sequence[Any]) -> tuple[Limit, ...]:
    """Each constraint against a front and the Optuna trials that it comes from, those that bind first.

    Members are taken at their final price, which is measured again at the end. Who goes furthest is asked of the trials
    alone, so that one measurement is not compared with another.

    Example: `flops<2k`, a front of 1,960 and 500 FLOPs, and three rejected candidates of 3,000 FLOPs, one of which is
    too large for `memory<4KiB` too. 98 % are used, 2 of 3 broke only `flops<2k`, and where nothing between 1,960 and
    2,000 was tried it binds.

    Raises:
        RunError: the trials are not those of the front.
    """
    numbers = {trial.number: trial for trial in trials}
    for member in members:
        if member.trial not in numbers:
            raise RunError(f"the study of this run has no trial {member.trial}, which is on its front; was it deleted?")
    front = [numbers[member.trial].constraints for member in members]
    names = set(front[0]) if front else set()
    ended = [trial.constraints for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
    told = [each for each in ended if names <= set(each)]  # who lost some, by a damaged storage, says nothing
    tried = [each for each in told if all(violation <= 0 for violation in each.values())]
    broken = [own for each in told if (own := {text for text, violation in each.items() if violation > 0})]
    limits = []
    for text in front[0] if front else ():
        item = parse_constraint(text)
        shares = {member.trial: 1.0 + item.worst_violation(member.cost, member.teacher) for member in members}
        most = max(shares, key=lambda trial: shares[trial])
        furthest = max(1.0 + each[text] for each in tried)
        limits.append(
            Limit(
                text=text,
                used=shares[most],
                trial=most,
                tried=furthest,
                reached=max(1.0 + each[text] for each in front) >= furthest - _SAME,
                rejected=len(broken),
                broke=sum(text in each for each in broken),
                broke_only=sum(each == {text} for each in broken),
            )
        )
    return tuple(sorted(limits, key=lambda limit: (-limit.binds, -limit.binds_with_others, -limit.used)))
