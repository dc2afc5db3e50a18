"""`SELECTOR`: which member of a front to take: `[CONSTRAINTS][, min|max METRIC]`.

    flops<2k                        the best retention among teams whose agents all stay under 2,000 FLOPs
    retention>=95%, min memory      the smallest team that keeps 95 %
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdnas.budgets.budget import Budget, Constraint, parse_constraint
from kdnas.budgets.metric import METRICS
from kdnas.errors import BudgetError, name_nearest
from kdnas.units import parse_quantity

if TYPE_CHECKING:
    from kdnas.study.front import Member

_RETENTION = re.compile(r"^\s*retention\s*(?P<relation>>=|>)\s*(?P<limit>.+?)\s*$")
_GOAL = re.compile(r"^\s*(?P<direction>min|max)\s+(?P<metric>\S+)\s*$")
RETENTION = "retention"


@dataclass(frozen=True, kw_only=True)
class Selector:
    """Constraints on the members of a front, and what the best of the rest is. Costs are of the team where summed."""

    constraints: tuple[Constraint, ...]
    """Read as budgets are: unscoped ones hold for each agent, `team.` for the sum."""
    least_retention: float
    strict: bool
    """`>` rather than `>=`."""
    metric: str
    """`retention` or a metric of a Cost (the team's sum)."""
    maximise: bool
    text: str

    def choose(self, members: Sequence["Member"]) -> "Member":
        """The member that the selector means.

        Raises:
            BudgetError: no member meets it; says what the front offers.
        """
        for member in members[:1]:
            Budget(self.constraints).check_scopes(member.candidate)
        kept = [member for member in members if self._accepts(member)]
        if not kept:
            best = max((member.score.retention.mean for member in members), default=float("nan"))
            least = min((member.cost.team.flops for member in members), default=0)
            raise BudgetError(
                f"no student of the front meets {self.text!r}: the best retention is {100 * best:.1f} %, the fewest "
                f"team FLOPs {least:,}; see 'kdnas front'"
            )
        sign = 1 if self.maximise else -1
        # Among equals the higher retention, then the lower trial.
        return max(kept, key=lambda m: (sign * self._value(m), m.score.retention.mean, -m.trial))

    def _accepts(self, member: "Member") -> bool:
        retention = member.score.retention.mean
        if retention < self.least_retention or (self.strict and retention == self.least_retention):
            return False
        return all(item.worst_violation(member.cost, member.teacher) <= 0 for item in self.constraints)

    def _value(self, member: "Member") -> float:
        if self.metric == RETENTION:
            return member.score.retention.mean
        return METRICS[self.metric].read(member.cost.team)


def parse_selector(text: str) -> Selector:
    """Read a selector.

    Raises:
        BudgetError: naming the part that cannot be read.
    """
    constraints: list[Constraint] = []
    least, strict, metric, maximise, goals = float("-inf"), False, RETENTION, True, 0
    for part in (part for part in text.split(",") if part.strip()):
        if goal := _GOAL.match(part):
            metric, maximise, goals = goal["metric"], goal["direction"] == "max", goals + 1
            known = [RETENTION, *METRICS]
            if metric not in known:
                raise BudgetError(f"selector {text!r}: unknown metric {metric!r}: {name_nearest(metric, known)}")
            if goals > 1:
                raise BudgetError(f"selector {text!r}: only one 'min METRIC' or 'max METRIC' can be the goal")
        elif found := _RETENTION.match(part):
            try:
                quantity = parse_quantity(found["limit"], "ratio")
            except BudgetError as error:
                raise BudgetError(f"selector {part.strip()!r}: {error}") from error
            if quantity.value > 1.5:
                raise BudgetError(f"selector {part.strip()!r}: retention is a share; write '95%' or '0.95'")
            least, strict = quantity.value, found["relation"] == ">"
        elif part.strip().startswith(RETENTION):
            raise BudgetError(f"selector {part.strip()!r}: retention is bounded from below; write 'retention>=95%'")
        else:
            constraints.append(parse_constraint(part))
    return Selector(
        constraints=tuple(constraints),
        least_retention=least,
        strict=strict,
        metric=metric,
        maximise=maximise,
        text=text,
    )
