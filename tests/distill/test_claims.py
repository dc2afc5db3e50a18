"""One process trains a stage, whoever else wants it: with processes that are real."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from kdnas.config.study import DistillTable
from kdnas.distill import Pool, Stage, StudentBank
from kdnas.envs import AgentSpec
from kdnas.errors import RunError, StudentError
from kdnas.policies.actions import Discrete
from kdnas.spaces import StudentSpec
from kdnas.students import Student, load_family

SPACES = AgentSpec(observation_size=3, actions=Discrete(4))
POOL = Pool(name="a", groups=("a", "b"), spaces=SPACES, teacher_digest="0123")
STAGE = Stage(spec=StudentSpec(family="mlp", base=(16,), hidden=(8,)))
SPAWN = multiprocessing.get_context("spawn")
WAIT_S = 60.0
"""Far longer than anything here takes; who waits so long waits for nothing."""


@pytest.fixture
def bank(tmp_path: Path) -> StudentBank:
    return StudentBank(folder=tmp_path / "bank", environment="env", recipe=DistillTable(), seed=0)


def student() -> Student:
    network = load_family("mlp").build(STAGE.spec, SPACES, torch.Generator().manual_seed(0))
    return Student(STAGE.spec, SPACES, network).eval()


def names(bank: StudentBank) -> list[str]:
    return sorted(path.suffix for path in bank.folder.iterdir())


def hold(bank: StudentBank, holds: Event, ends: Event) -> None:
    """Claim the stage, and train it when told to."""
    with bank.claim(POOL, STAGE) as lacking:
        assert lacking
        holds.set()
        assert ends.wait(WAIT_S)
        bank.store(POOL, student(), STAGE)


def want(bank: StudentBank, begins: Event, told: "multiprocessing.Queue[bool]") -> None:
    begins.set()
    with bank.claim(POOL, STAGE) as lacking:
        told.put(lacking)


Holder = Callable[..., tuple[multiprocessing.process.BaseProcess, Event]]


@pytest.fixture
def holder(bank: StudentBank) -> Holder:
    def start() -> tuple[multiprocessing.process.BaseProcess, Event]:
        """A process that has the claim, and what lets it end."""
        holds, ends = SPAWN.Event(), SPAWN.Event()
        process = SPAWN.Process(target=hold, args=(bank, holds, ends), daemon=True)
        process.start()
        assert holds.wait(WAIT_S)
        return process, ends

    return start


def test_who_comes_second_waits_and_finds_the_entry(bank: StudentBank, holder: Holder) -> None:
    first, ends = holder()
    begins, told = SPAWN.Event(), SPAWN.Queue()
    second = SPAWN.Process(target=want, args=(bank, begins, told), daemon=True)
    second.start()
    assert begins.wait(WAIT_S)
    second.join(3 * 0.2)  # some looks long
    assert second.is_alive()
    assert told.empty()
    ends.set()
    assert told.get(timeout=WAIT_S) is False
    for process in (first, second):
        process.join(WAIT_S)
        assert process.exitcode == 0
    assert names(bank) == [".safetensors"]


def test_a_claim_ends_with_its_process(bank: StudentBank, holder: Holder) -> None:
    process, _ = holder()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(WAIT_S)
    assert names(bank) == [".lock"]
    with bank.claim(POOL, STAGE) as lacking:
        assert lacking
        bank.store(POOL, student(), STAGE)
    assert names(bank) == [".safetensors"]


def test_who_fails_leaves_it_to_the_next(bank: StudentBank) -> None:
    def fail() -> None:
        with bank.claim(POOL, STAGE) as lacking:
            assert lacking
            raise StudentError("the loss became nan")

    with pytest.raises(StudentError):
        fail()
    with bank.claim(POOL, STAGE) as lacking:
        assert lacking
        bank.store(POOL, student(), STAGE)
    with bank.claim(POOL, STAGE) as lacking:
        assert not lacking
    assert names(bank) == [".safetensors"]


def test_stages_are_claimed_one_by_one(bank: StudentBank) -> None:
    with bank.claim(POOL, STAGE) as one, bank.claim(POOL, replace(STAGE, rung=1)) as other:
        assert one
        assert other


def test_a_folder_that_cannot_be_written(bank: StudentBank, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = replace(bank, folder=tmp_path / "file" / "bank")
    with pytest.raises(RunError, match=r"file/bank/.*: cannot be written: .*; make room"), broken.claim(POOL, STAGE):
        pass


def test_what_a_bank_has_of_a_pool(bank: StudentBank) -> None:
    rungs = [replace(STAGE, rung=rung) for rung in (0, 2)]
    for stage in rungs:
        bank.store(POOL, student(), stage)
    bank.store(replace(POOL, teacher_digest="4567"), student(), replace(STAGE, rung=1))
    replace(bank, seed=1).store(POOL, student(), replace(STAGE, rung=1))
    (bank.folder / "torn.safetensors").write_bytes(b"torn")
    assert sorted(bank.stages(POOL), key=lambda stage: stage.rung) == rungs
    assert replace(bank, folder=bank.folder / "none").stages(POOL) == []
