"""Generated C: compiled without a warning, clean under sanitizers, and its reference bit for bit."""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kdnas.export.c as exporter
import kdnas.students.integer as integer
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.export import CExporter
from kdnas.export.c_library import FLAGS, CLibrary, compile_library, find_compiler
from kdnas.export.c_network import literal
from kdnas.export.c_source import name_groups
from kdnas.export.c_student import CStudent
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.policies.arrays import Floats
from kdnas.profiling.memory import memory_bytes
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family, read_features
from kdnas.students.integer import decide
from kdnas.students.mlp import Mlp
from kdnas.students.student import Normalisation, Student
from kdnas.students.team import Team
from kdnas.testing import check_exporter

from .conftest import MakeStudent, MakeTeam

Observe = Callable[[int, int], Floats]
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow")
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
BITS = ("float", "w2a8i8", "w3a4i6", "w4a8i8", "w6a8i8", "w8a8i8", "w5a3i4")
FORMS = [("mlp", bits) for bits in BITS]
FORMS += [("gru", bits) for bits in ("float", "w2a8i8", "w3a4i6", "w4a8i8", "w7a2i5", "w8a8i8")]
FORMS += [("deepset", bits) for bits in ("float", "w2a4i8", "w4a8i8", "w5a3i4", "w6a8i6", "w8a8i8")]
FORMS += [("mlp_softsign", bits) for bits in ("float", "w2a8i8", "w3a4i6", "w6a2i8", "w8a8i8")]
MIXED = ("w8-3-4-2a4-8-2i8", "w5-4-8-6a8-3-6i4p", "w4a8i8p", "w8a8i8p", "w2a2i2p")
"""Of more layers than most groups have."""
FORMS += [(family, bits) for family in ("mlp", "mlp_softsign") for bits in MIXED]
KINDS: dict[str, tuple[ActionSpace, bool]] = {
    "one": (Discrete(5), False),
    "masked": (Discrete(3), True),
    "factors": (MultiDiscrete((2, 3)), True),
    "clipped": (Box((-0.3, -1.0, -float("inf")), (0.3, 0.0, 0.2)), False),
    "squashed": (Box((-0.3, -1.0, 0.0), (0.3, 0.0, 5.0), squashed=True), False),
}
HIDDEN = {"one": (24, 16), "masked": (9,), "factors": (17, 6), "clipped": (8, 33, 7), "squashed": (1, 40)}
CONSTANT = {"one": (14, 15, 16, 17), "factors": (2,)}
PRUNED = {"one": (0, 6, 13), "clipped": (1, 2, 9, 15)}
"""What students of families that can do without are pruned of besides."""
ENTITIES = {
    "one": Entities(
        own=(0, 1, 2, 3),
        sets=(
            EntitySet(name="landmarks", members=((4, 5), (6, 7), (8, 9))),
            EntitySet(name="others", members=((10, 11), (12, 13))),
        ),
    ),
    "masked": Entities(own=(), sets=(EntitySet(name="all", members=((3, 1), (0, 2))),)),  # 4 belongs to none
    "factors": Entities(own=(6, 0), sets=(EntitySet(name="all", members=((1,), (3,), (4,), (5,))),)),
    "clipped": Entities(own=(9,), sets=(EntitySet(name="all", members=tuple((i, i + 5, i + 11) for i in range(3))),)),
    "squashed": Entities(own=(2,), sets=(EntitySet(name="one", members=((0, 1),)),)),
}
SIZES = {"one": 18, "masked": 5, "factors": 7, "clipped": 16, "squashed": 3}

needs_cc = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


@pytest.fixture
def zoo(make_student: MakeStudent, make_team: MakeTeam) -> Callable[[str, str], Team]:
    """A team with a group for each kind of action; one is normalised, one has two agents."""

    def make(family: str, bits: str) -> Team:
        students = {}
        for kind, (actions, masked) in KINDS.items():
            constant = CONSTANT.get(kind, ())
            spaces = AgentSpec(
                observation_size=SIZES[kind],
                actions=actions,
                masked=masked,
                constant=constant,
                pruned=PRUNED.get(kind, ()) if family != "deepset" else (),
                entities=ENTITIES[kind],
            )
            hidden = (*HIDDEN[kind], 4) if (kind, family) == ("masked", "deepset") else HIDDEN[kind]
            normalisation = Normalisation(shift=(0.5,) * 6, scale=(1.5,) * 6) if kind == "factors" else None
            students[kind] = make_student(of_depth(bits, len(hidden)), spaces, hidden, normalisation, family)
        return make_team(students, {kind: (kind, "twin") if kind == "one" else (kind,) for kind in KINDS})

    return make


def of_depth(bits: str, depth: int) -> str:
    """Bits of each layer for a student of fewer layers."""

    def first(widths: str, count: int) -> str:
        return "-".join(widths.split("-")[:count])

    found = re.fullmatch(r"w([0-9-]+)a([0-9-]+)(i.*)", bits)
    return f"w{first(found[1], depth + 1)}a{first(found[2], depth)}{found[3]}" if found else bits


def build(folder: Path, *sources: str, flags: tuple[str, ...] = SANITIZED) -> str:
    """Compile a program of an exported folder and run it; what it prints."""
    command = [find_compiler() or "cc", *STRICT, *flags, *sources, "team.c", "-o", "program", "-lm"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return subprocess.run([folder / "program"], cwd=folder, check=True, capture_output=True, text=True).stdout


@needs_cc
@pytest.mark.parametrize(("family", "bits"), FORMS)
def test_c_is_its_reference(
    family: str, bits: str, zoo: Callable[[str, str], Team], observe: Observe, tmp_path: Path
) -> None:
    team = zoo(family, bits)
    recorded = {kind: 2 * observe(1000, SIZES[kind]) for kind in KINDS}
    artifact = CExporter().export(team, tmp_path, recorded=recorded)
    assert sorted(artifact.files) == ["Makefile", "main.c", "team.c", "team.h", "test.c", "vectors.h"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(artifact.files)
    assert (artifact.checked_rows, artifact.note) == (5000, "")
    assert artifact.agreed_rows >= 4996
    # One step of one activation; in few bits such a step is large.
    assert artifact.max_error < (1e-5 if bits == "float" else 0.1 if "mlp" in family else 0.5)
    assert build(tmp_path, "test.c", "-DKDNAS_TRACE") == "0 of 320 rows are wrong\n"
    portable = ("-DKDNAS_TRACE", "-DKDNAS_VECTORS=0")
    assert build(tmp_path, "test.c", *portable, flags=(*SANITIZED, "-O0")) == "0 of 320 rows are wrong\n"
    assert build(tmp_path, "main.c", flags=("-O0",)).splitlines()[-1].startswith("squashed: ")

    # What no recording holds: infinite, huge and missing numbers, at the integers' limits and past them.
    compile_library(find_compiler() or "cc", tmp_path, tmp_path / "team.so", prefix="kdnas", flags=(*STRICT, "-O3"))
    library, names = CLibrary(tmp_path / "team.so", prefix="kdnas"), name_groups(team, "kdnas")
    for kind in KINDS:
        student = CStudent(team.students[kind], names[kind])
        wild = observe(300, SIZES[kind]) * np.float32(10.0) ** np.random.default_rng(0).integers(-3, 4, (300, 1))
        if student.integer:
            wild[::7, 0], wild[1::7, -1], wild[2::7, 0] = np.nan, np.inf, -3e38
        layers, outputs, actions = library.run(student, wild)
        want_layers, want = student.answer(wild)
        if student.integer:
            assert (layers == want_layers).all()
            assert (outputs == want).all()
        else:
            assert np.allclose(outputs, want, rtol=1e-4, atol=1e-4)
        if kind in ("clipped", "squashed"):
            space = KINDS[kind][0]
            assert isinstance(space, Box)
            assert np.abs(actions - decide(space, outputs)).max() <= 1e-6  # tanhf against NumPy's
            assert (actions >= np.array(space.low, np.float32)).all()
            assert (actions <= np.array(space.high, np.float32)).all()


@needs_cc
def test_one_team_may_have_students_of_every_kind(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    spaces = AgentSpec(observation_size=18, actions=Discrete(5), entities=ENTITIES["one"])
    students = {
        f"{family}_{bits}": make_student(bits, spaces, kind=family)
        for family in ("mlp", "mlp_softsign", "gru", "deepset")
        for bits in ("float", "w4a8i8", "w3a4i6", "w4-8-3a4-8i8p", "w4-8-3a4-8i8")
        if "mlp" in family or "-" not in bits
    }
    team = make_team(students, {group: (group,) for group in students})
    CExporter().export(team, tmp_path, recorded=dict.fromkeys(students, observe(64, 18)))
    assert build(tmp_path, "main.c").count("\n") == 16


@needs_cc
def test_ties_go_to_the_lowest_legal_choice(make_student: MakeStudent, make_team: MakeTeam, tmp_path: Path) -> None:
    spaces = AgentSpec(observation_size=3, actions=Discrete(4), masked=True)
    student = make_student("w4a8i8", spaces, (6,))
    with torch.no_grad():  # all rows of the last layer are one
        last = student.network.linears[-1]
        for tensor in (last.weight, last.bias, last.weight_quant.tensor_quant.scaling_impl.value):
            tensor[:] = tensor[:1]
    team, rows = make_team({"solo": student}, {"solo": ("a",)}), np.zeros((8, 3), np.float32)
    CExporter().export(team, tmp_path, recorded={"solo": rows})
    compile_library(find_compiler() or "cc", tmp_path, tmp_path / "team.so", prefix="kdnas")
    library, own = CLibrary(tmp_path / "team.so", prefix="kdnas"), CStudent(student, "kdnas_solo")
    masks = np.array([[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]], np.bool_)
    assert library.run(own, rows[:6], masks)[2].tolist() == [0, 1, 2, 3, 1, 0]
    assert library.run(own, rows[:1])[2].tolist() == [0]


@needs_cc
@pytest.mark.parametrize(
    ("family", "pruned", "bits"),
    [
        *(
            (family, pruned, bits)
            for family, pruned in [
                *((family, ()) for family in ("mlp", "mlp_softsign", "gru", "deepset")),
                ("mlp", (0, 5)),
                ("gru", (2, 3, 17)),
            ]
            for bits in ("float", "w3a8i8", "w8a8i8")
        ),
        *(("mlp", (0, 5), bits) for bits in ("w8-3-5a4-8i8", "w4a8i8p", "w3-4-2a8-4i8p")),
        *(("mlp_softsign", (), bits) for bits in ("w8-3-5a4-8i8", "w4a8i8p", "w3-4-2a8-4i8p")),
    ],
)
def test_tables_and_buffers_are_the_bytes_of_the_formula(
    family: str,
    pruned: tuple[int, ...],
    bits: str,
    make_student: MakeStudent,
    make_team: MakeTeam,
    observe: Observe,
    tmp_path: Path,
) -> None:
    read = 18 - len(pruned)
    normalisation = Normalisation(shift=(0.5,) * read, scale=(2.0,) * read)
    spaces = AgentSpec(observation_size=18, actions=Discrete(5), entities=ENTITIES["one"], pruned=pruned)
    student = make_student(bits, spaces, normalisation=normalisation, kind=family)
    own = CStudent(student, "kdnas_solo")
    tables = sum(table.values.nbytes for table in [*own.tables, *own.network.shared])
    live = (own.live + own.network.units) * (1 if own.integer else 4)
    layers = load_family(family).layers(student.spec, student.spaces.inputs)
    # What no entity has is not normalised: 18 features are seen, 14 declared.
    features = read_features(load_family(family), student.spaces.inputs)
    assert features == (14 if family == "deepset" else read)
    assert tables + live == memory_bytes(layers, normalised_features=features)

    CExporter().export(make_team({"solo": student}, {"solo": ("a",)}), tmp_path, recorded={"solo": observe(10, 18)})
    command = [find_compiler() or "cc", "-std=c99", "-O0", "-c", "team.c", "-o", "team.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    if (nm := shutil.which("nm")) is None:
        pytest.skip("there is no nm")
    said = subprocess.run([nm, "-S", "team.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    symbols = [line.split() for line in said.splitlines()]
    assert sum(int(symbol[1], 16) for symbol in symbols if symbol[-2] == "r") == tables
    defined = [symbol[-1] for symbol in symbols if symbol[-2] in "TtRrDdBb"]
    assert [name for name in defined if not name.startswith("kdnas_")] == []
    assert [symbol for symbol in symbols if symbol[-2] in "DdBbCc"] == []  # nothing can be written to
    needed = {symbol[-1] for symbol in symbols if symbol[-2] == "U"}
    assert needed <= {"memcpy", "memset", "__stack_chk_fail"} | ({"expf", "tanhf"} if own.network.libm else set())


@needs_cc
def test_another_prefix(make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path) -> None:
    team = make_team({"The 2nd-group": make_student("w4a8i8")}, {"The 2nd-group": ("a*/b",)})
    CExporter(prefix="robot").export(team, tmp_path, recorded={"The 2nd-group": observe(20, 18)})
    header = (tmp_path / "team.h").read_text()
    assert "void robot_the_2nd_group_step(const float *observation, int32_t *action, float *outputs);" in header
    assert "kdnas_" not in (tmp_path / "team.c").read_text()
    made = subprocess.run(["make", "-s", "test"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert made.stdout == "0 of 20 rows are wrong\n"


@pytest.mark.parametrize(
    ("groups", "prefix", "said"),
    [
        (("a b", "a-b"), "kdnas", r"the groups 'a b', 'a-b' have no C names of their own \('kdnas_a_b'\)"),
        (("**",), "kdnas", r"the groups '\*\*' have no C names"),
        (("a",), "1", "the prefix '1' is no C name"),
    ],
)
def test_names_that_c_cannot_have(
    groups: tuple[str, ...], prefix: str, said: str, make_student: MakeStudent, make_team: MakeTeam
) -> None:
    student = make_student()
    team = make_team(dict.fromkeys(groups, student), {group: (f"{group}_0",) for group in groups})
    with pytest.raises(StudentError, match=said):
        name_groups(team, prefix)


def test_numbers_are_written_exactly() -> None:
    assert literal(np.float32(0.1)) == "0x1.99999ap-4f"
    assert literal(np.float32(-2)) == "-0x1p+1f"
    assert literal(np.float32(0)) == "0x0p+0f"
    assert [literal(value) for value in (np.uint32(7), np.int32(-7), np.int32(-(2**31)))] == ["7u", "-7", "INT32_MIN"]


def test_without_a_compiler_the_reference_is_compared(
    make_student: MakeStudent,
    make_team: MakeTeam,
    observe: Observe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(exporter, "find_compiler", lambda: None)
    team = make_team({"solo": make_student("w8a8i8")}, {"solo": ("a",)})
    artifact = CExporter().export(team, tmp_path, recorded={"solo": observe(100, 18)})
    assert artifact.note.startswith("no C compiler was found on this machine: the C was not run")
    assert artifact.note in caplog.text
    assert artifact.checked_rows == 100
    assert (tmp_path / "team.c").is_file()


@needs_cc
def test_c_that_is_not_its_reference_is_refused_and_not_left_behind(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, write = make_team({"solo": make_student("w8a8i8")}, {"solo": ("a",)}), exporter.write_source
    recorded = {"solo": observe(100, 18)}

    def off_by_one(students: Mapping[str, CStudent], prefix: str) -> str:
        return write(students, prefix).replace("1 << (shift - 1u)", "3 << (shift - 1u)")

    monkeypatch.setattr(exporter, "write_source", off_by_one)
    with pytest.raises(StudentError, match=r"group 'solo': the compiled C differs from the integer reference in the l"):
        CExporter().export(team, tmp_path / "new", recorded=recorded)
    monkeypatch.setattr(exporter, "write_source", lambda students, prefix: write(students, prefix) + "int 1;\n")
    with pytest.raises(StudentError, match=r"refuses the generated C: .*team.c"):
        CExporter().export(team, tmp_path / "new", recorded=recorded)
    assert list(tmp_path.iterdir()) == []


class Squared(Mlp):
    """A network of some other family."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations).square()


class Plain:
    """A family that says nothing of integers."""

    def hidden_size(self, spec: StudentSpec) -> int:
        return 0


def test_families_without_a_form_in_c_are_refused(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = StudentSpec(family="mlp", base=(8,), hidden=(8,))
    spaces = AgentSpec(observation_size=6, actions=Discrete(3))
    student = Student(spec, spaces, Squared([6, 8, 3], torch.Generator().manual_seed(0))).eval()
    with pytest.raises(StudentError, match="student mlp 8 float: Squared has no form in C; export the team as onnx"):
        CExporter().export(
            make_team({"solo": student}, {"solo": ("a",)}), tmp_path / "new", recorded={"solo": observe(10, 6)}
        )
    team = make_team({"solo": make_student("w4a8i8")}, {"solo": ("a",)})
    monkeypatch.setattr(integer, "load_family", lambda name: Plain())
    with pytest.raises(StudentError, match="the family has no integer form; give it `integers`, or export"):
        CExporter().export(team, tmp_path / "new", recorded={"solo": observe(10, 18)})
    assert list(tmp_path.iterdir()) == []


@needs_cc
@pytest.mark.parametrize("bits", ["float", "w4a8i8"])
def test_each_agent_remembers_in_a_state_of_its_own(
    bits: str, make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    team = make_team({"duo": make_student(bits, hidden=(8,), kind="gru")}, {"duo": ("left", "right")})
    CExporter().export(team, tmp_path, recorded={"duo": observe(64, 18)})
    kind = "float" if bits == "float" else "uint8_t"
    assert f"    {kind} hidden[8];\n}} kdnas_duo_state;" in (tmp_path / "team.h").read_text()
    (tmp_path / "two.c").write_text(_TWO)
    # Two agents in turns say what each says alone, and begin anew as they began.
    assert build(tmp_path, "two.c") == "0\n"


_TWO = """\
#include <stdio.h>
#include <string.h>

#include "team.h"

static float seen[2][4][18], alone[2][4][5], again[2][4][5];

int main(void)
{
    kdnas_duo_state states[2];
    int32_t action[1];
    int wrong = 0;
    for (int i = 0; i < 2 * 4 * 18; i++)
        (&seen[0][0][0])[i] = (float)(i * 37 % 11) - 5.0f;
    for (int agent = 0; agent < 2; agent++) {
        kdnas_duo_begin(&states[0]);
        for (int step = 0; step < 4; step++)
            kdnas_duo_step(&states[0], seen[agent][step], action, alone[agent][step]);
    }
    kdnas_duo_begin(&states[0]);
    kdnas_duo_begin(&states[1]);
    for (int step = 0; step < 4; step++)
        for (int agent = 0; agent < 2; agent++)
            kdnas_duo_step(&states[agent], seen[agent][step], action, again[agent][step]);
    wrong += memcmp(alone, again, sizeof alone) != 0;
    kdnas_duo_step(&states[0], seen[0][0], action, again[0][0]); /* it remembers four steps */
    wrong += memcmp(alone[0][0], again[0][0], sizeof alone[0][0]) == 0;
    printf("%d\\n", wrong);
    return 0;
}
"""


def test_weights_that_are_no_numbers_are_refused(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    for bits in ("float", "w4a8i8"):
        student = make_student(bits)
        with torch.no_grad():
            student.network.linears[1].bias[0] = float("nan")
        team = make_team({"solo": student}, {"solo": ("a",)})
        with pytest.raises(StudentError, match=r"linears.1.bias holds NaN or infinity"):
            CExporter().export(team, tmp_path / "new", recorded={"solo": observe(10, 18)})
    assert list(tmp_path.iterdir()) == []


def test_the_contract(tmp_path: Path) -> None:
    for family in ("mlp", "gru"):
        (tmp_path / family).mkdir()
        check_exporter(CExporter(), tmp_path / family, family=family)
    assert (CExporter().name, FLAGS[0]) == ("c", "-std=c99")


@needs_cc
def test_a_student_for_whom_rounding_decides_is_refused(
    make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    """No row of its recording would tell a wrong program from a right one."""
    student = make_student("float")
    with torch.no_grad():
        last: Any = student.network.linears[-1]
        last.weight.zero_()
        last.bias.fill_(1.0)
    team = make_team({"solo": student}, {"solo": ("a",)})
    with pytest.raises(StudentError, match="its outputs are nearly equal in all recorded rows"):
        CExporter().export(team, tmp_path / "x", recorded={"solo": observe(50, 18)})
    assert not (tmp_path / "x").exists()
    # In one row the others are small beside the first: its largest output is no measure for them.
    with torch.no_grad():
        last.bias.copy_(torch.tensor([1.0, 0.5, 0.0, 0.0, 0.0]))
        last.weight[0, 0] = 1e5
    CExporter().export(team, tmp_path / "x", recorded={"solo": observe(50, 18)})
    assert build(tmp_path / "x", "test.c", "-DKDNAS_TRACE") == "0 of 50 rows are wrong\n"
