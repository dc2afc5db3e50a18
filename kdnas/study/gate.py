"""The gate: a candidate is priced and judged before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdnas.budgets.budget import Budget
from kdnas.budgets.cost import TeamCost
from kdnas.profiling.pricer import Pricer
from kdnas.spaces.spec import StudentSpec


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A candidate's price, and how it stands against each constraint."""

    cost: TeamCost
    """Latencies are 0 where nothing was measured: without a limit on it, or where arithmetic already refused."""
    violations: Mapping[str, float]
    """Constraint -> violation; only those that were looked at."""
    measured: bool = False

    @property
    def feasible(self) -> bool:
        return all(violation <= 0 for violation in self.violations.values())

    @property
    def price(self) -> dict[str, Any]:
        """The team's sums as JSON has them, without what was not measured."""
        return self.cost.team.as_json(measured=self.measured)

    @property
    def reason(self) -> str:
        """The constraint that is broken most, of an infeasible one: `breaks flops<=96 by 50 %`."""
        worst = max(self.violations, key=lambda name: self.violations[name])
        return f"breaks {worst} by {100 * self.violations[worst]:.3g} %"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Judges candidates. What arithmetic can decide comes first; latency, flash and RAM are measured only where the
    budget limits one of them, and only for those that pass: workers stand still meanwhile."""

    budget: Budget
    pricer: Pricer

    def judge(self, candidate: Mapping[str, StudentSpec], *, measure_all: bool = False) -> Verdict:
        """Price and judge a candidate; `measure_all` looks at limits on latency even where arithmetic refuses."""
        cheap = self.budget.unmeasured()
        if cheap.constraints and not (measure_all and self.budget.measured):
            cost = self.pricer.team(candidate, measure=False)
            violations = cheap.violations(cost, self.pricer.teacher_cost(measure=False))
            if any(violation > 0 for violation in violations.values()):
                return Verdict(cost=cost, violations=violations)
        measured = self.budget.measured
        cost, teacher = self.pricer.team(candidate, measure=measured), self.pricer.teacher_cost(measure=measured)
        return Verdict(cost=cost, violations=self.budget.violations(cost, teacher), measured=measured)

    def allows(self, group: str, spec: StudentSpec, *, measure: bool = True) -> bool:
        """Whether a student meets everything that is said of single agents of its group; without `measure`, all that
        arithmetic can decide."""
        return all(violation <= 0 for violation in self.alone(group, spec, measure=measure).values())

    def alone(self, group: str, spec: StudentSpec, *, measure: bool = True) -> dict[str, float]:
        """Violations of the constraints on single agents of a group, whatever the rest of the team is."""
        budget = self.budget if measure else self.budget.unmeasured()
        own = Budget(tuple(item for item in budget.constraints if item.scope in (None, group)))
        cost = self.pricer.price(group, spec, measure=own.measured)
        return own.violations(TeamCost(agents={group: cost}, seats={group: 1}), self.pricer.teacher_cost())
