"""Pre-flight: what the budget leaves of the space, before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdnas.budgets.budget import Constraint
from kdnas.budgets.cost import TeamCost
from kdnas.errors import BudgetError
from kdnas.spaces.space import SearchSpace
from kdnas.spaces.spec import StudentSpec
from kdnas.study.anchors import frugal, largest, largest_feasible, median, ordered_specs, smallest
from kdnas.study.gate import Gate

RANDOM_CANDIDATES = 1000
"""Random candidates behind the share of feasible ones."""


@dataclass(frozen=True, kw_only=True)
class Priced:
    """A named team and its price."""

    name: str
    """`smallest`, `median`, `largest` or `teacher`."""
    candidate: Mapping[str, StudentSpec] | None
    """None for the teacher."""
    cost: TeamCost


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """The corners of a space against its budget."""

    teams: tuple[Priced, ...]
    constraints: tuple[Constraint, ...]
    feasible_share: float
    """Of `RANDOM_CANDIDATES` random candidates, each group's spec drawn uniformly."""
    specs_per_group: Mapping[str, int]
    largest_feasible: Mapping[str, StudentSpec]

    def violation(self, constraint: Constraint, team: Priced) -> float:
        return constraint.worst_violation(team.cost, self.teams[-1].cost)


def check_budget(space: SearchSpace, gate: Gate, seed: int) -> Preflight:
    """Price smallest, median and largest candidate and the teacher, and a sample of random candidates.

    Raises:
        BudgetError: no candidate can meet the budget; names the limit that blocks, and by how much.
    """
    specs = ordered_specs(space, gate)
    corners = {"smallest": smallest(specs), "median": median(specs), "largest": largest(specs)}
    priced = [
        Priced(name=name, candidate=candidate, cost=gate.pricer.team(candidate)) for name, candidate in corners.items()
    ]
    best = largest_feasible(specs, gate)
    if best is None:
        raise BudgetError(explain_infeasible(specs, gate))
    generator = np.random.default_rng(seed)
    feasible = sum(
        gate.judge({group: own[int(generator.integers(len(own)))] for group, own in specs.items()}).feasible
        for _ in range(RANDOM_CANDIDATES)
    )
    return Preflight(
        teams=(*priced, Priced(name="teacher", candidate=None, cost=gate.pricer.teacher_cost())),
        constraints=gate.budget.constraints,
        feasible_share=feasible / RANDOM_CANDIDATES,
        specs_per_group={group: len(own) for group, own in specs.items()},
        largest_feasible=best,
    )


def explain_infeasible(specs: Mapping[str, list[StudentSpec]], gate: Gate) -> str:
    """Name the limit that no candidate meets, and the nearest that the space comes to it.

    Each constraint is looked at alone, with the candidate that violates it least; when each can be met alone, the
    constraints exclude each other, and what the nearest student or team breaks worst is named.
    """
    teacher = gate.pricer.teacher_cost()
    for item in gate.budget.constraints:
        alone = Gate(budget=type(gate.budget)((item,)), pricer=gate.pricer)
        nearest = {
            group: min(own, key=lambda spec, group=group: item.metric.read(alone.pricer.price(group, spec)))  # type: ignore[misc]
            for group, own in specs.items()
        }
        verdict = alone.judge(nearest)
        if verdict.feasible:
            continue
        readings = item.readings(alone.pricer.team(nearest), teacher)
        place, (value, limit) = max(readings.items(), key=lambda entry: item.violation(*entry[1]))
        spec = f" ({nearest[place]})" if place in nearest else ""
        return (
            f"no candidate meets {item.text!r}: the least that {place!r} can do is {item.metric.format(value)}{spec}, "
            f"{value / limit:.2f} times the limit of {item.metric.format(limit)}; "
            "raise the limit or offer smaller students in the search space"
        )
    who, broken = _nearest(specs, gate)
    worst = max(broken, key=lambda text: broken[text])
    texts = ", ".join(item.text for item in gate.budget.constraints)
    return (
        f"no candidate was found that meets all of {texts}, though each can be met alone: {who}, which comes nearest, "
        f"breaks {worst!r} by {100 * broken[worst]:.3g} %; relax one of them"
    )


def _nearest(specs: Mapping[str, list[StudentSpec]], gate: Gate) -> tuple[str, Mapping[str, float]]:
    """Who comes nearest to a budget whose constraints exclude each other, and what it violates by how much."""
    for group, own in specs.items():
        violations = {spec: gate.alone(group, spec) for spec in own}
        spec = min(own, key=lambda spec: max(violations[spec].values(), default=0.0))
        if max(violations[spec].values(), default=0.0) > 0:
            return f"{spec} of {group!r}", violations[spec]
    alone = {group: [spec for spec in own if gate.allows(group, spec)] for group, own in specs.items()}
    teams = [(team, gate.judge(team, measure_all=True).violations) for team in frugal(alone, gate)]
    team, broken = min(teams, key=lambda entry: max(entry[1].values()))
    return f"the team {', '.join(f'{group}: {spec}' for group, spec in team.items())}", broken

