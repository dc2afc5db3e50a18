"""Microcontrollers, compiled for and counted; needs the ARM toolchain and QEMU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import BudgetError, ConfigError
from kdnas.export import CExporter
from kdnas.policies.actions import Box, Discrete, MultiDiscrete
from kdnas.profiling.memory import memory_bytes
from kdnas.profiling.targets.cortex import M0PLUS, M4, M7, Core, CortexTarget, make_m0plus, make_m4, make_m7
from kdnas.profiling.untrained import make_untrained
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.team import Team
from kdnas.teachers.network import make_mlp

from ..test_flops import Cell

SPACES = AgentSpec(observation_size=18, actions=Discrete(5))
LACKING = CortexTarget(M4).missing()
needs_arm = pytest.mark.skipif(bool(LACKING), reason=LACKING or "all is there")


def spec(bits: str, *hidden: int, family: str = "mlp_softsign") -> StudentSpec:
    return StudentSpec(family=family, base=hidden, hidden=hidden, bits=parse_bits(bits))


def test_names_and_clocks() -> None:
    assert CortexTarget(M4).name == "cortex-m4@168MHz"
    assert CortexTarget(M7, clock="0.48GHz").name == "cortex-m7@480MHz"
    assert [make().core for make in (make_m0plus, make_m4, make_m7)] == [M0PLUS, M4, M7]
    with pytest.raises(BudgetError, match="'64' needs a unit of frequency; write for example 168MHz"):
        CortexTarget(M4, clock="64")
    with pytest.raises(ConfigError, match="target 'cortex-m4': the clock must be positive, but got '0Hz'"):
        CortexTarget(M4, clock="0Hz")


@needs_arm
@pytest.mark.parametrize("core", [M0PLUS, M4, M7], ids=lambda core: core.name)
def test_a_decision_is_counted_the_same_each_time(core: Core) -> None:
    slow, fast = CortexTarget(core, clock="10MHz"), CortexTarget(core, clock="20MHz")
    one = slow.measure("mlp", spec("float", 24, 24, family="mlp"), SPACES)
    assert one == slow.measure("mlp", spec("float", 24, 24, family="mlp"), SPACES)
    # 18*24 + 24*24 + 24*5 = 1,128 multiply-accumulates; with a floating-point unit a handful of instructions each,
    # without one about a hundred.
    instructions = one.p50_s * 10e6
    low, high = (100_000, 400_000) if core is M0PLUS else (3_000, 10_000)
    assert low < instructions < high
    twice = fast.measure("mlp", spec("float", 24, 24, family="mlp"), SPACES)
    assert one.p50_s == pytest.approx(2 * twice.p50_s)
    assert (one.flash_bytes, one.ram_bytes) == (twice.flash_bytes, twice.ram_bytes)


@needs_arm
def test_flash_and_ram_hold_what_the_formula_says() -> None:
    """Tables and the two live vectors, and code and saved registers besides."""
    target, family = CortexTarget(M4), load_family("mlp_softsign")
    for bits in ("float", "w8a8i8", "w4a8i8", "w3a8i8"):
        own = spec(bits, 24, 16)
        measured = target.measure("mlp_softsign", own, SPACES)
        # The largest pair: 24 + 16 floats; 18 + 24 bytes, as many as 16 and five 32-bit outputs and more.
        live = 4 * (18 + 24) if bits == "float" else 18 + 24
        tables = memory_bytes(family.layers(own, SPACES)) - live
        assert tables < measured.flash_bytes < tables + 6_000
        assert live < measured.ram_bytes < live + 500


@needs_arm
def test_fewer_bits_take_less_flash() -> None:
    target = CortexTarget(M0PLUS)
    sizes = [target.measure("mlp", spec(bits, 64, 64, family="mlp"), SPACES).flash_bytes
             for bits in ("float", "w8a8i8", "w4a8i8", "w2a8i8")]  # fmt: skip
    assert sizes == sorted(sizes, reverse=True)
    # 5,568 weights: 4 bytes, 1, a half and a quarter.
    assert 2_000 < sizes[1] - sizes[2] < 3_000


@needs_arm
def test_a_large_teacher_does_not_answer_in_two_milliseconds() -> None:
    network = make_mlp(18, (256, 256), 5, generator=torch.Generator().manual_seed(0))
    measured = CortexTarget(M4, clock="64MHz").measure_module(network, (torch.zeros(1, 18),))
    assert 2e-3 < measured.p95_s < 6e-3  # 71,424 multiply-accumulates of two to five instructions
    assert measured.flash_bytes > 4 * (18 * 256 + 256 * 256 + 256 * 5)


@needs_arm
def test_a_network_that_is_no_perceptron_is_estimated() -> None:
    target, cell = CortexTarget(M4), Cell()
    measured = target.measure_module(cell, (torch.zeros(1, 6), torch.zeros(1, 8)))
    assert 0 < measured.p50_s < target.reference_s()
    assert measured.flash_bytes == 4 * sum(parameter.numel() for parameter in cell.parameters())


@needs_arm
@pytest.mark.parametrize("actions", [MultiDiscrete((2, 3)), Box((-1.0,), (1.0,)), Box((-1.0,), (1.0,), squashed=True)])
def test_other_actions_run_too(actions: Box | MultiDiscrete) -> None:
    spaces = replace(SPACES, actions=actions, masked=not isinstance(actions, Box), constant=(2, 3))
    student = make_untrained(load_family("mlp"), spec("w4a8i8", 8, family="mlp"), spaces, normalised=True)
    views = np.random.default_rng(0).standard_normal((40, 18)).astype(np.float32)
    assert CortexTarget(M0PLUS).measure_student(student, views).p50_s > 0


@needs_arm
@pytest.mark.parametrize("core", [M0PLUS, M4, M7], ids=lambda core: core.name)
def test_it_computes_there_what_it_computes_here(core: Core, tmp_path: Path) -> None:
    """The exported test program runs the recorded observations on the emulated core."""
    generator = np.random.default_rng(1)
    walls = EntitySet(name="walls", members=((2, 3), (4, 5), (6, 7)))
    spaces = replace(SPACES, entities=Entities(own=(0, 1), sets=(walls,)))
    students = {
        f"{family}_{bits}": make_untrained(
            load_family(family), spec(bits, 17, 9, family=family), spaces, normalised=False
        )
        for family in ("mlp", "mlp_softsign", "gru", "deepset")
        for bits in ("float", "w8a8i8", "w4a8i8", "w3a4i6")
    }
    seen = EnvSpec(
        name="all", agents=dict.fromkeys(students, spaces), groups={group: (group,) for group in students}, state_size=0
    )
    recorded = {group: generator.standard_normal((200, 18)).astype(np.float32) for group in students}
    CExporter().export(Team(seen, students), tmp_path, recorded=recorded)
    # Sixteen students, 64 rows each.
    assert CortexTarget(core).run_tests(tmp_path) == "0 of 1024 rows are wrong"


@needs_arm
def test_the_tools_are_named() -> None:
    fingerprint = CortexTarget(M4).fingerprint()
    assert "gcc" in fingerprint["compiler"]
    assert "QEMU" in fingerprint["counter"]
