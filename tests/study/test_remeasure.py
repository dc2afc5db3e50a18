"""The end of a search measures again, and who breaks the budget then leaves the front."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdnas.errors import RunError, StudentError
from kdnas.policies.arrays import Floats
from kdnas.profiling import Measurement
from kdnas.students import Student, load_family
from kdnas.study.deliver import recorded_rows
from kdnas.study.front import Member, read_front
from kdnas.study.remeasure import REPEATS, measure_student, remeasure
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import make_bank, record_demonstrations

from .conftest import BUDGET, Notes, WidthTarget, WriteStudy


class Aged(WidthTarget):
    """Takes a second for each hidden unit of a finished student."""

    drift = 0.0

    def measure_student(self, student: Student, views: Floats) -> Measurement:
        self.asked.append(f"{student.spec} on {len(views)} rows")
        units = float(sum(student.spec.hidden))
        return Measurement(p50_s=units, p95_s=units, p99_s=units, flash_bytes=7, ram_bytes=9, drift=self.drift)


class Picky(Aged):
    """Does not run students of 8 units."""

    def measure_student(self, student: Student, views: Floats) -> Measurement:
        if sum(student.spec.hidden) == 8:
            raise StudentError(f"{student.spec}: too many units")
        return super().measure_student(student, views)


class Flaky(Aged):
    """Fails at first, as a connection may that is then there again."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 1

    def measure_student(self, student: Student, views: Floats) -> Measurement:
        if self.lost:
            self.lost -= 1
            raise StudentError("connection lost")
        return super().measure_student(student, views)


class Wavering(WidthTarget):
    """On a machine that becomes faster and slower, sometimes in the middle of a measurement."""

    def __init__(self, *taken: tuple[float, float, float]) -> None:
        super().__init__()
        self.taken = list(taken)

    def measure_student(self, student: Student, views: Floats) -> Measurement:
        time, reference, drift = self.taken.pop(0)
        return Measurement(p50_s=time, p95_s=time, p99_s=time, reference_s=reference, drift=drift)


class Restless(Aged):
    """On a machine that becomes a quarter slower."""

    drift = 0.25


@pytest.mark.parametrize(
    ("taken", "time", "reference"),
    [
        # Time, the reference kernel beside it, and its drift: the median time, with its own reference.
        ([(3.0, 1.0, 0.0), (1.0, 0.5, 0.0), (2.0, 0.7, 0.0)], 2.0, 0.7),
        # Who was disturbed does not count: of two that stand the slower.
        ([(3.0, 1.0, 0.2), (1.0, 0.5, 0.0), (2.0, 0.7, 0.1)], 2.0, 0.7),
        ([(2.0, 0.7, 0.2), (1.0, 0.5, 0.0), (3.0, 1.0, 0.3)], 1.0, 0.5),
        # But where all were.
        ([(3.0, 1.0, 0.2), (1.0, 0.5, 0.2), (2.0, 0.7, 0.2)], 2.0, 0.7),
        # One that is not measured meanwhile is measured afterwards: with `WidthTarget` it takes 1 s.
        ([(3.0, 0.0, 0.0), (1.0, 0.0, 0.0), (2.0, 0.0, 0.0)], 2.0, 1.0),
    ],
)
def test_which_measurement_counts(
    setup: Setup, taken: list[tuple[float, float, float]], time: float, reference: float
) -> None:
    pool, spec = setup.pools["left"], next(iter(setup.space.groups["left"].parameters))
    student = Student(spec, pool.spaces, load_family("mlp").build(spec, pool.spaces, torch.Generator().manual_seed(0)))
    found = measure_student(Wavering(*taken), student, np.zeros((1, 3), np.float32), len(taken))
    assert (found.p50_s, found.reference_s) == (time, reference)


def test_members_get_the_price_of_their_own_weights(copied: Path, write_study: WriteStudy) -> None:
    setup = open_study(read_study(write_study("echo"), budget=BUDGET))
    members, target, notes = list(read_front(copied / "front.json")), Aged(), Notes()
    recorded = recorded_rows(setup, record_demonstrations(setup, copied))
    bank = make_bank(setup, copied)
    teams = {member.trial: bank.team(setup.spec, setup.pools, member.candidate) for member in members}
    again = remeasure(setup, target, members, teams, recorded, notes)
    assert [member.trial for member in again] == [member.trial for member in members]
    for member in again:
        for group, spec in member.candidate.items():
            cost = member.cost.agents[group]
            assert (cost.latency_p95_s, cost.flash_bytes, cost.ram_bytes) == (sum(spec.hidden), 7, 9)
            assert cost.reference_s == target.reference_s()
    # Each student as often, however many teams it plays in.
    assert len(target.asked) == REPEATS * len(set(target.asked))

    widest = max(member.cost.worst_agent.latency_p95_s for member in again)
    strict = replace(setup, budget=open_study(read_study(write_study("echo"), budget=[f"latency<{widest}s"])).budget)
    kept = remeasure(strict, target, members, teams, recorded, notes)
    gone = [member.trial for member in again if member.cost.worst_agent.latency_p95_s == widest]
    assert [member.trial for member in kept] == [member.trial for member in again if member.trial not in gone]
    assert all("leaves the front: measured again at the end, it breaks latency<" in text for text in notes.messages)
    assert len(notes.messages) == len(gone)
    none = replace(setup, budget=open_study(read_study(write_study("echo"), budget=["latency<1us"])).budget)
    with pytest.raises(RunError, match=r"none of the \d+ teams of the front meets the budget when it is measured"):
        remeasure(none, target, members, teams, recorded, notes)


def test_who_does_not_run_leaves_the_front(copied: Path, write_study: WriteStudy) -> None:
    setup = open_study(read_study(write_study("echo"), budget=BUDGET))
    members, notes = list(read_front(copied / "front.json")), Notes()
    recorded = recorded_rows(setup, record_demonstrations(setup, copied))
    bank = make_bank(setup, copied)
    teams = {member.trial: bank.team(setup.spec, setup.pools, member.candidate) for member in members}

    def picked(member: Member) -> bool:
        return any(spec.hidden == (8,) for spec in member.candidate.values())

    assert {picked(member) for member in members} == {True, False}
    kept = remeasure(setup, Picky(), members, teams, recorded, notes)
    assert [member.trial for member in kept] == [member.trial for member in members if not picked(member)]
    assert all("leaves the front: mlp 8 " in text for text in notes.messages)
    assert len(notes.messages) == len(members) - len(kept)
    everybody = remeasure(setup, Flaky(), members, teams, recorded, notes)
    assert [member.trial for member in everybody] == [member.trial for member in members]
    with pytest.raises(StudentError, match="too many units"):
        remeasure(setup, Picky(), [member for member in members if picked(member)], teams, recorded, notes)


def test_a_restless_machine_is_said_once_a_student(copied: Path, write_study: WriteStudy) -> None:
    setup = open_study(read_study(write_study("echo"), budget=BUDGET))
    members, target, notes = list(read_front(copied / "front.json")), Restless(), Notes()
    recorded = recorded_rows(setup, record_demonstrations(setup, copied))
    bank = make_bank(setup, copied)
    teams = {member.trial: bank.team(setup.spec, setup.pools, member.candidate) for member in members}
    remeasure(setup, target, members, teams, recorded, notes)
    assert len(notes.messages) == len(set(target.asked))
    assert all(text.endswith("the reference kernel drifted by 25%") for text in notes.messages)
