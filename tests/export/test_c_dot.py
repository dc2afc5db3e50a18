"""Products of packed weights: every machine's steps say the same, at every bit-width and every number of columns."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kdnas.envs.spec import AgentSpec
from kdnas.export import CExporter
from kdnas.export.c_kernels import kernels
from kdnas.export.c_library import find_compiler
from kdnas.policies.actions import Discrete
from kdnas.policies.arrays import Floats
from kdnas.students.integer import IntegerLayer, softsign_steps

from .conftest import MakeStudent, MakeTeam
from .test_c import needs_cc

Observe = Callable[[int, int], Floats]
ARM = shutil.which("arm-none-eabi-gcc")
SANITIZED = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-fsanitize=address,undefined",
             "-fno-sanitize-recover=all")  # fmt: skip
DSP = """\
/* The instruction that ARM calls SMLAD, for machines without it. */
#include <stdint.h>
typedef int32_t int16x2_t;
static inline int32_t __smlad(int16x2_t a, int16x2_t b, int32_t sum)
{
    const int32_t low = (int16_t)(a & 0xFFFF) * (int16_t)(b & 0xFFFF);
    return sum + low + (int16_t)((uint32_t)a >> 16) * (int16_t)((uint32_t)b >> 16);
}
"""


@needs_cc
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("family", ["mlp", "mlp_softsign"])
def test_vectors_multipliers_and_plain_loops_are_one(
    family: str, bits: int, make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    # Columns of 1 to 41: without a group, with a rest, with spans below and above the 4 and 8 bytes of a step.
    students, own = {}, {}
    for index, hidden in enumerate([(1, 7), (17, 12), (33, 41, 3), (16, 32)]):
        spaces = AgentSpec(observation_size=5 + 8 * index, actions=Discrete(3))
        students[f"g{index}"] = make_student(f"w{bits}a8i8", spaces, hidden, None, family)
        own[f"g{index}"] = (f"a{index}",)
    recorded = {group: observe(64, student.spaces.observation_size) for group, student in students.items()}
    CExporter().export(make_team(students, own), tmp_path, recorded=recorded)
    (tmp_path / "arm_acle.h").write_text(DSP)
    for machine in ((), ("-DKDNAS_VECTORS=0",), ("-DKDNAS_VECTORS=0", "-DKDNAS_DSP=1", "-I.")):
        command = [find_compiler() or "cc", *SANITIZED, "-DKDNAS_TRACE", *machine, "test.c", "team.c", "-o", "t", "-lm"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        said = subprocess.run([tmp_path / "t"], check=True, capture_output=True, text=True).stdout
        assert said == "0 of 256 rows are wrong\n"


@needs_cc
def test_a_softsign_is_its_quotient_at_every_step(tmp_path: Path) -> None:
    # Quotients n + 1/2 over 2 L change at Z = U (2n - 1) / (2L - 2n + 1): around each, at both ends, and in between.
    unit, generator = 2**24, np.random.default_rng(0)
    headers = "".join(f"#include <{name}.h>\n" for name in ("stddef", "stdint", "stdio", "string"))
    program = headers + kernels([("softsign", 8)], (), columns=8, discrete=False) + """
int main(void)
{
    uint64_t sum;
    uint32_t one;
    while (fread(&sum, 8, 1, stdin) == 1 && fread(&one, 4, 1, stdin) == 1) {
        const uint32_t steps = kdnas_steps(sum, one);
        fwrite(&steps, 4, 1, stdout);
    }
    return 0;
}
"""
    (tmp_path / "steps.c").write_text(program)
    command = [find_compiler() or "cc", "-std=c99", "-O2", "steps.c", "-o", "steps"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    for one in (2, 4, 8, 16, 32, 64, 128):
        turns = np.array([unit * (2 * n - 1) // (2 * one - 2 * n + 1) for n in range(1, one + 1)], np.int64)
        near = (turns[:, None] + np.arange(-300, 301)).reshape(-1)
        ends = np.concatenate([np.arange(1000), 2**32 - 2**24 + np.arange(-70_000, 70_000), 2**32 + np.arange(-9, 9)])
        sums = np.concatenate([near, ends, generator.integers(0, 2**33, 200_000), 2 ** np.arange(62)])
        sums = np.maximum(sums, 0).astype(np.uint64)
        asked = np.zeros(len(sums), np.dtype([("sum", "<u8"), ("one", "<u4")]))
        asked["sum"], asked["one"] = sums, one
        said = subprocess.run([tmp_path / "steps"], input=asked.tobytes(), capture_output=True, check=True).stdout
        assert (np.frombuffer(said, np.uint32) == softsign_steps(sums, one)).all()


@needs_cc
@pytest.mark.parametrize("kind", ["relu", "softsign"])
def test_four_activations_at_once_are_those_of_each(kind: str, tmp_path: Path) -> None:
    # With factor 2 and shift 1 a sum is Z itself, so that the places where softsign's quotients change are met.
    headers = "".join(f"#include <{name}.h>\n" for name in ("stddef", "stdint", "stdio", "string"))
    program = headers + kernels([(kind, 8)], (), columns=8, discrete=False) + f"""
int main(void)
{{
    int32_t sums[4];
    uint32_t factors[4], how[2];
    kdnas_value into[4];
    while (fread(sums, 4, 4, stdin) == 4 && fread(factors, 4, 4, stdin) == 4 && fread(how, 4, 2, stdin) == 2) {{
#if KDNAS_VECTORS
        const __m128i all = _mm_loadu_si128((const __m128i *)(const void *)sums);
        kdnas_{kind}_four(all, factors, how[0], how[1], into);
#else
        for (int i = 0; i < 4; i++)
            into[i] = kdnas_{kind}_of(sums[i], factors[i], how[0], how[1]);
#endif
        fwrite(into, 1, 4, stdout);
    }}
    return 0;
}}
"""
    (tmp_path / "four.c").write_text(program)
    for flags in ((), ("-DKDNAS_VECTORS=0",)):
        command = [find_compiler() or "cc", "-std=c99", "-O2", *flags, "four.c", "-o", "four"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        generator = np.random.default_rng(0)
        for bits in (2, 4, 8):
            limit = 2 ** (bits - 1) - 1 if kind == "softsign" else 2**bits - 1
            turns = [2**24 * (2 * n - 1) // (2 * limit + 2 - 2 * n + 1) for n in range(1, limit + 2)]
            near = (np.array(turns)[:, None] + np.arange(-150, 150)).reshape(-1) % 2**31
            ends = np.array([0, 1, -1, 2**31 - 1, 1 - 2**31])
            most = 2**31 - 1
            for shift, least in ((1, 2), (20, 2**30), (31, 1), (40, 2**20), (62, 1)):
                factors = (least, 2 if shift == 1 else most)
                some = generator.integers(-(2**24), 2**24, 4000) >> generator.integers(0, 20, 4000)
                sums = np.concatenate([near, -near, ends, some])
                rows = np.resize(sums, (-(-len(sums) // 4), 4)).astype(np.int32)
                by = generator.integers(*factors, rows.shape, np.uint32, endpoint=True)
                asked = np.concatenate([rows.astype(np.uint32), by, np.tile([shift, limit], (len(rows), 1))], 1)
                run = subprocess.run(
                    [tmp_path / "four"], input=asked.astype("<u4").tobytes(), capture_output=True, check=True
                )
                layer = IntegerLayer(weights=np.zeros((4, 1), np.int8), bits=8, biases=np.zeros(4, np.int32),
                                     factors=by, shift=shift, limit=limit, softsign=kind == "softsign")  # fmt: skip
                lowest = -1 - limit if kind == "softsign" else 0
                said = np.frombuffer(run.stdout, np.uint8).reshape(rows.shape)
                assert (said == layer.activate(rows) - lowest).all()


@pytest.mark.skipif(ARM is None, reason="there is no arm-none-eabi-gcc")
@pytest.mark.parametrize(("core", "has"), [("cortex-m4", True), ("cortex-m7", True), ("cortex-m0plus", False)])
@pytest.mark.parametrize("bits", ["w8a8i8", "w4a8i8", "w3a8i8"])
def test_cores_with_16_bit_multipliers_use_them(
    bits: str, core: str, has: bool, make_student: MakeStudent, make_team: MakeTeam, observe: Observe, tmp_path: Path
) -> None:
    # 64 columns of 3-bit weights are 8 groups, so that 4 bytes stand side by side in each plane.
    team = make_team({"solo": make_student(bits, hidden=(64, 64))}, {"solo": ("a",)})
    CExporter().export(team, tmp_path, recorded={"solo": observe(20, 18)})
    command = [ARM or "", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O3", f"-mcpu={core}", "-mthumb",
               "-S", "team.c", "-o", "team.s"]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert ("smlad" in (tmp_path / "team.s").read_text()) == has
