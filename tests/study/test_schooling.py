"""Students with workers that are none (see `pretended.py`): who is trained, who is played, and what is remembered."""

from pathlib import Path

import numpy as np
import pytest

from kdnas.distill.stage import Stage
from kdnas.errors import StudentError
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.study.schooling import Schooling
from kdnas.study.setup import Setup, open_study, read_study

from .conftest import WriteStudy
from .pretended import Pretended, pretend


def mlp(units: int, bits: str = "float") -> StudentSpec:
    """A student pruned from 16 units."""
    return StudentSpec(family="mlp", base=(16,), hidden=(units,), bits=parse_bits(bits))


BOTH = {"left": mlp(8), "right": mlp(8)}


@pytest.fixture
def setup(write_study: WriteStudy) -> Setup:
    return open_study(read_study(write_study("plain")))  # three rungs


@pytest.fixture
def schooling(setup: Setup, tmp_path: Path) -> Schooling:
    return pretend(setup, tmp_path / "run").schooling


def workers_of(schooling: Schooling) -> Pretended:
    assert isinstance(schooling.workers, Pretended)
    return schooling.workers


def end_one(schooling: Schooling) -> None:
    (ended,) = schooling.workers.wait(schooling.futures())
    schooling.settle(ended)


def bring(schooling: Schooling, candidate: dict[str, StudentSpec], rung: int) -> list[str]:
    """Ask until a team is ready; returns what the workers did."""
    workers_of(schooling).log.clear()
    for _ in range(50):
        assert schooling.request(candidate, rung) is None
        if schooling.ready(candidate, rung):
            return workers_of(schooling).log
        end_one(schooling)
    raise AssertionError("it is never ready")


def test_who_has_nothing_to_do_distils_an_ancestor(write_study: WriteStudy, tmp_path: Path) -> None:
    bases = [{"hidden": [units], "prune": [0.5]} for units in (16, 32, 64)]
    space = {"name": "three", "groups": {"default": {"bits": ["float"], "bases": bases}}}
    schooling = pretend(open_study(read_study(write_study("three", space=space))), tmp_path / "run").schooling
    assert schooling.request(BOTH, 0) is None
    for _ in range(2):  # one of two workers is at 16 units; the groups share a pool
        schooling.foresee()
    assert [name for name, *_ in workers_of(schooling).tasks] == ["train left mlp 16 float", "train left mlp 32 float"]
    end_one(schooling)
    assert schooling.request(BOTH, 0) is None
    schooling.foresee()  # both are busy
    end_one(schooling)
    schooling.foresee()
    end_one(schooling)
    end_one(schooling)
    schooling.foresee()  # all are there
    assert workers_of(schooling).log == [
        "train left mlp 16 float", "train left mlp 32 float", "train left mlp 8 float, rung 0",
        "train left mlp 64 float",
    ]  # fmt: skip


def test_what_the_budget_leaves_nothing_of_is_not_distilled(write_study: WriteStudy, tmp_path: Path) -> None:
    bases = [{"hidden": [units], "prune": [0.5]} for units in (16, 64)]
    space = {"name": "two", "groups": {"default": {"bits": ["float"], "bases": bases}}}
    # 64 units keep 32: 32 x (3 + 3) MACs are 384 FLOPs.
    study = open_study(read_study(write_study("two", space=space), budget=["flops<300"]))
    schooling = pretend(study, tmp_path / "run").schooling
    schooling.foresee()
    assert [name for name, *_ in workers_of(schooling).tasks] == ["train left mlp 16 float"]


def test_one_worker_distils_what_is_asked_for(schooling: Schooling) -> None:
    """When it is idle hangs on the clock, and a search with one worker goes the same way each time."""
    workers_of(schooling).count = 1
    schooling.foresee()
    assert workers_of(schooling).tasks == []


def test_who_asks_for_an_ancestor_hears_that_it_cannot_be_had(schooling: Schooling) -> None:
    name = "train left mlp 16 float"
    workers_of(schooling).outcomes[name] = StudentError("mlp 16 float: its loss is NaN")
    schooling.foresee()
    end_one(schooling)  # nobody asked
    assert schooling.futures() == []
    schooling.request(BOTH, 0)
    with pytest.raises(StudentError, match="its loss is NaN"):
        end_one(schooling)


def test_a_complete_student_is_offered_wherever_it_may_play(write_study: WriteStudy, tmp_path: Path) -> None:
    """Proposals choose among those that were played; who was asked for comes first, and no new work when it ends."""
    ratios = {"left": [0.5, 0.75], "right": [0.5]}
    groups = {
        group: {"bits": ["float"], "bases": [{"hidden": [16], "prune": prune}]} for group, prune in ratios.items()
    }
    study = write_study("apart", space={"name": "apart", "groups": groups}, **{"distill.rungs": [0.5, 1.0]})
    schooling = pretend(open_study(read_study(study)), tmp_path / "run").schooling
    assert bring(schooling, {"left": mlp(8)}, 0)[-1] == "play left mlp 8 float, rung 0"  # it may be left behind
    assert schooling.offered == []
    assert bring(schooling, {"left": mlp(8)}, 1) == [
        "train left mlp 8 float, rung 1", "play left mlp 8 float, rung 1"
    ]  # fmt: skip
    assert schooling.futures() == []
    schooling.foresee()
    assert list(schooling.playing) == [("right", Stage(spec=mlp(8), rung=1))]
    end_one(schooling)
    bring(schooling, {"left": mlp(4)}, 1)
    schooling.foresee()
    assert schooling.futures() == []  # `right` has no such student in its space
    played = {(group, spec.hidden, rung) for group, spec, rung in schooling.losses.returns}
    assert played == {("left", (8,), 0), ("left", (8,), 1), ("right", (8,), 1), ("left", (4,), 1)}


def test_a_run_that_goes_on_remembers_and_plays_the_complete_students_of_its_bank(setup: Setup, tmp_path: Path) -> None:
    bring(pretend(setup, tmp_path / "run").schooling, {"left": mlp(8)}, 2)
    schooling = pretend(setup, tmp_path / "run").schooling
    schooling.take_up()
    assert set(schooling.losses.returns) == {("left", mlp(8), 2)}
    schooling.foresee()
    assert list(schooling.playing) == [("right", Stage(spec=mlp(8), rung=2))]


def test_without_proposals_nobody_plays_who_was_not_asked_for(write_study: WriteStudy, tmp_path: Path) -> None:
    setup = open_study(read_study(write_study("asked", **{"search.propose": False})))
    schooling = pretend(setup, tmp_path / "run").schooling
    bring(schooling, {"left": mlp(8)}, 2)
    schooling.take_up()
    schooling.foresee()
    assert schooling.futures() == []


def test_a_pool_trains_once_and_each_group_plays_its_student(schooling: Schooling) -> None:
    assert bring(schooling, BOTH, 0) == [
        "train left mlp 16 float",
        "train left mlp 8 float, rung 0",
        "play left mlp 8 float, rung 0",
        "play right mlp 8 float, rung 0",
    ]
    assert schooling.trained == 2
    assert bring(schooling, {"left": mlp(4), "right": mlp(8)}, 0) == [
        "train left mlp 4 float, rung 0", "play left mlp 4 float, rung 0"
    ]  # fmt: skip
    # Four students a group would make sixteen teams: nobody plays those for a prediction.
    assert bring(schooling, {"left": mlp(8), "right": mlp(4)}, 0) == ["play right mlp 4 float, rung 0"]
    predicted = schooling.losses.predict({"left": mlp(8), "right": mlp(4)}, {"left": 0, "right": 0})
    assert predicted.retention == pytest.approx(1 - 0.3 - 0.3)


def test_a_quantized_student_takes_its_float_one_along(schooling: Schooling) -> None:
    quantized = mlp(8, "w4a8i8")
    done: list[str] = []
    while not schooling.has("left", Stage(spec=quantized, rung=1)):
        schooling.request({"left": quantized}, 1)
        # What is pretended is a float network: its name is noted, and nobody plays it.
        ((name, _, arguments, future),) = workers_of(schooling).tasks
        workers_of(schooling).tasks.clear()
        done.append(name)
        schooling.bank.folder.mkdir(exist_ok=True)
        schooling.bank._path(schooling.setup.pools["left"], arguments[1]).touch()
        future.set_result(None)
        schooling.settle(future)
    assert done == [
        "train left mlp 16 float",
        "train left mlp 8 float, rung 0",
        "train left mlp 8 float, rung 1",
        "train left mlp 8 w4a8i8, rung 1",
    ]


@pytest.mark.parametrize(
    ("bits", "judged"),
    [("w8a8i8", "float"), ("w8a8i8p", "w8a8i8p"), ("w8a6i8", "w8a6i8"), ("w4a8i8", "w4a8i8"), ("float", "float")],
)
def test_the_float_student_stands_for_one_of_8_bits_until_the_last_rung(
    schooling: Schooling, bits: str, judged: str
) -> None:
    stages = [schooling.stage(mlp(8, bits), rung) for rung in range(3)]
    assert [str(stage) for stage in stages] == [
        f"mlp 8 {judged}, rung 0", f"mlp 8 {judged}, rung 1", f"mlp 8 {bits}, rung 2"
    ]  # fmt: skip


def test_a_team_of_8_bits_is_predicted_from_its_float_students(schooling: Schooling) -> None:
    team = {"left": mlp(8, "w8a8i8"), "right": mlp(4)}
    assert bring(schooling, team, 0)[-2:] == ["play left mlp 8 float, rung 0", "play right mlp 4 float, rung 0"]
    assert schooling.predict(team, 0) == pytest.approx(1 - 0.3 - 0.3)
    bring(schooling, {"left": mlp(8)}, 1)
    assert schooling.rung("left", mlp(8, "w8a8i8")) == 1


def test_the_rung_of_a_student_is_the_highest_in_the_bank(schooling: Schooling) -> None:
    assert schooling.rung("left", mlp(8)) == 0
    for rung in range(3):
        bring(schooling, BOTH, rung)
        assert schooling.rung("left", mlp(8)) == schooling.rung("right", mlp(8)) == rung
    assert schooling.rung("left", mlp(4)) == 0


def test_an_unpruned_student_is_complete_at_its_only_rung(schooling: Schooling) -> None:
    team = {"left": mlp(16), "right": mlp(8)}
    assert schooling.stage(mlp(16), 2) == Stage(spec=mlp(16))
    bring(schooling, team, 0)
    assert schooling.rung("left", mlp(16)) == 2
    # At the next rung the other one alone is trained and played.
    assert bring(schooling, team, 1) == ["train left mlp 8 float, rung 1", "play right mlp 8 float, rung 1"]


def test_a_student_whose_training_has_not_ended_here_is_not_there(schooling: Schooling) -> None:
    """Its file lies in the bank a while before the coordinator is told; what it does must not hang on that."""
    bring(schooling, BOTH, 0)
    stage = Stage(spec=mlp(8), rung=1)
    schooling.request(BOTH, 1)
    workers_of(schooling).store("left", stage)
    assert schooling.bank.has(schooling.setup.pools["left"], stage)
    assert not schooling.has("left", stage)
    assert not schooling.has("right", stage)  # of the same pool
    assert schooling.rung("right", mlp(8)) == 0
    schooling.request(BOTH, 1)
    assert schooling.playing == {}
    end_one(schooling)
    assert schooling.has("left", stage)
    assert schooling.rung("right", mlp(8)) == 1


def test_what_was_played_in_an_earlier_part_is_not_played_again(
    schooling: Schooling, setup: Setup, tmp_path: Path
) -> None:
    workers_of(schooling).other["play right mlp 8 float, rung 0"] = np.arange(64) / 16
    bring(schooling, BOTH, 0)
    later = pretend(setup, tmp_path / "run").schooling
    assert later.losses.returns == {}
    assert bring(later, BOTH, 0) == []
    np.testing.assert_array_equal(later.losses.returns["right", mlp(8), 0], np.arange(64) / 16)
    assert later.losses.returns["left", mlp(8), 0].tolist() == [4.0] * 64
    # A student whose file was deleted is trained again, and is the same: it need not be played.
    later.bank._path(setup.pools["left"], Stage(spec=mlp(8))).unlink()
    anew = pretend(setup, tmp_path / "run").schooling
    assert bring(anew, BOTH, 0) == ["train left mlp 8 float, rung 0"]


@pytest.mark.parametrize("returns", [np.nan, np.inf])
def test_a_student_with_returns_that_are_no_numbers_is_broken(schooling: Schooling, returns: float) -> None:
    workers_of(schooling).other["play left mlp 8 float, rung 0"] = returns
    with pytest.raises(AssertionError, match="its returns are not finite"):
        bring(schooling, BOTH, 0)
    reason = schooling.request(BOTH, 0)
    assert reason == "playing mlp 8 float, rung 0 among teachers: its returns are not finite"
    assert not schooling.ready(BOTH, 0)
    # The other group has no part in it.
    assert schooling.request({"right": mlp(8)}, 0) is None


def test_futures_of_trainings_and_plays(schooling: Schooling) -> None:
    bring(schooling, {"left": mlp(8)}, 0)
    schooling.request({"right": mlp(8)}, 0)
    schooling.request({"left": mlp(4)}, 0)
    assert [name for name, *_ in workers_of(schooling).tasks] == [
        "play right mlp 8 float, rung 0", "train left mlp 4 float, rung 0"
    ]  # fmt: skip
    assert len(schooling.futures()) == 2
    ((_, _, _, running), (_, _, _, waiting)) = workers_of(schooling).tasks
    running.set_running_or_notify_cancel()
    schooling.withdraw()
    assert schooling.futures() == [running]
    assert waiting.cancelled()
    # What was taken back is asked for anew.
    schooling.request({"left": mlp(4)}, 0)
    assert len(schooling.training) == 1
