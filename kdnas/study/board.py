"""`Board`: the students that each group can have, and any team of them predicted and priced by sums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdnas.budgets.budget import TEAM, Budget
from kdnas.budgets.cost import Cost, TeamCost
from kdnas.budgets.metric import METRICS
from kdnas.spaces.space import Candidate
from kdnas.spaces.spec import StudentSpec
from kdnas.study.front import Objectives
from kdnas.study.gate import Gate
from kdnas.study.prediction import Correction

Lineup = tuple[int, ...]
"""One place among the options for each group, in the order of the groups."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A student that a group can have."""

    spec: StudentSpec
    loss: float
    """Retention lost when it takes its group's place among teachers."""
    cost: Cost
    """Of one agent."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a team is predicted to reach, and how it stands against the `team.` limits."""

    objectives: Objectives
    violations: Mapping[str, float]
    """Constraint -> violation."""

    @property
    def feasible(self) -> bool:
        return all(violation <= 0 for violation in self.violations.values())


class Board:
    """All teams of some options.

    An option that another one of its group beats in loss and in every price that counts is left out: a team with it
    cannot be on the predicted front, since losses and prices are sums. Of 30 options about half remain.

    Args:
        options: group -> what it can have, each allowed by the limits on single agents; as `price_options` makes them.
        budget: of which the `team.` limits are looked at.
        teacher: what relative limits compare with; its seats are the team's.
        correction: applied to the sum of losses.

    Raises:
        BudgetError: a percentage of a teacher that has none of it.
    """

    def __init__(
        self,
        options: Mapping[str, Sequence[Option]],
        *,
        budget: Budget,
        teacher: TeamCost,
        correction: Correction | None = None,
    ) -> None:
        self.teacher, self._correction = teacher, correction
        self._limits = [
            (item.text, item, item.readings(teacher, teacher)[TEAM][1])
            for item in budget.constraints
            if item.scope == TEAM
        ]
        counted = {"flops": float(teacher.team.flops), "memory": float(teacher.team.memory_bytes)}
        self._scales = {item.metric.name: limit for _, item, limit in self._limits} | counted
        self.options = {group: self._unbeaten(group, own) for group, own in options.items()}
        self._sums = [[each.cost.times(teacher.seats[group]) for each in own] for group, own in self.options.items()]
        self._places = {group: {each.spec: at for at, each in enumerate(own)} for group, own in self.options.items()}

    def outcome(self, team: Lineup) -> Outcome:
        """Predict and price a team."""
        retention = 1.0 - sum(own[place].loss for own, place in zip(self.options.values(), team, strict=True))
        if self._correction is not None:
            retention = self._correction.apply(retention)
        first, *others = (own[place] for own, place in zip(self._sums, team, strict=True))
        total = sum(others, first)
        return Outcome(
            objectives=(retention, float(total.flops), float(total.memory_bytes)),
            violations={name: item.violation(item.metric.read(total), limit) for name, item, limit in self._limits},
        )

    def candidate(self, team: Lineup) -> dict[str, StudentSpec]:
        """The specs of a team."""
        return {group: own[place].spec for (group, own), place in zip(self.options.items(), team, strict=True)}

    def team(self, candidate: Candidate) -> Lineup | None:
        """The places of a candidate's specs; None where one of them is not on the board."""
        places = [self._places[group].get(candidate[group]) for group in self.options]
        return tuple(place for place in places if place is not None) if None not in places else None

    def losses(self) -> list[NDArray[np.float64]]:
        """For each group the losses (S,) of its options."""
        return [np.array([each.loss for each in own]) for own in self.options.values()]

    def shares(self) -> list[NDArray[np.float64]]:
        """For each group what its options take (D, S): of the teacher's FLOPs and memory, and of each `team.` limit."""
        return [
            np.array([[METRICS[name].read(each) / scale for each in own] for name, scale in self._scales.items()])
            for own in self._sums
        ]

    def _unbeaten(self, group: str, options: Sequence[Option]) -> tuple[Option, ...]:
        """The options of a group that no other one equals or beats in everything, of equal ones the first."""
        import moocore

        if not options:
            return ()
        table = [[each.loss, *(METRICS[name].read(each.cost) for name in self._scales)] for each in options]
        kept = moocore.is_nondominated(np.array(table, np.float64), keep_weakly=False)
        return tuple(option for option, keep in zip(options, kept, strict=True) if keep)


def price_options(gate: Gate, losses: Mapping[str, Mapping[StudentSpec, float]]) -> dict[str, tuple[Option, ...]]:
    """Group -> its students that meet every limit on single agents, priced, from the fewest FLOPs to the most.

    Latency is measured only if the budget speaks of something measured.
    """
    options = {}
    for group, own in losses.items():
        priced = [
            Option(spec=spec, loss=loss, cost=gate.pricer.price(group, spec, measure=gate.budget.measured))
            for spec, loss in own.items()
            if gate.allows(group, spec)
        ]
        options[group] = tuple(sorted(priced, key=lambda each: (each.cost.flops, each.cost.memory_bytes)))
    return options
