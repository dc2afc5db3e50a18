"""How far a search's own estimates of its front were off, in one sentence."""

import statistics
from collections.abc import Sequence

from kdnas.study.front import Member


def describe_hindsight(front: Sequence[Member]) -> str | None:
    """One sentence on all members of a front together, or None where nothing final is known of them.

    Who is chosen by an estimate was overrated more often than not (the winner's curse); the final episodes, on which
    nothing was chosen, say by how much. Both are of the same weights, those that the search trained.

    Example: estimates .950 and .910 of teams that keep .945 and .907 are .004 too high on average.
    """
    looks = [member.hindsight for member in front if member.hindsight is not None]
    if not looks:
        return None
    excess = statistics.mean(look.excess for look in looks)
    off = f"{_short(excess)} too {'high' if excess > 0 else 'low'}" if _short(excess) != ".000" else "right to .001"
    said = f"the search's estimate of the one team was {off}"
    if len(looks) > 1:
        said = f"the search's estimates were {off} on average over {len(looks)} teams"
    if any(look.refinement for look in looks):
        gained = statistics.mean(look.refinement.mean if look.refinement else 0.0 for look in looks)
        said += f"; refinement {'added' if gained >= 0 else 'took'} {_short(gained)}"
    return said


def _short(value: float) -> str:
    """The size of a number to three decimals, without the 0 before them."""
    return f"{abs(value):.3f}".removeprefix("0")
