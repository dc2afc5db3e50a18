"""Whole searches, in worker processes of their own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdnas.distill.bank import StudentBank
from kdnas.distill.stage import Stage
from kdnas.errors import BudgetError, KdnasError, RunError
from kdnas.spaces.spec import StudentSpec
from kdnas.students.bundle import load_student
from kdnas.students.weights import read_tensors, write_tensors
from kdnas.study.device_profile import PROFILE, read_profile
from kdnas.study.evaluate import evaluate
from kdnas.study.export import export_trial
from kdnas.study.front import Member, ParetoFront, read_front
from kdnas.study.run_folder import trials_of
from kdnas.study.search import profile, search
from kdnas.study.sensors import removable_features
from kdnas.study.setup import open_study, read_study
from kdnas.study.tasks import make_bank
from kdnas.study.verify import verify
from kdnas.study.watch import Progress

from .conftest import BUDGET, Notes, WriteStudy, states


def test_a_search_ends_with_a_front_inside_the_budget(finished: tuple[Path, ParetoFront, Notes]) -> None:
    run, front, _ = finished
    assert front.final
    trials = trials_of(run)
    rejected = [trial for trial in trials if "mlp 12" in str(trial.user_attrs["candidate"])]
    assert rejected
    assert {trial.user_attrs["ended"] for trial in rejected} == {"rejected"}
    assert all(trial.state.name == ("PRUNED" if "ended" in trial.user_attrs else "COMPLETE") for trial in trials)
    assert {t.user_attrs.get("ended", "played") for t in trials if t not in rejected} <= {"played", "outraced"}
    # 72 MACs are 144 FLOPs, and 144 / 96 - 1 = 50 %.
    assert {trial.user_attrs["reason"] for trial in rejected} == {"breaks flops<=96 by 50 %"}
    assert len(front) >= 1
    for member in front:
        assert {group: cost.flops <= 96 for group, cost in member.cost.agents.items()} == {"left": True, "right": True}
        assert member.cost.team.memory_bytes < 1024
        # 384 MACs of the teacher over 48 to 24.
        assert 8 <= member.flops_reduction <= 16
        assert member.score.retention.episodes == 64
        assert member.score.retention.low <= member.score.retention.mean <= member.score.retention.high
    # 4 or 8 hidden units are enough to name the largest of three numbers most of the time.
    assert front.best().score.retention.mean > 0.6
    assert [member.score for member in read_front(run / "front.json")] == [member.score for member in front]


def test_the_front_keeps_its_final_returns(finished: tuple[Path, ParetoFront, Notes]) -> None:
    run, front, _ = finished
    for one, again in zip(front, read_front(run / "front.json"), strict=True):
        returns = np.load(run / f"returns/final-{one.trial:04d}.npy")
        assert returns.shape == (64,)
        assert returns.mean() == pytest.approx(one.score.returned.mean)
        assert one.parts is not None
        assert one.parts.mean() == pytest.approx(one.score.retention.mean)
        assert again.parts == pytest.approx(one.parts)
    assert front.best("one-se").cost.team.flops <= front.best().cost.team.flops


def test_student_folders_are_whole_and_act(finished: tuple[Path, ParetoFront, Notes]) -> None:
    run, front, _ = finished
    assert sorted(path.name for path in (run / "students").iterdir()) == sorted(f"{m.trial:04d}" for m in front)
    for member in front:
        assert member.path is not None
        assert sorted(path.name for path in member.path.iterdir()) == [
            "README.md",
            "student.json",
            "student.safetensors",
            "team.onnx",
        ]
        team = load_student(member.path)
        assert team.card.artifacts[0].agreed_rows == team.card.artifacts[0].checked_rows == 2 * 320  # 64 episodes x 5
        assert team.card.cost["flops"] == member.cost.team.flops
        actions = team.act({"left": np.eye(3) * 3.0, "right": [0.0, 0.0, 3.0]})
        assert actions["left"].shape == (3,)
        assert actions["right"] in (0, 1, 2)
    best = load_student(front.best().path or "")
    assert best.act({"left": np.eye(3) * 3.0})["left"].tolist() == [0, 1, 2]


def test_a_student_is_trained_once_for_all_groups_of_a_pool(finished: tuple[Path, ParetoFront, Notes]) -> None:
    run, _, notes = finished
    # `left` and `right` share the teacher: at most the ancestor of 16 units and, at three rungs, its children of 8, 6
    # and 4.
    assert notes.last is not None
    assert notes.last.trainings == len(list((run / "bank").iterdir())) <= 1 + 3 * 3
    assert (notes.last.ended, notes.last.failed, notes.last.running) == (6, 0, 0)
    assert notes.last.done == states(run).count("COMPLETE")
    assert notes.last.rejected + notes.last.outraced == states(run).count("PRUNED")


def test_how_busy_the_workers_were_is_said(finished: tuple[Path, ParetoFront, Notes]) -> None:
    (said,) = (text for text in finished[2].messages if text.startswith("workers "))
    assert 0 < int(said.removeprefix("workers were busy ").removesuffix(" % of their time")) <= 100


def test_the_anchors_come_first(finished: tuple[Path, ParetoFront, Notes]) -> None:
    candidates = [trial.user_attrs["candidate"] for trial in trials_of(finished[0])[:2]]
    # Half of 16 units; then the first of the ratios, 25 %.
    assert candidates == [{"left": spec, "right": spec} for spec in ("mlp 8 float", "mlp 12 float")]


def test_the_same_call_goes_on_to_a_larger_total(copied: Path, write_study: WriteStudy) -> None:
    told = [(trial.number, trial.values) for trial in trials_of(copied)]
    known, notes = read_profile(copied / PROFILE).measured, Notes()
    front = search(write_study("echo"), budget=list(reversed(BUDGET)), trials=9, out=copied, watch=notes)
    trials = trials_of(copied)
    assert [(trial.number, trial.values) for trial in trials[:6]] == told
    assert len(trials) == 9
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    assert notes.last is not None
    assert notes.last.ended == 9
    assert all(member.path is not None and member.path.parent == copied / "students" for member in front)
    # The same shape is not measured twice in one search, but again at the end, for the front.
    assert read_profile(copied / PROFILE).measured.items() >= known.items()
    assert all(cost.latency_p95_s > 0 for member in front for cost in member.cost.agents.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": ["flops<=94"]}, r"budget was flops<=96, team.memory<1024B, is flops<=94"),
        ({"seed": 7}, r"seed was 0, is 7"),
    ],
)
def test_another_search_is_refused(
    finished: tuple[Path, ParetoFront, Notes], write_study: WriteStudy, change: dict[str, Any], said: str
) -> None:
    before = sorted(path.stat().st_mtime_ns for path in finished[0].rglob("*") if path.is_file())
    with pytest.raises(RunError, match=rf"belongs to another search \({said}\); choose another --out"):
        search(write_study("echo"), **{"budget": BUDGET, "trials": 6, "out": finished[0]} | change)
    assert sorted(path.stat().st_mtime_ns for path in finished[0].rglob("*") if path.is_file()) == before


WIDE = {
    "name": "two_sizes",
    "groups": {
        "default": {
            "bits": ["float"],
            "bases": [{"hidden": [8], "prune": [0.0]}, {"hidden": [1024] * 5, "prune": [0.0]}],
        }
    },
}


@pytest.mark.alone
def test_what_is_too_slow_is_never_trained(write_study: WriteStudy, tmp_path: Path) -> None:
    path = write_study("two_sizes", space=WIDE)
    small, large = (profile(path).teams[index].cost.worst_agent.latency_p95_s for index in (0, 2))
    assert small * 3 < large  # 48 MACs and four million
    limit = (small * large) ** 0.5
    front = search(path, budget=f"latency<{limit * 1e6:.3f}us", trials=8, out=tmp_path / "run")
    trials = trials_of(tmp_path / "run")
    slow = [trial for trial in trials if "1024" in str(trial.user_attrs["candidate"])]
    assert slow  # half of the space, and the sampler has to find out
    assert {trial.state.name for trial in slow} == {"PRUNED"}
    assert {trial.state.name for trial in trials if trial not in slow} == {"COMPLETE"}
    assert all(trial.user_attrs["reason"].startswith("breaks latency<") for trial in slow)
    assert all(max(trial.constraints.values()) > 0 for trial in slow)
    # One network of 8 units was trained, and it is its own ancestor.
    assert len(list((tmp_path / "run" / "bank").iterdir())) == 1
    assert [set(member.candidate.values()) for member in front] == [
        {StudentSpec(family="mlp", base=(8,), hidden=(8,))}
    ]
    assert all(cost.latency_p95_s < limit for member in front for cost in member.cost.agents.values())


def test_a_damaged_ancestor_ends_in_a_sentence(
    finished: tuple[Path, ParetoFront, Notes], copied: Path, write_study: WriteStudy
) -> None:
    setup = open_study(read_study(write_study("echo"), budget=BUDGET))
    bank: StudentBank = make_bank(setup, copied)
    ancestor = Stage(spec=StudentSpec(family="mlp", base=(16,), hidden=(16,)))
    path = bank._path(setup.pools["left"], ancestor)
    tensors, facts = read_tensors(path)
    tensors["linears.0.weight"][0, 0] = torch.nan
    write_tensors(path, tensors, facts)
    for child in set((copied / "bank").iterdir()) - {path}:
        child.unlink()  # so that the ancestor is needed again
    with pytest.raises(KdnasError, match=r"mlp 16 float cannot be used: 'linears.0.weight' holds NaN .*; delete"):
        search(write_study("echo"), budget=BUDGET, trials=20, out=copied)
    # Nothing is lost: without the file the same call goes on, and what was deleted is the same when trained again.
    path.unlink()
    ended = len([state for state in states(copied) if state in ("COMPLETE", "PRUNED")])
    front = search(write_study("echo"), budget=BUDGET, trials=ended + 1, out=copied)
    # Those that waited for the ancestor were cut off; of them one was asked again.
    counted = [trial.state.name for trial in trials_of(copied) if not trial.user_attrs.get("interrupted")]
    assert len([state for state in counted if state != "WAITING"]) == ended + 1
    assert set(counted) <= {"COMPLETE", "PRUNED", "WAITING"}
    old = {member.trial: member.score for member in finished[1]}
    again = [member for member in front if member.trial in old]
    assert again
    assert all(member.score == old[member.trial] for member in again)


MIXED = {
    "name": "mixed",
    "groups": {"default": {"bits": ["float", "w4a8i8"], "bases": [{"hidden": [16], "prune": [0.5, 0.75]}]}},
}


def _timeless(trial: Any) -> dict[str, Any]:
    """What was written down with a trial, but when."""
    return {name: value for name, value in trial.user_attrs.items() if name != "judged_at"}


def _delivered(member: Member) -> tuple[Any, ...]:
    """A member of a front with its weights, but without what was measured."""
    weights = load_student(member.path or "").card.hashes.weights
    return member.trial, member.candidate, member.score, member.refinements, member.hindsight, weights


class Dawdler(Notes):
    """Keeps the coordinator from looking, so that several tasks have ended when it does."""

    def progress(self, progress: Progress) -> None:
        time.sleep(0.1)


@pytest.mark.slow
def test_a_search_that_is_repeated_goes_the_same_way(write_study: WriteStudy, tmp_path: Path) -> None:
    """One worker, one seed, and prices as they were measured before: every trial is the same, to the last bit."""
    episodes = {"search_episodes": 128, "first_episodes": 32, "final_episodes": 8}
    distill = {"rungs": [0.25, 1.0], "flip_rounds": 4}
    path = write_study("repeated", space=MIXED, evaluation=episodes, distill=distill)
    front = search(path, trials=16, seed=2, out=tmp_path / "first")
    again = search(
        tmp_path / "first" / "study.toml",
        out=tmp_path / "second",
        device_profile=tmp_path / "first" / PROFILE,
        watch=Dawdler(),
    )
    first, second = (
        [(trial.state, trial.values, trial.params, _timeless(trial), trial.constraints) for trial in trials_of(run)]
        for run in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second
    assert len(front) > 1
    assert [_delivered(member) for member in front] == [_delivered(member) for member in again]
    # It was no short way: some lost, some were proposed, and some were played.
    attributes = [user for _, _, _, user, _ in first]
    assert any(user.get("ended") == "outraced" for user in attributes)
    assert any(user.get("proposed") for user in attributes)
    assert any("score" in user for user in attributes)


@pytest.mark.slow
def test_a_candidate_that_diverges_fails_with_its_reason(write_study: WriteStudy, tmp_path: Path) -> None:
    # A quantized network clips what becomes too large; weights beyond float32 are noticed even so.
    path = write_study("diverging", space=MIXED, **{"distill.qat_learning_rate": 3e38})
    front = search(path, trials=8, out=tmp_path / "run")
    trials = trials_of(tmp_path / "run")
    quantized = [trial for trial in trials if "w4a8i8" in str(trial.user_attrs["candidate"])]
    assert quantized
    assert {trial.state.name for trial in quantized} == {"FAIL"}
    assert all("mlp" in trial.user_attrs["reason"] and "w4a8i8" in trial.user_attrs["reason"] for trial in quantized)
    assert {trial.state.name for trial in trials if trial not in quantized} <= {"COMPLETE", "PRUNED"}
    assert all(not spec.bits.quantized for member in front for spec in member.candidate.values())


@pytest.mark.slow
def test_quantized_students_reach_the_front(write_study: WriteStudy, tmp_path: Path) -> None:
    path = write_study("mixed", space=MIXED, **{"env.kwargs": {"kinds": True}})
    front = search(path, budget="right.memory<150B", trials=4, out=tmp_path / "run")
    # 4-2 at 4 units: 16 + 8 MACs. Float: 4 * (24 + 4 + 2) + 4 * (4 + 4) = 152 B; w4: 8 + 4 + 4 * (6 + 4) + 12 = 64 B.
    assert {member.candidate["right"].bits.quantized for member in front} == {True}
    for member in front:
        team = load_student(member.path or "")
        assert team.act({"right": [3.0, 0.0, 0.0, 0.0]})["right"] in (0, 1)


def test_workers_that_cannot_open_the_study_say_so(
    copied: Path, write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they read may have gone since the coordinator read it."""
    path = write_study("echo")

    def remove(*_: object) -> bool:
        (path.parent / "echo_task.py").rename(path.parent / "gone.py")
        return True

    (copied / "returns" / "search-teacher.npy").unlink()
    monkeypatch.setattr("kdnas.study.run_folder.RunFolder.keep", remove)
    try:
        with pytest.raises(KdnasError, match="'echo_task:make' cannot be imported: No module named 'echo_task'"):
            search(path, budget=BUDGET, trials=7, out=copied)
    finally:
        (path.parent / "gone.py").rename(path.parent / "echo_task.py")


SCRIPT = """
import sys
from kdnas.study.device_profile import PROFILE, read_profile
from kdnas.study.interrupt import SearchInterrupted
from kdnas.study.search import search

class Shout:
    def preflight(self, report): pass
    def message(self, text): print("message", text, flush=True)
    def progress(self, progress): print("progress", progress.done, progress.running, flush=True)

if __name__ == "__main__":
    try:
        search(sys.argv[1], out=sys.argv[2], watch=Shout())
    except SearchInterrupted:
        sys.exit(130)
"""


@pytest.fixture
def patient(write_study: WriteStudy) -> Path:
    """A study whose teams take a tenth of a second to play."""
    space = {
        "name": "patient",
        "groups": {"default": {"bits": ["float"], "bases": [{"hidden": [16], "prune": [0.25, 0.5, 0.625, 0.75]}]}},
    }
    return write_study("patient", space=space, **{"env.kwargs": {"step_s": 0.02}, "search.trials": 10})


@pytest.fixture
def start(patient: Path, tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def go() -> "subprocess.Popen[str]":
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        process = subprocess.Popen(
            [sys.executable, str(script), str(patient), str(tmp_path / "run")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: "subprocess.Popen[str]", sign: str) -> str:
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if line.startswith(sign):
            return said
    raise AssertionError(said)


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_told(
    start: Callable[[], "subprocess.Popen[str]"], patient: Path, tmp_path: Path
) -> None:
    process = start()
    read_until(process, "progress 2")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers too
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "message ending what runs now; Ctrl-C again stops at once" in output
    told = {trial.number: trial.values for trial in trials_of(tmp_path / "run") if trial.state.name == "COMPLETE"}
    assert 2 <= len(told) < 10
    assert "RUNNING" not in states(tmp_path / "run")

    search(patient, out=tmp_path / "run")
    trials = trials_of(tmp_path / "run")
    assert {trial.number: trial.values for trial in trials if trial.number in told} == told
    # What was cut off was asked again, with the same parameters, and does not count.
    cut = [trial for trial in trials if trial.user_attrs.get("interrupted")]
    again = {trial.user_attrs.get("repeats"): trial for trial in trials}
    ended = [trial.state.name for trial in trials if trial not in cut]
    assert len(ended) == 10
    assert set(ended) <= {"COMPLETE", "PRUNED"}  # some may lose the race
    assert all(again[trial.number].params == trial.params for trial in cut)


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(
    start: Callable[[], "subprocess.Popen[str]"], patient: Path, tmp_path: Path
) -> None:
    process = start()
    read_until(process, "progress 1")
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    children = {child for thread in threads for child in (thread / "children").read_text().split()}
    assert len(children) >= 2  # a worker, and multiprocessing's own
    process.kill()  # the coordinator alone: workers must notice
    process.wait()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "RUNNING" in states(tmp_path / "run")
    wanted = sum(state in ("COMPLETE", "PRUNED") for state in states(tmp_path / "run")) + 2
    search(patient, trials=wanted, out=tmp_path / "run")
    assert "RUNNING" not in states(tmp_path / "run")
    ended = [state for state in states(tmp_path / "run") if state in ("COMPLETE", "PRUNED")]
    assert len(ended) == wanted
    assert "COMPLETE" in ended


@pytest.mark.slow
def test_ctrl_c_at_the_end_keeps_what_was_refined(
    start: Callable[[], "subprocess.Popen[str]"], patient: Path, tmp_path: Path
) -> None:
    process = start()
    read_until(process, "message refining")
    said = read_until(process, "message trial")  # the first team has been through it
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert "joint recovery was" in said
    stored = {path: path.read_bytes() for path in (tmp_path / "run" / "refined").glob("*.safetensors")}
    assert stored
    stamps = {path: path.stat().st_mtime_ns for path in stored}
    assert not (tmp_path / "run" / "front.json").exists()
    notes = Notes()
    front = search(patient, out=tmp_path / "run", watch=notes)
    assert {path: path.stat().st_mtime_ns for path in stored} == stamps
    told = [text for text in notes.messages if text.startswith("refining")]
    left = len(front) - len(stored)
    assert told == ([f"refining {left} of the {len(front)} teams of the front by joint recovery"] if left else [])
    assert all(member.refinements for member in front)


def test_inputs_that_never_change_are_left_out_everywhere(write_study: WriteStudy, tmp_path: Path) -> None:
    path, run, notes = write_study("still", **{"env.kwargs": {"still": 2}}), tmp_path / "run", Notes()
    front = search(path, budget=BUDGET, trials=3, out=run, watch=notes)
    assert notes.messages[1] == "inputs that never change are left out: 3-4 of left, right"
    # As without them: 6 MACs a unit, and 8 units are the most that 96 FLOPs allow.
    assert notes.reports[0].largest_feasible["left"].hidden == (8,)
    assert {cost.macs for team in profile(path, budget=BUDGET).teams[:1] for cost in team.cost.agents.values()} == {24}
    for member in front:
        assert {cost.macs // sum(member.candidate[group].hidden) for group, cost in member.cost.agents.items()} == {6}
        student = load_student(member.path or "")
        assert student.team.spec.student_spec("left").constant == (3, 4)
        assert student.act({"left": [0.0, 0.0, 3.0, 9.0, 9.0]})["left"] in (0, 1, 2)
        assert student.card.artifacts[0].agreed_rows == student.card.artifacts[0].checked_rows
        assert "are not read: 3-4 of left; 3-4 of right." in (member.path / "README.md").read_text()  # type: ignore[operator]
    # Every command that opens the run comes to the same students.
    banked = sorted((run / "bank").iterdir())
    search(path, budget=BUDGET, trials=4, out=run)
    assert set(banked) <= set((run / "bank").iterdir())
    played = next(trial for trial in trials_of(run) if trial.state.name == "COMPLETE")
    shutil.rmtree(run / "students")
    folder = export_trial(run, played.number, tmp_path / "out", "onnx")
    assert load_student(folder).team.students["right"].spaces.kept == (0, 1, 2)
    assert list(evaluate(folder, episodes=4, seed=1, study=str(path)).values())


def test_students_are_pruned_of_the_inputs_that_matter_least(write_study: WriteStudy, tmp_path: Path) -> None:
    """`left` names the largest of the three numbers that it sees; `right` the larger of the first two of its four."""
    base = {"hidden": [16], "prune": [0.5], "inputs": [1.0, 0.5]}
    space = {"name": "fewer", "groups": {"default": {"bases": [base], "bits": ["float", "w8a8i8"]}}}
    changes = {"env.kwargs": {"kinds": True}}
    path, run, notes = write_study("fewer", space=space, **changes), tmp_path / "run", Notes()
    front = search(path, budget=["latency<1s"], trials=4, out=run, watch=notes)
    smallest = next(team for team in notes.reports[0].teams if team.name == "smallest")
    # 2 * 8 + 8 * 3 and 2 * 8 + 8 * 2 multiply-accumulates.
    assert {group: cost.macs for group, cost in smallest.cost.agents.items()} == {"left": 40, "right": 32}
    fewer = [member for member in front if member.candidate["right"].inputs == 2]
    assert fewer
    for member in fewer:
        student = load_student(member.path or "")
        spaces = student.team.students["right"].spaces
        assert (spaces.pruned, spaces.kept) == ((2, 3), (0, 1))
        assert member.cost.agents["right"].macs == 32
        said = [student.act({"right": [0.0, 1.0, *rest]})["right"] for rest in ((0.0, 0.0), (90.0, -90.0))]
        assert said == [1, 1]
        assert all(artifact.agreed_rows == artifact.checked_rows for artifact in student.card.artifacts)
        assert "Features that mattered least are not read: " in (member.path / "README.md").read_text()  # type: ignore[operator]
        assert not [check for check in verify(member.path or Path(), episodes=8)[:4] if check.differs]
    # Teams that do without the others are no reason to build sensors for them.
    teams = [load_student(member.path or "").team for member in fewer]
    sizes = {group: teams[0].spec.group_spec(group).observation_size for group in teams[0].spec.groups}
    recorded = {group: np.zeros((9, size), np.float32) for group, size in sizes.items()}
    assert set(removable_features(teams, recorded)["right"]) >= {2, 3}


def test_a_budget_that_nothing_meets_leaves_nothing_behind(write_study: WriteStudy, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="no candidate meets 'flops<1'"):
        search(write_study("echo"), budget=["flops<1"], out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
