"""Pre-flight: what the budget leaves of the space, before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdnas.budgets.budget import Constraint
from kdnas.budgets.cost import TeamCost
from kdnas.errors import BudgetError
from kdnas.spaces.space import SearchSpace
from kdnas.spaces.spec import StudentSpec
from kdnas.study.anchors import largest, largest_feasible, median, ordered_specs, smallest
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
    constraints exclude each other, and the one that the smallest candidate breaks worst is named.
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
    texts = ", ".join(item.text for item in gate.budget.constraints)
    return f"no candidate meets all of {texts} together, though each can be met alone; relax one of them"
