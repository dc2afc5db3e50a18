"""A search that begins where an earlier one got to."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdnas.errors import RunError
from kdnas.study.device_profile import PROFILE, read_profile
from kdnas.study.returns import ReturnsFolder
from kdnas.study.run_folder import trials_of
from kdnas.study.search import search
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import record_demonstrations, see_demonstrations
from kdnas.study.warm_start import WarmStart, find_warm_start

from .conftest import BUDGET, Finished, Notes, WidthTarget, WriteStudy

WIDER: dict[str, Any] = {
    "name": "echo_wider",
    "groups": {"default": {"bits": ["float", "w8a8i8"], "bases": [{"hidden": [16], "prune": [0.5, 0.875]}]}},
}
"""Widths 8, which the other space has too, and 2."""


def snapshot(run: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(run)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }


def bank_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "bank").iterdir()}


def opened(study: Path, run: Path, **changes: Any) -> Setup:
    setup = open_study(read_study(study, **changes))
    return see_demonstrations(setup, record_demonstrations(setup, run))


@pytest.fixture
def look(write_study: WriteStudy, tmp_path: Path) -> Any:
    def find(run: Path, file: str = "echo", seed: int | None = None, **changes: Any) -> WarmStart:
        """What a study would take over from a run."""
        return find_warm_start(run, opened(write_study(file, **changes), tmp_path, seed=seed), WidthTarget())

    return find


def test_all_that_the_same_study_names_is_taken_over(finished: Finished, look: Any) -> None:
    run, front, _ = finished
    warm = look(run)
    assert len(warm.students) == len(bank_of(run))
    assert sum(stage.is_ancestor for _, stage in warm.students) == 1
    assert [dict(team) for team in warm.teams] == [dict(member.candidate) for member in front]
    # Each of both groups was played with each student of the pool that some trial of it was judged by.
    others = ("team", "search", "validation", "final")
    alone = {path.stem for path in (run / "returns").iterdir() if not path.stem.startswith(others)}
    assert warm.returns.keys() == alone
    assert warm.measured == {}  # of another target


def test_another_budget_space_and_length(
    finished: Finished, copied: Path, write_study: WriteStudy, look: Any, tmp_path: Path
) -> None:
    run, front = copied, finished[1]
    before, notes, out = snapshot(run), Notes(), tmp_path / "wider"
    study = write_study("wider", space=WIDER, name="other", evaluation={"final_episodes": 32})
    search(study, budget="flops<=100", trials=4, out=out, warm_start=run, watch=notes)
    assert snapshot(run) == before
    warm = look(run, file="wider", space=WIDER)
    assert {stage.spec.hidden for _, stage in warm.students} == {(16,), (8,)}
    files = {f"{warm.bank.address(pool, stage)}.safetensors" for pool, stage in warm.students}
    assert {name: bank_of(out)[name] for name in files} == {name: bank_of(run)[name] for name in files}
    assert notes.last is not None
    assert notes.last.trainings == len(bank_of(out)) - len(files)
    kept = [dict(member.candidate) for member in front if {spec.hidden for spec in member.candidate.values()} == {(8,)}]
    known = len(read_profile(run / PROFILE).measured)
    (said,) = [text for text in notes.messages if text.startswith("warm start")]
    teams = f"{len(kept)} team{'' if len(kept) == 1 else 's'}"
    assert said == f"warm start from {run}: 1 ancestor, 1 student, {known} measurements, {teams}"
    asked = [trial.user_attrs["candidate"] for trial in trials_of(out)]
    assert asked[: len(kept)] == [{group: str(spec) for group, spec in team.items()} for team in kept]
    assert len(asked) == 4


def test_its_front_comes_first_and_nothing_is_trained_or_played_again(
    finished: Finished, write_study: WriteStudy, tmp_path: Path
) -> None:
    run, front, _ = finished
    out, notes = tmp_path / "again", Notes()
    call: dict[str, Any] = {"budget": BUDGET, "trials": len(front), "out": out, "warm_start": run}
    again = search(write_study("echo"), **call, watch=notes)
    assert notes.last is not None
    assert notes.last.trainings == 0
    assert bank_of(out) == bank_of(run)
    first = {member.trial: dict(member.candidate) for member in again}
    assert sorted(map(str, first.values())) == sorted(str(dict(member.candidate)) for member in front)
    assert sorted(first) == list(range(len(front)))
    # Scored on the same episodes, the same students have the same scores.
    assert [member.score for member in again] == [member.score for member in front]
    for path in (run / "returns").iterdir():
        if not path.stem.startswith(("team", "final")):
            np.testing.assert_array_equal(np.load(out / "returns" / path.name), np.load(path))
    # The same command goes on, and finds all of it there.
    trials, more = len(trials_of(out)), Notes()
    search(write_study("echo"), **call | {"trials": trials + 1}, watch=more)
    assert f"warm start from {run}: everything is here already" in more.messages
    assert len(trials_of(out)) == trials + 1


def test_a_run_that_is_there_is_given_what_it_lacks(finished: Finished, copied: Path, look: Any) -> None:
    run, _, _ = finished
    lost = sorted(bank_of(copied))[0]
    (copied / "bank" / lost).unlink()
    stamps = {path: path.stat().st_mtime_ns for path in (copied / "bank").iterdir()}
    warm = look(run)
    bank = replace(warm.bank, folder=copied / "bank")
    given = warm.hand_over(bank, ReturnsFolder(copied / "returns"))
    assert [f"{bank.address(pool, stage)}.safetensors" for pool, stage in given] == [lost]
    assert bank_of(copied) == bank_of(run)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 7}, r"\(seed was 0, is 7\)"),
        ({"distill": {"recovery_steps": 61}}, r"\(distill.recovery_steps was 60, is 61\)"),
        ({"env.kwargs": {"still": 1}}, r"\(teacher was left:.*; env.kwargs was \{\}, is \{\"still\": 1\}\)"),
    ],
)
def test_nothing_can_be_used_and_why(finished: Finished, look: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=rf"nothing of it can be used here {said}; leave out --warm-start"):
        look(finished[0], **changes)


def test_students_of_other_bases_are_of_no_use(finished: Finished, look: Any) -> None:
    other = {"name": "o", "groups": {"default": {"bases": [{"hidden": [10], "prune": [0.5]}]}}}
    with pytest.raises(RunError, match="can be used here, where students are others; leave out --warm-start"):
        look(finished[0], file="others", space=other)


def test_a_refused_search_leaves_nothing(finished: Finished, write_study: WriteStudy, tmp_path: Path) -> None:
    out = tmp_path / "new"
    with pytest.raises(RunError, match=r"nothing of it can be used here \(seed was 0, is 7\)"):
        search(write_study("echo"), budget=BUDGET, seed=7, out=out, warm_start=finished[0])
    with pytest.raises(RunError, match="is no kdnas run"):
        search(write_study("echo"), budget=BUDGET, out=out, warm_start=tmp_path)
    assert not out.exists()


def test_a_run_does_not_begin_from_itself(copied: Path, write_study: WriteStudy) -> None:
    with pytest.raises(RunError, match="is this run itself, which goes on anyway; leave out --warm-start"):
        search(write_study("echo"), budget=BUDGET, trials=6, out=copied, warm_start=copied)


def test_returns_are_those_of_the_same_episodes(finished: Finished, look: Any) -> None:
    warm = look(finished[0], evaluation={"search_episodes": 32})
    assert warm.students
    assert warm.returns == {}


def test_what_is_damaged_is_passed_over(copied: Path, look: Any) -> None:
    whole = look(copied)
    damaged = sorted(bank_of(copied))[0]
    (copied / "bank" / damaged).write_bytes(b"torn")
    torn, short = sorted(whole.returns)[:2]
    (copied / "returns" / f"{torn}.npy").write_bytes(b"torn")
    np.save(copied / "returns" / f"{short}.npy", np.zeros(3))
    warm = look(copied)
    assert len(warm.students) == len(whole.students) - 1
    assert not warm.returns.keys() & {torn, short}


def test_of_a_search_that_has_not_ended_the_trials_tell_the_front(copied: Path, finished: Finished, look: Any) -> None:
    """Whatever process opens an SQLite file may write to it; this one is left alone."""
    (copied / "front.json").unlink()
    shutil.rmtree(copied / "students")
    before = snapshot(copied)
    teams = {str(dict(team)) for team in look(copied).teams}
    assert teams == {str(dict(member.candidate)) for member in finished[1]}
    assert snapshot(copied) == before
    (copied / "study.db").unlink()
    assert look(copied).teams == ()
