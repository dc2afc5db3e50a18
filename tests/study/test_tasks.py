"""What a worker does, in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdnas.distill.stage import Stage
from kdnas.errors import EnvError, RewardError, RunError, StudentError
from kdnas.plugins import load_reference
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.study import tasks
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import RANDOM, TEACHER, make_bank, play_team, record_demonstrations, sit_down, train_student

from .conftest import WriteStudy

DENSE = Stage(spec=StudentSpec(family="mlp", base=(16,), hidden=(16,)))
SMALL = [Stage(spec=StudentSpec(family="mlp", base=(16,), hidden=(4,)), rung=rung) for rung in range(3)]
NARROW = Stage(spec=replace(SMALL[1].spec, bits=parse_bits("w4a8i8")), rung=1)


@pytest.fixture
def desk(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tasks, "_DESK", [])
    sit_down(setup.file, tmp_path, record_demonstrations(setup, tmp_path).folder)
    return tmp_path


def test_demonstrations_are_recorded_once(setup: Setup, tmp_path: Path) -> None:
    first = record_demonstrations(setup, tmp_path)
    stamp = first.folder.stat().st_mtime_ns
    assert record_demonstrations(setup, tmp_path).folder.stat().st_mtime_ns == stamp
    # 64 episodes of 5 steps.
    assert len(first.episodes(["left"]).groups["left"].rows.views) == 320


def test_demonstrations_of_another_seed_are_others(write_study: WriteStudy, tmp_path: Path) -> None:
    folders = {
        record_demonstrations(open_study(read_study(write_study("plain"), seed=seed)), tmp_path).folder
        for seed in (0, 1)
    }
    assert len(folders) == 2


def test_a_lineage_is_trained_in_order(setup: Setup, desk: Path) -> None:
    bank = make_bank(setup, desk)
    with pytest.raises(RunError, match="banked student mlp 16 float cannot be used: No such file"):
        train_student("left", SMALL[0])
    train_student("left", DENSE)
    with pytest.raises(RunError, match="banked student mlp 4 float, rung 0 cannot be used: No such file"):
        train_student("left", SMALL[1])
    train_student("left", SMALL[0])
    assert bank.has(setup.pools["right"], SMALL[0])
    assert bank.load(setup.pools["left"], SMALL[0]).network.linears[0].out_features == 4


def test_a_rung_goes_on_from_the_one_below(setup: Setup, desk: Path) -> None:
    """Of 60 recovery steps rungs .11, .33 and 1 are 7, 20 and 60, that cool down from 5, 14 and 42 on."""
    bank, pool = make_bank(setup, desk), setup.pools["left"]
    train_student("left", DENSE)
    weights, moments = [], []
    for stage, begins in zip(SMALL, (5, 14, None), strict=True):
        train_student("left", stage)
        student, snapshot = bank.load_snapshot(pool, stage)
        weights.append(student.network.linears[0].weight)
        # Nobody goes on from the last one, nor from an ancestor or from integers.
        assert (snapshot.step if snapshot else None) == begins
        moments.append(snapshot)
    assert not torch.equal(weights[0], weights[1])
    assert moments[1] is not None
    # Where the second one stood is not where its student ended: it had not cooled down.
    assert len(moments[1].parameters) == sum(parameter.numel() for parameter in student.parameters())
    train_student("left", NARROW)
    for stage in (DENSE, NARROW):
        assert bank.load_snapshot(pool, stage)[1] is None


def test_a_rung_that_is_trained_again_is_the_same(setup: Setup, desk: Path) -> None:
    train_student("left", DENSE)
    for stage in SMALL[:2]:
        train_student("left", stage)
    path = make_bank(setup, desk)._path(setup.pools["left"], SMALL[1])
    before = path.read_bytes()
    path.unlink()
    train_student("left", SMALL[1])
    assert path.read_bytes() == before


def test_training_again_gives_the_same_student(setup: Setup, desk: Path) -> None:
    train_student("left", DENSE)
    (path,) = (desk / "bank").iterdir()
    before = path.read_bytes()
    path.unlink()
    train_student("left", DENSE)
    assert path.read_bytes() == before


def test_teacher_and_random_play(desk: Path) -> None:
    seeds = list(range(200))
    np.testing.assert_array_equal(play_team(TEACHER, seeds, False), np.full(200, 5.0))
    # Two agents of 5 guesses with 1/3: variance of the mean 5 x 2/9 / 2 = .56; three deviations of 200 are .16.
    random = play_team(RANDOM, seeds, False)
    assert random.mean() == pytest.approx(5 / 3, abs=0.16)
    np.testing.assert_array_equal(play_team(RANDOM, seeds, False), random)


def test_students_play_in_both_environments_alike(desk: Path) -> None:
    """Without a twin the real environment is the one that is searched in."""
    train_student("left", DENSE)
    team = {"left": DENSE, "right": DENSE}
    searched = play_team(team, [1, 2, 3], False)
    np.testing.assert_array_equal(play_team(team, [1, 2, 3], True), searched)
    assert 5 / 3 < searched.mean() <= 5


def test_a_student_plays_among_teachers(desk: Path) -> None:
    """The teacher returns 5: what a student alone falls short of is its own part of the mean over two agents."""
    train_student("left", DENSE)
    seeds = list(range(64))
    left, right, both = (
        play_team(dict.fromkeys(groups, DENSE), seeds, False) for groups in (["left"], ["right"], ["left", "right"])
    )
    assert left.mean() < 5
    np.testing.assert_allclose((5 - left) + (5 - right), 5 - both, atol=1e-6)


def test_rewards_that_are_not_finite_are_the_fault_of_the_team_alone(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_student("left", DENSE)
    echo = load_reference("echo_task:Echo")
    paid = echo._paid
    monkeypatch.setattr(echo, "_paid", lambda self, agent, chosen: paid(self, agent, chosen) + np.float32(np.inf))
    said = "environment 'echo': a reward of group 'left' at step 1 is NaN or infinite"
    with pytest.raises(StudentError, match=said):
        play_team({"left": DENSE, "right": DENSE}, [1, 2, 3], False)
    with pytest.raises(RewardError, match=said):  # without the teacher's returns no team can be scored
        play_team(TEACHER, [1, 2, 3], False)


def test_an_environment_that_fails_students_alone_is_their_fault(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher never names another number than the largest; students do."""
    train_student("left", DENSE)
    before = tasks._DESK[0].setup.env
    echo = load_reference("echo_task:Echo")
    paid = echo._paid

    def pay(self: object, agent: str, chosen: np.ndarray) -> np.ndarray:
        won: np.ndarray = paid(self, agent, chosen)
        if not won.all():
            raise ValueError("out of the map")
        return won

    monkeypatch.setattr(echo, "_paid", pay)
    said = r"environment 'echo' failed in step\(\): ValueError: out of the map .*; only where students act, for their"
    with pytest.raises(StudentError, match=said):
        play_team({"left": DENSE}, list(range(64)), False)
    assert tasks._DESK[0].setup.env is not before
    with pytest.raises(StudentError, match=said):  # which plays to learn
        train_student("left", SMALL[0])
    np.testing.assert_array_equal(play_team(TEACHER, [1, 2, 3], False), np.full(3, 5.0))


def test_an_environment_that_fails_once_is_made_anew(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_student("left", DENSE)
    played = play_team({"left": DENSE}, [1, 2, 3], False)
    environment = tasks._DESK[0].setup.env

    def fail(actions: object) -> None:
        raise EnvError("environment 'echo': the simulator is gone")

    monkeypatch.setattr(environment, "step", fail)
    np.testing.assert_array_equal(play_team({"left": DENSE}, [1, 2, 3], False), played)


def test_memory_that_is_full_is_nobodys_fault(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's process is replaced, and does it again."""
    train_student("left", DENSE)
    environment = tasks._DESK[0].setup.env

    def fail(actions: object) -> None:
        raise EnvError("environment 'echo' failed in step(): MemoryError") from MemoryError()

    monkeypatch.setattr(environment, "step", fail)
    with pytest.raises(EnvError, match="MemoryError"):
        play_team({"left": DENSE}, [1, 2, 3], False)
    assert tasks._DESK[0].setup.env is environment


def test_an_environment_that_fails_everybody_ends_the_search(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_student("left", DENSE)

    def fail(self: object, agent: str, chosen: np.ndarray) -> np.ndarray:
        raise ValueError("no licence")

    monkeypatch.setattr(load_reference("echo_task:Echo"), "_paid", fail)
    with pytest.raises(EnvError, match=r"environment 'echo' failed in step\(\): ValueError: no licence"):
        play_team({"left": DENSE}, [1, 2, 3], False)


def test_a_batched_environment_that_breaks_names_itself(
    write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever plays it: the coordinator when it records, a worker when it scores."""
    setup = open_study(read_study(write_study("broken", **{"env.kwargs": {"fails_at": 3}})))
    with pytest.raises(EnvError, match=r"environment 'echo' failed in step\(\): ValueError: out of fuel \(.*, line"):
        record_demonstrations(setup, tmp_path)
    assert not list(tmp_path.rglob("*.npy"))
