from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kdnas.errors import BundleError
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Normalisation, rebuild_student
from kdnas.students.weights import read_tensors, student_tensors, write_tensors

from .conftest import DRONE, MakeStudent, rows


@pytest.mark.parametrize("bits", ["float", "w4a8i8", "w2a3i5"])
def test_a_rebuilt_student_computes_the_same_to_the_last_bit(make_student: MakeStudent, bits: str) -> None:
    student = make_student(bits)
    again = rebuild_student(student.spec, DRONE, student_tensors(student), where="here")
    seen = torch.from_numpy(rows(3000, 3))
    assert not again.training
    assert torch.equal(again(seen), student(seen))


def test_tensors_are_copies(make_student: MakeStudent) -> None:
    student = make_student()
    tensors = student_tensors(student)
    with torch.no_grad():
        student.network.linears[0].bias += 1.0
    assert tensors["linears.0.bias"].abs().max() == 0


def test_files_keep_values_and_facts(tmp_path: Path) -> None:
    tensors = {"b": torch.tensor([1.0, -0.0, 2.0**-149]), "a": torch.tensor(2, dtype=torch.int64)}
    facts = {"kind": "test", "list": [1, None, 1 / 3]}
    content = write_tensors(tmp_path / "x", tensors, facts)
    assert (tmp_path / "x").read_bytes() == content
    read, again = read_tensors(tmp_path / "x")
    assert again == facts
    assert {name: tensor.tolist() for name, tensor in read.items()} == {"a": 2, "b": [1.0, 0.0, 2.0**-149]}
    assert write_tensors(tmp_path / "y", tensors, dict(reversed(facts.items()))) == content


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="it holds no 'kdnas' facts"):
        read_tensors(tmp_path / "x")


def test_facts_that_are_nested_too_deeply(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x", metadata={"kdnas": "[" * 100_000})
    with pytest.raises(ValueError, match="facts are nested too deeply"):
        read_tensors(tmp_path / "x")


def test_formats_do_not_pass_for_each_other(make_student: MakeStudent) -> None:
    for have, want, said in (
        ("float", "w8a8i8", "input_ranges"),  # its scales are missing
        ("w8a8i8", "float", "is not|no such|Unexpected"),
    ):
        student = make_student(have)
        spec = StudentSpec(family="mlp", base=(16, 16), hidden=(8, 6), bits=parse_bits(want))
        with pytest.raises(BundleError, match=rf"^here: the weights are not those of the spec .*({said})"):
            rebuild_student(spec, DRONE, student_tensors(student), where="here")


def test_a_number_that_nothing_asks_for(make_student: MakeStudent) -> None:
    student = make_student()
    tensors = student_tensors(student) | {"linears.0.scale": torch.tensor(1.0)}
    with pytest.raises(BundleError, match=r"linears.0.scale"):
        rebuild_student(student.spec, DRONE, tensors, where="here")


def test_a_normalisation_of_other_features(make_student: MakeStudent) -> None:
    student = make_student()
    for wrong in (Normalisation(shift=(0.0,) * 4, scale=(1.0,) * 4), Normalisation(shift=(0.0,) * 3, scale=(1.0,))):
        with pytest.raises(BundleError, match="the normalisation is not one of 3 features"):
            rebuild_student(student.spec, DRONE, student_tensors(student), normalisation=wrong, where="here")
