"""The front is measured again, with its own weights, where it will run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kdnas.budgets.cost import TeamCost
from kdnas.errors import RunError, StudentError
from kdnas.policies.arrays import Floats
from kdnas.profiling.pricer import with_measurement
from kdnas.profiling.target import Measurement, Target
from kdnas.profiling.timing import DRIFT
from kdnas.students.student import Student
from kdnas.students.team import Team
from kdnas.students.weights import weights_digest
from kdnas.study.front import Member
from kdnas.study.setup import Setup
from kdnas.study.watch import Watch

REPEATS = 3
"""Measurements of each student."""


def measure_student(target: Target, student: Student, views: Floats, repeats: int) -> Measurement:
    """Of so many measurements of a student that with the median time, and the reference kernel's time beside it.

    Those during which the machine was not as fast all the while count only where that is so of all. A target that does
    not measure its reference kernel meanwhile does so afterwards.
    """
    taken = [target.measure_student(student, views) for _ in range(repeats)]
    steady = [each for each in taken if each.drift <= DRIFT] or taken
    middle = sorted(steady, key=lambda each: each.p50_s)[len(steady) // 2]
    return middle if middle.reference_s else replace(middle, reference_s=target.reference_s())


def remeasure(
    setup: Setup,
    target: Target,
    members: Sequence[Member],
    teams: Mapping[int, Team],
    recorded: Mapping[str, Floats],
    watch: Watch,
) -> list[Member]:
    """The members at the price of their finished students, measured while nothing else runs.

    During the search a shape is measured once, with any weights, while others may use the machine. Who breaks the
    budget here, or does not run, leaves the front, with a message; so it is said where the machine was not as fast all
    the while. `teams` are those of the members, by trial.

    Raises:
        RunError: nobody is left.
        StudentError: nobody is left, and somebody did not run.
    """
    known: dict[tuple[str, str], Measurement] = {}
    kept: list[Member] = []
    failed: StudentError | None = None
    for member in members:
        costs = {}
        try:
            for group, student in teams[member.trial].students.items():
                key = setup.pools[group].name, weights_digest(student)
                if key not in known:
                    try:
                        taken = measure_student(target, student, recorded[group], REPEATS)
                    except StudentError:  # once more: a connection to a device may be lost
                        taken = measure_student(target, student, recorded[group], REPEATS)
                    known[key] = taken
                    if taken.drift > DRIFT:
                        watch.message(
                            f"{student.spec} of {group} was measured on a restless machine: while it was, the "
                            f"reference kernel drifted by {taken.drift:.0%}"
                        )
                costs[group] = with_measurement(member.cost.agents[group], known[key])
        except StudentError as error:
            failed = error
            watch.message(f"trial {member.trial} leaves the front: {error}")
            continue
        cost = TeamCost(agents=costs, seats=member.cost.seats)
        broken = {text: share for text, share in setup.budget.violations(cost, member.teacher).items() if share > 0}
        if broken:
            worst = max(broken, key=lambda text: broken[text])
            watch.message(
                f"trial {member.trial} leaves the front: measured again at the end, it breaks {worst} by "
                f"{100 * broken[worst]:.3g} %"
            )
        else:
            kept.append(replace(member, cost=cost))
    if not kept and failed is not None:
        raise failed
    if not kept:
        raise RunError(
            f"none of the {len(members)} teams of the front meets the budget when it is measured again at the end; "
            "leave more room in it, or search on a quieter machine"
        )
    return kept
