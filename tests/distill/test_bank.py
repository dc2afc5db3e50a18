from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kdnas.config.study import DistillTable
from kdnas.distill import Pool, Stage, StudentBank
from kdnas.distill.snapshot import Snapshot
from kdnas.envs import AgentSpec, EnvSpec
from kdnas.envs.view import View
from kdnas.errors import RunError
from kdnas.policies.actions import Discrete, MultiDiscrete
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.students import Normalisation, Student, load_family
from kdnas.students.weights import read_tensors, write_tensors

SPACES = AgentSpec(observation_size=3, actions=Discrete(4))
POOL = Pool(name="a", groups=("a", "b"), spaces=SPACES, teacher_digest="0123")
SPEC = StudentSpec(family="mlp", base=(16,), hidden=(8,))
STAGE = Stage(spec=SPEC, rung=2)
SNAPSHOT = Snapshot(step=7, parameters=torch.arange(3.0), mean=torch.tensor([0.1, 0.2, 0.3]), square=torch.ones(3))


@pytest.fixture
def bank(tmp_path: Path) -> StudentBank:
    return StudentBank(folder=tmp_path / "bank", environment="env", recipe=DistillTable(), seed=0)


def student(
    bits: str = "float", normalisation: Normalisation | None = None, spaces: AgentSpec = SPACES
) -> Student:
    spec = replace(SPEC, bits=parse_bits(bits), inputs=len(spaces.kept) if spaces.pruned else None)
    family, generator = load_family("mlp"), torch.Generator().manual_seed(0)
    network = family.build(SPEC, spaces.inputs, generator)
    if spec.bits.quantized:
        network = family.quantize(network, spec).train()
        for _ in range(40):
            network(torch.randn(32, len(spaces.kept), generator=generator))
    return Student(spec, spaces, network, normalisation).eval()


def test_the_address_changes_with_each_ingredient(bank: StudentBank) -> None:
    variants: list[tuple[StudentBank, Pool, StudentSpec | Stage]] = [
        (bank, POOL, SPEC),
        (replace(bank, environment="other"), POOL, SPEC),
        (replace(bank, recipe=DistillTable(recovery_steps=7)), POOL, SPEC),
        (replace(bank, recipe=DistillTable(temperature=2.0)), POOL, SPEC),
        (replace(bank, seed=1), POOL, SPEC),
        (bank, replace(POOL, teacher_digest="4567"), SPEC),
        (bank, replace(POOL, spaces=replace(SPACES, masked=True)), SPEC),
        (bank, replace(POOL, spaces=replace(SPACES, constant=(0,))), SPEC),
        (bank, replace(POOL, spaces=replace(SPACES, constant=(1,))), SPEC),
        (bank, replace(POOL, spaces=replace(SPACES, actions=MultiDiscrete((2, 2)))), SPEC),
        (bank, replace(POOL, view=View(observation_size=5, own=(0, 1, 2))), SPEC),
        (bank, replace(POOL, view=View(observation_size=5, own=(0, 1, 3))), SPEC),
        (replace(bank, recipe=DistillTable(loss={"role": 0.1})), POOL, SPEC),
        (replace(bank, recipe=DistillTable(rungs=(0.5, 1.0))), POOL, SPEC),
        (bank, POOL, Stage(spec=SPEC, rung=1)),
        (bank, POOL, STAGE),
        (bank, POOL, replace(SPEC, hidden=(7,))),
        (bank, POOL, replace(SPEC, inputs=2)),
        (bank, POOL, replace(SPEC, inputs=1)),
        (bank, POOL, replace(SPEC, base=(12,))),
        (bank, POOL, replace(SPEC, bits=parse_bits("w4a8i8"))),
        (bank, POOL, replace(SPEC, bits=parse_bits("w4a8i7"))),
    ]
    stages = [(one, pool, made if isinstance(made, Stage) else Stage(spec=made)) for one, pool, made in variants]
    addresses = [one.address(pool, stage) for one, pool, stage in stages]
    assert len(set(addresses)) == len(variants)


def test_neither_the_folder_nor_the_groups_are_ingredients(bank: StudentBank, tmp_path: Path) -> None:
    """Groups with the same teacher share, and so do a run and its copy."""
    other = replace(POOL, name="c", groups=("c",))
    assert replace(bank, folder=tmp_path).address(other, STAGE) == bank.address(POOL, STAGE)
    assert bank.training_seed(other, STAGE) == bank.training_seed(POOL, STAGE)


@pytest.mark.parametrize("bits", ["float", "w4a8i8"])
@pytest.mark.parametrize("normalisation", [None, Normalisation(shift=(1.0, 0.1, -2.0), scale=(0.5, 1 / 3, 2.0))])
def test_what_is_loaded_is_what_was_stored(bank: StudentBank, bits: str, normalisation: Normalisation | None) -> None:
    one = student(bits, normalisation)
    stage = Stage(spec=one.spec, rung=1)
    assert not bank.has(POOL, stage)
    bank.store(POOL, one, stage)
    assert bank.has(POOL, stage)
    assert not bank.has(POOL, Stage(spec=one.spec, rung=2))
    again = bank.load(POOL, stage)
    seen = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(seen), one(seen))
    assert (again.spec, again.normalisation, again.training) == (one.spec, normalisation, False)
    assert [path.suffix for path in bank.folder.iterdir()] == [".safetensors"]


@pytest.mark.parametrize("bits", ["float", "w4a8i8"])
def test_which_inputs_a_student_reads_is_stored_with_it(bank: StudentBank, bits: str) -> None:
    one = student(bits, Normalisation(shift=(1.0, -2.0), scale=(0.5, 2.0)), replace(SPACES, pruned=(1,)))
    stage = bank.last(one.spec)
    bank.store(POOL, one, stage)
    again = bank.load(POOL, stage)
    assert (again.spaces, again.normalisation) == (one.spaces, one.normalisation)
    seen = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(seen), one(seen))
    other = seen.clone()
    other[:, 1] = 9.0
    assert torch.equal(again(other), one(seen))


@pytest.mark.parametrize("pruned", [[0, 1], [], [3], [1, 0], None, ["0"]])
def test_inputs_that_are_not_those_of_the_spec(bank: StudentBank, pruned: Any) -> None:
    one = student(spaces=replace(SPACES, pruned=(1,)))
    stage = bank.last(one.spec)
    bank.store(POOL, one, stage)
    (path,) = bank.folder.iterdir()
    tensors, facts = read_tensors(path)
    write_tensors(path, {name: tensor.clone() for name, tensor in tensors.items()}, facts | {"pruned": pruned})
    with pytest.raises(RunError, match=r"banked student mlp 8 float on 2 inputs, rung \d cannot be used"):
        bank.load(POOL, stage)


def test_a_file_says_how_long_its_student_was_trained(bank: StudentBank) -> None:
    bank.store(POOL, student(), STAGE, steps=321)
    (path,) = bank.folder.iterdir()
    assert read_tensors(path)[1]["steps"] == 321


def test_a_file_keeps_from_where_its_student_goes_on(bank: StudentBank) -> None:
    bank.store(POOL, student(), STAGE, snapshot=SNAPSHOT)
    again, since = bank.load_snapshot(POOL, STAGE)
    assert since is not None
    assert since.step == 7
    for name in ("parameters", "mean", "square"):
        assert torch.equal(getattr(since, name), getattr(SNAPSHOT, name))
    seen = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(seen), student()(seen))
    assert torch.equal(bank.load(POOL, STAGE)(seen), again(seen))
    bank.store(POOL, student(), STAGE)
    assert bank.load_snapshot(POOL, STAGE)[1] is None


@pytest.mark.parametrize(("rungs", "last"), [((0.11, 0.33, 1.0), 2), ((1.0,), 0)])
def test_a_student_is_complete_after_the_last_rung(bank: StudentBank, rungs: tuple[float, ...], last: int) -> None:
    bank = replace(bank, recipe=DistillTable(rungs=rungs))
    assert bank.last(SPEC) == Stage(spec=SPEC, rung=last)
    assert bank.last(SPEC.dense) == Stage(spec=SPEC.dense)  # an ancestor has one rung


def test_a_team_is_of_complete_students(bank: StudentBank) -> None:
    env = EnvSpec(name="env", agents={"a": SPACES, "b": SPACES}, groups={"a": ("a",), "b": ("b",)}, state_size=6)
    both = {"a": SPEC, "b": SPEC}
    bank.store(POOL, student(), Stage(spec=SPEC, rung=1))
    with pytest.raises(RunError, match="banked student mlp 8 float, rung 2 cannot be used: No such file"):
        bank.team(env, dict.fromkeys("ab", POOL), both)
    bank.store(POOL, student(), STAGE)
    assert set(bank.team(env, dict.fromkeys("ab", POOL), both).students) == {"a", "b"}


def test_writing_is_all_or_nothing(bank: StudentBank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank.store(POOL, student(), STAGE)
    (path,) = bank.folder.iterdir()
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> None:
        with self.open("wb") as opened:
            opened.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"cannot be written: No space left on device; make room"):
        bank.store(POOL, student(), STAGE)
    assert [path.read_bytes() for path in bank.folder.iterdir()] == [before]


def test_a_folder_that_cannot_be_written(bank: StudentBank, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = replace(bank, folder=tmp_path / "file" / "bank")
    with pytest.raises(RunError, match=r"file/bank/.*: cannot be written: Not a directory"):
        broken.store(POOL, student(), STAGE)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _poison(path: Path) -> None:
    tensors, facts = read_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    tensors["linears.1.bias"][0] = torch.nan
    write_tensors(path, tensors, facts)


def _relabel(path: Path) -> None:
    tensors, facts = read_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    write_tensors(path, tensors, facts | {"spec": facts["spec"] | {"hidden": [7]}})


def _shorten(path: Path) -> None:
    """Of the snapshot one tensor is of fewer parameters."""
    tensors, facts = read_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    write_tensors(path, tensors | {"since.mean": tensors["since.mean"][:2].clone()}, facts)


def _lose(path: Path) -> None:
    """Of the snapshot one tensor is missing."""
    tensors, facts = read_tensors(path)
    write_tensors(path, {name: tensor.clone() for name, tensor in tensors.items() if name != "since.step"}, facts)


def _strip(path: Path) -> None:
    tensors, _ = read_tensors(path)
    write_tensors(path, {name: tensor.clone() for name, tensor in tensors.items()}, {})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_halve, "cannot be used"),
        (_empty, "cannot be used"),
        (_poison, "'linears.1.bias' holds NaN or infinity"),
        (_relabel, "it holds"),
        (_strip, "cannot be used"),
        (_shorten, "its snapshot is damaged"),
        (_lose, "cannot be used: 'step'"),
        (Path.unlink, "cannot be used"),
    ],
)
def test_a_damaged_student_names_its_file(bank: StudentBank, damage: Any, said: str) -> None:
    bank.store(POOL, student(), STAGE, snapshot=SNAPSHOT)
    (path,) = bank.folder.iterdir()
    damage(path)
    sentence = rf"^{path}: banked student mlp 8 float, rung 2 .*{said}.*; delete the file to train it"
    with pytest.raises(RunError, match=sentence):
        bank.load(POOL, STAGE)
