"""Budgets: hard limits on a Cost, as users write them.

    [SCOPE.]METRIC (<|<=) NUMBER[UNIT]        latency<2ms   team.memory<=12KiB   listener.flops<5%

An unscoped constraint holds for each agent, `GROUP.` for each agent of that group, `team.` for the sum over agents.
A percentage is relative to the teacher's actor of the same agent (for `team.`: to the teacher's team sum).
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kdnas.budgets.cost import Cost, TeamCost
from kdnas.budgets.metric import METRICS, Metric
from kdnas.errors import BudgetError, name_nearest
from kdnas.units import parse_quantity

TEAM = "team"

_CONSTRAINT = re.compile(
    r"^\s*(?:(?P<scope>[^<=>]*[^<=>.\s])\s*\.\s*)?(?P<metric>[A-Za-z_]+)\s*(?P<relation><=|<|>=|>|==|=)\s*(?P<limit>.*?)\s*$"
)
_EQUAL = 1e-12
"""Value and limit closer than this share are equal: wider than the rounding of `7%` x 100, narrower than the difference
of any two costs. It is also the violation of a `<` that is met with equality."""


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One limit. Its violation is value / limit - 1; a team is feasible when every violation is <= 0.

    Example: `flops<2k` on an agent of 2,256 FLOPs is violated by 2256 / 2000 - 1 = 0.128.
    """

    scope: str | None
    """None for each agent, `team` for the sum, or a group."""
    metric: Metric
    strict: bool
    limit: float
    """In base units, or a share of the teacher's."""
    relative: bool

    @property
    def text(self) -> str:
        """The constraint in one canonical spelling."""
        scope = f"{self.scope}." if self.scope else ""
        limit = f"{100 * self.limit:.6g}%" if self.relative else f"{self.limit:.9g}"
        unit = {"time": "s", "memory": "B"}.get(self.metric.dimension, "") if not self.relative else ""
        return f"{scope}{self.metric.name}{'<' if self.strict else '<='}{limit}{unit}"

    def violation(self, value: float, limit: float) -> float:
        """How far a value is beyond an absolute limit, as a share of it; `<` is strict, and NaN breaks every limit."""
        excess = value / limit - 1.0
        if math.isnan(excess):
            return math.inf
        if abs(excess) < _EQUAL:
            return _EQUAL if self.strict else 0.0
        return excess

    def readings(self, cost: TeamCost, teacher: TeamCost) -> dict[str, tuple[float, float]]:
        """What the constraint compares: name of the place -> (value, absolute limit).

        Raises:
            BudgetError: a percentage of a teacher that has none of it.
        """
        places: dict[str, tuple[Cost, Cost]]
        if self.scope == TEAM:
            places = {TEAM: (cost.team, teacher.team)}
        else:
            groups = cost.agents if self.scope is None else [self.scope]
            places = {group: (cost.agents[group], teacher.agents[group]) for group in groups}
        readings = {}
        for place, (own, base) in places.items():
            reference = self.metric.read(base) if self.relative else 1.0
            if reference == 0:
                raise BudgetError(
                    f"budget {self.text!r}: the teacher's {self.metric.name} of {place!r} is 0, and a share of it says "
                    "nothing; give an absolute limit"
                )
            readings[place] = (self.metric.read(own), self.limit * reference)
        return readings

    def worst_violation(self, cost: TeamCost, teacher: TeamCost) -> float:
        """The largest violation over the agents that the constraint speaks of."""
        return max(self.violation(value, limit) for value, limit in self.readings(cost, teacher).values())


@dataclass(frozen=True)
class Budget:
    """A conjunction of constraints. An empty one allows everything."""

    constraints: tuple[Constraint, ...]

    def violations(self, cost: TeamCost, teacher: TeamCost) -> dict[str, float]:
        """Constraint text -> violation; feasible is <= 0 everywhere."""
        return {item.text: item.worst_violation(cost, teacher) for item in self.constraints}

    def unmeasured(self) -> "Budget":
        """The part that arithmetic alone can decide."""
        return Budget(tuple(item for item in self.constraints if not item.metric.measured))

    @property
    def measured(self) -> bool:
        """Some constraint needs a measurement on the target."""
        return any(item.metric.measured for item in self.constraints)

    def check_metrics(self, measured: Collection[str], target: str) -> None:
        """Refuse constraints on what a target does not measure.

        Raises:
            BudgetError: naming the metric and the target.
        """
        for item in self.constraints:
            if item.metric.measured and item.metric.name not in measured:
                raise BudgetError(
                    f"budget {item.text!r}: the target {target!r} does not measure {item.metric.name}; take one that "
                    "does with --target ('kdnas target list'), or leave this limit out"
                )

    def check_scopes(self, groups: Iterable[str]) -> None:
        """Refuse constraints on groups that the environment does not have.

        Raises:
            BudgetError: naming the nearest group.
        """
        known = [TEAM, *groups]
        for item in self.constraints:
            if item.scope is not None and item.scope not in known:
                raise BudgetError(f"budget {item.text!r}: no group {item.scope!r}: {name_nearest(item.scope, known)}")


def parse_budget(texts: Iterable[str]) -> Budget:
    """Read constraints; each text may hold several, separated by commas.

    Raises:
        BudgetError: naming the text, the part that cannot be read, and what would do.
    """
    parts = [part for text in texts for part in text.split(",")]
    return Budget(tuple(parse_constraint(part) for part in parts if part.strip()))


def parse_constraint(text: str) -> Constraint:
    """Read one constraint.

    Raises:
        BudgetError: see `parse_budget`.
    """
    shown = text.strip()
    match = _CONSTRAINT.match(text)
    if match is None:
        last = shown.rpartition(".")[2].strip()
        if last in METRICS:
            raise BudgetError(
                f"budget {shown!r} has no limit; a shell takes '<' for a redirection, so quote it: "
                f'--budget "{shown}<{_EXAMPLES[last]}"'
            )
        raise BudgetError(f'budget {shown!r} is not [SCOPE.]METRIC<NUMBER[UNIT]; write for example "latency<2ms"')
    name, relation, limit = match["metric"], match["relation"], match["limit"]
    if name not in METRICS:
        raise BudgetError(f"budget {shown!r}: unknown metric {name!r}: {name_nearest(name, METRICS)}")
    if relation not in ("<", "<="):
        raise BudgetError(f"budget {shown!r}: {relation!r} is not a limit; a budget is an upper bound, '<' or '<='")
    metric = METRICS[name]
    if not limit:
        raise BudgetError(f'budget {shown!r} has no limit; write for example "{shown}{_EXAMPLES[name]}"')
    try:
        quantity = parse_quantity(limit, metric.dimension)
    except BudgetError as error:
        raise BudgetError(f"budget {shown!r}: {error}") from error
    if not 0 < quantity.value < math.inf:
        raise BudgetError(f"budget {shown!r}: the limit must be positive and finite, but got {limit}")
    return Constraint(
        scope=match["scope"].strip() if match["scope"] else None,
        metric=metric,
        strict=relation == "<",
        limit=quantity.value,
        relative=quantity.relative,
    )


_EXAMPLES: Mapping[str, str] = {
    "latency": "2ms", "macs": "1k", "flops": "2k", "bops": "1M", "params": "1k", "memory": "4KiB", "flash": "8KiB",
    "ram": "1KiB",
}  # fmt: skip
