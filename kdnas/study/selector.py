"""`SELECTOR`: which member of a front to take: `[CONSTRAINTS][, GOAL]`.

    flops<2k                        the best retention among teams whose agents all stay under 2,000 FLOPs
    retention>=95%, min memory      the smallest team that keeps 95 %
    knee, knee flops                where more retention begins to cost much more: FLOPs and memory, or one metric
    one-se, one-se, min memory      the cheapest team within one standard error of the best retention
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kdnas.budgets.budget import Budget, Constraint, parse_constraint
from kdnas.budgets.metric import METRICS
from kdnas.errors import BudgetError, name_nearest
from kdnas.study.knee import knee_heights
from kdnas.study.one_se import within_one_error
from kdnas.units import parse_quantity

if TYPE_CHECKING:
    from kdnas.study.front import Member

_RETENTION = re.compile(r"^\s*retention\s*(?P<relation>>=|>)\s*(?P<limit>.+?)\s*$")
_GOAL = re.compile(r"^\s*(?P<kind>min|max)\s+(?P<metric>\S+)\s*$|^\s*(?P<knee>knee)(?:\s+(?P<cost>\S+))?\s*$")
_WORDS = re.compile(r"[^<=>]*")
RETENTION, ONE_SE = "retention", "one-se"
_KNEE_COSTS = ("flops", "memory")
"""What a search minimises, and so a knee without a metric weighs."""


@dataclass(frozen=True, kw_only=True)
class Selector:
    """Constraints on the members of a front, and what the best of the rest is. Costs are of the team where summed."""

    constraints: tuple[Constraint, ...]
    """Read as budgets are: unscoped ones hold for each agent, `team.` for the sum."""
    least_retention: float
    strict: bool
    """`>` rather than `>=`."""
    one_se: bool
    """Only who is within one standard error of the best that meets the constraints."""
    goal: Literal["min", "max", "knee"]
    metrics: tuple[str, ...]
    """Of the goal: `retention` or metrics of a Cost (the team's sum); several only for a knee."""
    text: str

    def choose(self, members: Sequence["Member"]) -> "Member":
        """The member that the selector means.

        Raises:
            BudgetError: no member meets it; says what the front offers.
        """
        kept = self.candidates(members)
        values = self._values(kept)
        # Among equals the higher retention, then the lower trial.
        order = sorted(range(len(kept)), key=lambda i: (-values[i], -kept[i].score.retention.mean, kept[i].trial))
        return kept[order[0]]

    def candidates(self, members: Sequence["Member"]) -> list["Member"]:
        """The members among which the goal decides.

        Raises:
            BudgetError: there is none; says what the front offers.
        """
        for member in members[:1]:
            Budget(self.constraints).check_scopes(member.candidate)
        self._check_measured(members)
        kept = [member for member in members if self._accepts(member)]
        if not kept:
            best = max((member.score.retention.mean for member in members), default=float("nan"))
            least = min((member.cost.team.flops for member in members), default=0)
            raise BudgetError(
                f"no student of the front meets {self.text!r}: the best retention is {100 * best:.1f} %, the fewest "
                f"team FLOPs {least:,}; see 'kdnas front'"
            )
        return within_one_error(kept) if self.one_se else kept

    def _check_measured(self, members: Sequence["Member"]) -> None:
        """
        Raises:
            BudgetError: a metric that the front's target does not measure, and that reads 0, would let everything pass.
        """
        named = {item.metric.name for item in self.constraints} | set(self.metrics) - {RETENTION}
        for name in sorted(name for name in named if METRICS[name].measured):
            if any(METRICS[name].read(member.cost.team) <= 0 for member in members):
                raise BudgetError(f"selector {self.text!r}: the target of this front does not measure {name}")

    def _accepts(self, member: "Member") -> bool:
        retention = member.score.retention.mean
        if retention < self.least_retention or (self.strict and retention == self.least_retention):
            return False
        return all(item.worst_violation(member.cost, member.teacher) <= 0 for item in self.constraints)

    def _values(self, members: Sequence["Member"]) -> list[float]:
        """What is the highest of the member that is meant."""
        retention = [member.score.retention.mean for member in members]
        if self.metrics == (RETENTION,):
            read = retention
        else:
            costs = [[METRICS[name].read(member.cost.team) for name in self.metrics] for member in members]
            if self.goal == "knee":
                return list(knee_heights(np.array(retention), np.array(costs, np.float64)))
            read = [row[0] for row in costs]
        return read if self.goal == "max" else [-value for value in read]


def parse_selector(text: str) -> Selector:
    """Read a selector.

    Raises:
        BudgetError: naming the part that cannot be read.
    """
    constraints: list[Constraint] = []
    least, strict, one_se = float("-inf"), False, False
    goals: list[tuple[Literal["min", "max", "knee"], tuple[str, ...]]] = []
    for part in (part for part in text.split(",") if part.strip()):
        if goal := _GOAL.match(part):
            goals.append(_read_goal(text, goal))
        elif part.strip() == ONE_SE:
            one_se = True
        elif found := _RETENTION.match(part):
            least, strict = _read_retention(part.strip(), found), found["relation"] == ">"
        elif part.strip().startswith(RETENTION):
            raise BudgetError(f"selector {part.strip()!r}: retention is bounded from below; write 'retention>=95%'")
        elif _WORDS.fullmatch(part) and part.rpartition(".")[2].strip() not in METRICS:
            rules = ["knee", "knee METRIC", "max METRIC", "min METRIC", ONE_SE]
            raise BudgetError(f"selector {text!r}: unknown rule {part.strip()!r}: {name_nearest(part.strip(), rules)}")
        else:
            constraints.append(parse_constraint(part))
    if len(goals) > 1:
        raise BudgetError(f"selector {text!r}: only one 'min METRIC', 'max METRIC' or 'knee' can be the goal")
    if one_se and goals and (goals[0][0] != "min" or goals[0][1] == (RETENTION,)):
        raise BudgetError(f"selector {text!r}: 'one-se' takes the cheapest; give it no goal but 'min METRIC' of a cost")
    kind, metrics = goals[0] if goals else ("min", ("flops",)) if one_se else ("max", (RETENTION,))
    return Selector(
        constraints=tuple(constraints),
        least_retention=least,
        strict=strict,
        one_se=one_se,
        goal=kind,
        metrics=metrics,
        text=text,
    )


def _read_goal(text: str, goal: re.Match[str]) -> tuple[Literal["min", "max", "knee"], tuple[str, ...]]:
    """`min|max METRIC`, or `knee` of a metric or of what the search minimises."""
    if goal["knee"] and not goal["cost"]:
        return "knee", _KNEE_COSTS
    metric = goal["cost"] if goal["knee"] else goal["metric"]
    known = list(METRICS) if goal["knee"] else [RETENTION, *METRICS]
    if metric not in known:
        raise BudgetError(f"selector {text!r}: unknown metric {metric!r}: {name_nearest(metric, known)}")
    return ("knee" if goal["knee"] else "max" if goal["kind"] == "max" else "min"), (metric,)


def _read_retention(part: str, found: re.Match[str]) -> float:
    try:
        quantity = parse_quantity(found["limit"], "ratio")
    except BudgetError as error:
        raise BudgetError(f"selector {part!r}: {error}") from error
    if quantity.value > 1.5:
        raise BudgetError(f"selector {part!r}: retention is a share; write '95%' or '0.95'")
    return quantity.value
