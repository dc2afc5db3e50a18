"""Students that are trained once, and by whom they come into the bank."""

import multiprocessing
from collections.abc import Mapping
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import torch

from kdnas.distill import Stage, StudentBank
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.students import Student, load_family
from kdnas.students.weights import read_facts
from kdnas.study import tasks
from kdnas.study.setup import Setup, StudyFile, open_study, read_study
from kdnas.study.tasks import make_bank, record_demonstrations, sit_down, train_student

from .conftest import WriteStudy

SPAWN = multiprocessing.get_context("spawn")
WAIT_S = 120.0


def spec(width: int, bits: str = "float") -> StudentSpec:
    return StudentSpec(family="mlp", base=(16,), hidden=(width,), bits=parse_bits(bits))


DENSE = Stage(spec=spec(16))


def train_at_once(
    file: StudyFile, run: Path, demonstrations: Path, ready: Barrier, told: "multiprocessing.Queue[bool]"
) -> None:
    sit_down(file, run, demonstrations)
    ready.wait(WAIT_S)
    told.put(train_student("left", DENSE))


def test_two_workers_train_an_ancestor_once(setup: Setup, tmp_path: Path) -> None:
    folder = record_demonstrations(setup, tmp_path).folder
    ready, told = SPAWN.Barrier(2), SPAWN.Queue()
    workers = [
        SPAWN.Process(target=train_at_once, args=(setup.file, tmp_path, folder, ready, told), daemon=True)
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    assert sorted(told.get(timeout=WAIT_S) for _ in workers) == [False, True]
    for worker in workers:
        worker.join(WAIT_S)
        assert worker.exitcode == 0
    assert len(list((tmp_path / "bank").iterdir())) == 1
    assert make_bank(setup, tmp_path).stages(setup.pools["right"]) == [DENSE]


Opened = tuple[Setup, StudentBank]


@pytest.fixture
def desk(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    study = write_study("inherits", distill={"relatives": True, "rungs": [0.5, 1.0]})
    setup = open_study(read_study(study))
    monkeypatch.setattr(tasks, "_DESK", [])
    sit_down(setup.file, tmp_path, record_demonstrations(setup, tmp_path).folder)
    return setup, make_bank(setup, tmp_path)


def put_untrained(setup: Setup, bank: StudentBank, stage: Stage) -> None:
    """What nobody would inherit from."""
    pool = setup.pools["left"]
    network = load_family("mlp").build(stage.spec, pool.spaces.inputs, torch.Generator().manual_seed(1))
    bank.store(pool, Student(stage.spec, pool.spaces, network), stage)


def parent_of(setup: Setup, bank: StudentBank, stage: Stage) -> Mapping[str, Any]:
    parent: Mapping[str, Any] = read_facts(bank._path(setup.pools["left"], stage))["parent"]
    return parent


def test_a_student_inherits_from_a_relative_that_starts_better(desk: Opened) -> None:
    setup, bank = desk
    train_student("left", DENSE)
    for rung in (0, 1):
        train_student("left", Stage(spec=spec(8), rung=rung))
    assert parent_of(setup, bank, Stage(spec=spec(8))) == {"spec": DENSE.spec.as_json(), "rung": 0}
    assert parent_of(setup, bank, Stage(spec=spec(8), rung=1)) == {"spec": spec(8).as_json(), "rung": 0}
    # With an ancestor that knows nothing, the student of 8 units is the better one by far.
    bank._path(setup.pools["left"], DENSE).unlink()
    put_untrained(setup, bank, DENSE)
    train_student("left", Stage(spec=spec(4)))
    assert parent_of(setup, bank, Stage(spec=spec(4))) == {"spec": spec(8).as_json(), "rung": 1}


def test_and_from_its_ancestor_if_that_does(desk: Opened) -> None:
    setup, bank = desk
    train_student("left", DENSE)
    put_untrained(setup, bank, Stage(spec=spec(8), rung=1))
    train_student("left", Stage(spec=spec(4)))
    assert parent_of(setup, bank, Stage(spec=spec(4))) == {"spec": DENSE.spec.as_json(), "rung": 0}


def test_quantized_students_come_of_their_own_float_one(desk: Opened) -> None:
    """Also one of the ancestor's widths, whose float one is the ancestor."""
    setup, bank = desk
    train_student("left", DENSE)
    for rung in (0, 1):
        train_student("left", Stage(spec=spec(8), rung=rung))
    for quantized in (spec(8, "w8a8i8"), spec(16, "w8a8i8")):
        stage = Stage(spec=quantized)
        train_student("left", stage)
        assert parent_of(setup, bank, stage) == {"spec": quantized.floating.as_json(), "rung": 0}


def test_relatives_are_left_alone_unless_the_study_asks(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_DESK", [])
    sit_down(setup.file, tmp_path, record_demonstrations(setup, tmp_path).folder)
    bank = make_bank(setup, tmp_path)
    put_untrained(setup, bank, DENSE)
    for rung in range(len(bank.recipe.rungs)):
        train_student("left", Stage(spec=spec(8), rung=rung))
    train_student("left", Stage(spec=spec(4)))
    assert parent_of(setup, bank, Stage(spec=spec(4))) == {"spec": DENSE.spec.as_json(), "rung": 0}
