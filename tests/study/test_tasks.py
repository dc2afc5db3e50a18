"""What a worker does, in this process."""

from pathlib import Path

import numpy as np
import pytest

from kdnas.errors import EnvError, RewardError, RunError, StudentError
from kdnas.plugins import load_reference
from kdnas.spaces import StudentSpec
from kdnas.study import tasks
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import RANDOM, TEACHER, make_bank, play_team, record_demonstrations, sit_down, train_student

from .conftest import WriteStudy

DENSE = StudentSpec(family="mlp", base=(16,), hidden=(16,))
SMALL = StudentSpec(family="mlp", base=(16,), hidden=(4,))


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
        train_student("left", SMALL)
    train_student("left", DENSE)
    train_student("left", SMALL)
    assert bank.has(setup.pools["right"], SMALL)
    assert bank.load(setup.pools["left"], SMALL).network.linears[0].out_features == 4


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


def test_a_batched_environment_that_breaks_names_itself(
    write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever plays it: the coordinator when it records, a worker when it scores."""
    setup = open_study(read_study(write_study("broken", **{"env.kwargs": {"fails_at": 3}})))
    with pytest.raises(EnvError, match=r"environment 'echo' failed in step\(\): ValueError: out of fuel \(.*, line"):
        record_demonstrations(setup, tmp_path)
    assert not list(tmp_path.rglob("*.npy"))
