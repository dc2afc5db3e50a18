"""`ParetoFront`: the feasible teams that no other feasible team dominates."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdnas.budgets.cost import Cost, TeamCost
from kdnas.errors import ConfigError, RunError
from kdnas.evaluation.paired import retention_parts
from kdnas.evaluation.score import Score
from kdnas.spaces.spec import StudentSpec
from kdnas.students.refinement import Hindsight, Refinement
from kdnas.study.returns import ReturnsFolder
from kdnas.study.selector import parse_selector

Objectives = tuple[float, float, float]
"""Retention (up), team FLOPs (down), team memory in bytes (down)."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One team of a front."""

    trial: int
    path: Path | None
    """Its student folder, where one was written."""
    candidate: Mapping[str, StudentSpec]
    score: Score
    cost: TeamCost
    teacher: TeamCost
    parts: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)
    """What each episode says of its retention (E,), where its returns are kept: see `retention_parts`."""
    refinements: tuple[Refinement, ...] = ()
    """What was done to its students after the search, in this order."""
    hindsight: Hindsight | None = None
    """How good the search's estimate was, once the final episodes have been played."""

    @property
    def refined(self) -> bool:
        """Its weights are no longer those that the search scored."""
        return any(refinement.kept for refinement in self.refinements)

    @property
    def flops_reduction(self) -> float:
        """How many times fewer FLOPs than the teacher's actors, summed over the team, all inputs counted."""
        return self.teacher.team.flops / self.cost.team.flops

    @property
    def memory_reduction(self) -> float:
        return self.teacher.team.memory_bytes / self.cost.team.memory_bytes

    @property
    def objectives(self) -> Objectives:
        """What fronts compare, summed over the team."""
        return self.score.retention.mean, float(self.cost.team.flops), float(self.cost.team.memory_bytes)

    def as_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "path": str(self.path) if self.path is not None else None,
            **self.score.as_json(),
            **self.cost.team.as_json(),
            "worst_agent": self.cost.worst_agent.as_json(),
            "teacher": self.teacher.team.as_json(),
            **({"refinements": [each.model_dump() for each in self.refinements]} if self.refinements else {}),
            **({"hindsight": self.hindsight.model_dump()} if self.hindsight is not None else {}),
            "groups": {
                group: {
                    "spec": spec.as_json(),
                    "cost": self.cost.agents[group].as_json(),
                    "agents": self.cost.seats[group],
                    "teacher_cost": self.teacher.agents[group].as_json(),
                }
                for group, spec in self.candidate.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Member":
        groups = data["groups"]
        seats = {group: int(entry["agents"]) for group, entry in groups.items()}
        return cls(
            trial=int(data["trial"]),
            path=Path(data["path"]) if data["path"] is not None else None,
            candidate={group: StudentSpec.from_json(entry["spec"]) for group, entry in groups.items()},
            score=Score.from_json(data),
            cost=TeamCost(agents={g: Cost.from_json(entry["cost"]) for g, entry in groups.items()}, seats=seats),
            teacher=TeamCost(
                agents={g: Cost.from_json(entry["teacher_cost"]) for g, entry in groups.items()}, seats=seats
            ),
            refinements=tuple(Refinement.model_validate(entry) for entry in data.get("refinements", ())),
            hindsight=Hindsight.model_validate(data["hindsight"]) if "hindsight" in data else None,
        )


@dataclass(frozen=True, kw_only=True)
class ParetoFront(Sequence[Member]):
    """The members of a front, the highest retention first."""

    members: tuple[Member, ...]
    final: bool
    """Scored on the final seeds, which nothing was chosen on; otherwise on the search's own."""
    folder: Path | None = field(default=None)

    def best(self, selector: str = "max retention") -> Member:
        """The member that a selector means, for example `front.best("knee")` or `.best("retention>=95%, min memory")`.

        Raises:
            BudgetError: the selector cannot be read, or no member meets it.
        """
        return parse_selector(selector).choose(self.members)

    def as_json(self) -> list[dict[str, Any]]:
        return [member.as_json() for member in self.members]

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def __getitem__(self, index: Any) -> Any:
        return self.members[index]


def make_front(members: Sequence[Member], *, final: bool, folder: Path | None = None) -> ParetoFront:
    """A front in the order in which it is printed."""
    order = sorted(members, key=lambda m: (-m.score.retention.mean, m.cost.team.flops, m.trial))
    return ParetoFront(members=tuple(order), final=final, folder=folder)


def read_front(path: Path) -> ParetoFront:
    """Read `front.json` of a run; student folders and returns are found beside it, wherever the run was moved to.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        members = [Member.from_json(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}; has this search ended?") from error
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise RunError(f"{path}: is damaged ({error!r}); repeat the search's command to write it again") from error
    root = path.parent
    here = [
        replace(
            member,
            path=root / "students" / member.path.name if member.path else None,
            parts=_read_parts(root, member.trial),
        )
        for member in members
    ]
    return make_front(here, final=True, folder=root)


def final_name(trial: int) -> str:
    """What the final returns of a trial's team are kept as, beside those of the teacher and of random play."""
    return f"final-{trial:04d}"


def _read_parts(run: Path, trial: int) -> NDArray[np.float64] | None:
    folder, names = ReturnsFolder(run / "returns"), (final_name(trial), "final-teacher", "final-random")
    if not all(folder.has(name) for name in names):
        return None
    return retention_parts(*(folder.load(name) for name in names))


def non_dominated(points: Sequence[Objectives]) -> list[int]:
    """Positions of the points that no other point dominates; of equal points the first."""
    import moocore

    if not points:
        return []
    kept = moocore.is_nondominated(np.array(points, np.float64), maximise=[True, False, False], keep_weakly=False)
    return [index for index, keep in enumerate(kept) if keep]


def hypervolume(points: Sequence[Objectives], teacher: TeamCost) -> float:
    """Volume that the points dominate: retention x decades of FLOPs saved x decades of memory saved.

    The reference point is a team that retains nothing at the teacher's own price. Example: one team with retention
    .9 at a tenth of the FLOPs and a hundredth of the memory has .9 x 1 x 2 = 1.8.
    """
    import moocore

    base = teacher.team
    kept = [
        (-retention, math.log10(flops / base.flops), math.log10(memory / base.memory_bytes))
        for retention, flops, memory in points
        if retention > 0 and flops < base.flops and memory < base.memory_bytes
    ]
    return float(moocore.hypervolume(np.array(kept), ref=[0.0, 0.0, 0.0])) if kept else 0.0


def thin(points: Sequence[Objectives], teacher: TeamCost, count: int) -> list[int]:
    """Places of at most `count` points: that of the highest retention, and then, one after the other, of whichever adds
    most to the hypervolume; in the order of the points."""
    if len(points) <= count:
        return list(range(len(points)))
    chosen = [max(range(len(points)), key=lambda place: points[place][0])]
    while len(chosen) < count:
        left = [place for place in range(len(points)) if place not in chosen]
        known = [points[place] for place in chosen]
        chosen.append(max(left, key=lambda place: hypervolume([*known, points[place]], teacher)))
    return sorted(chosen)
