"""The end of a search measures again, and who breaks the budget then leaves the front."""

from dataclasses import replace
from pathlib import Path

import pytest

from kdnas.errors import RunError
from kdnas.policies.arrays import Floats
from kdnas.profiling import Measurement
from kdnas.students import Student
from kdnas.study.deliver import recorded_rows
from kdnas.study.front import read_front
from kdnas.study.remeasure import REPEATS, remeasure
from kdnas.study.setup import open_study, read_study
from kdnas.study.tasks import make_bank, record_demonstrations

from .conftest import BUDGET, Notes, WidthTarget, WriteStudy


class Aged(WidthTarget):
    """Takes a second for each hidden unit of a finished student."""

    drift = 0.0

    def measure_student(self, student: Student, views: Floats) -> Measurement:
        self.asked.append(f"{student.spec} on {len(views)} rows")
        units = float(sum(student.spec.hidden))
        return Measurement(p50_s=units, p95_s=units, p99_s=units, flash_bytes=7, ram_bytes=9, drift=self.drift)


class Restless(Aged):
    """On a machine that becomes a quarter slower."""

    drift = 0.25


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


def test_a_restless_machine_is_said_once_a_student(copied: Path, write_study: WriteStudy) -> None:
    setup = open_study(read_study(write_study("echo"), budget=BUDGET))
    members, target, notes = list(read_front(copied / "front.json")), Restless(), Notes()
    recorded = recorded_rows(setup, record_demonstrations(setup, copied))
    bank = make_bank(setup, copied)
    teams = {member.trial: bank.team(setup.spec, setup.pools, member.candidate) for member in members}
    remeasure(setup, target, members, teams, recorded, notes)
    assert len(notes.messages) == len(set(target.asked))
    assert all(text.endswith("the reference kernel drifted by 25%") for text in notes.messages)
