"""The generated C, timed here and on a device that is a process of this machine."""

import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from kdnas.envs.spec import AgentSpec
from kdnas.errors import ConfigError, StudentError
from kdnas.export.c_library import find_compiler
from kdnas.policies.actions import Discrete
from kdnas.profiling.targets.c import CTarget, RemoteTarget
from kdnas.profiling.untrained import make_untrained
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.teachers.network import make_mlp

SPACES = AgentSpec(observation_size=18, actions=Discrete(5), masked=True)
needs_cc = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


def spec(bits: str, *hidden: int) -> StudentSpec:
    return StudentSpec(family="mlp", base=hidden, hidden=hidden, bits=parse_bits(bits))


@pytest.fixture
def remote(tmp_path: Path) -> RemoteTarget:
    """A device that is reached by a shell of this machine."""
    return RemoteTarget(run="sh -c {runner}", copy="cp -r {folder} {place}", place=str(tmp_path / "there"))


@needs_cc
@pytest.mark.parametrize("bits", ["float", "w4a8i8"])
def test_a_decision_in_c_takes_a_small_part_of_a_microsecond(bits: str) -> None:
    measured = CTarget().measure("mlp", spec(bits, 16, 16), SPACES, normalised=True)
    assert 1e-9 < measured.p50_s <= measured.p95_s <= measured.p99_s < 1e-4
    assert (measured.flash_bytes, measured.ram_bytes) == (0, 0)
    # Its 12,288 multiply-accumulates are 20 times those of the student.
    assert measured.p50_s < measured.reference_s < 1e-3


@needs_cc
def test_a_finished_student_is_timed_on_what_it_sees() -> None:
    student = make_untrained(load_family("mlp"), spec("w8a8i8", 8), SPACES, normalised=False)
    views = np.random.default_rng(0).standard_normal((100, 18)).astype(np.float32)
    assert 1e-9 < CTarget().measure_student(student, views).p50_s < 1e-4


@needs_cc
def test_a_student_that_remembers_is_timed_from_the_beginning_of_an_episode() -> None:
    shape = StudentSpec(family="gru", base=(8, 6), hidden=(8, 6), bits=parse_bits("w8a8i8"))
    assert 1e-9 < CTarget().measure("gru", shape, SPACES).p50_s < 1e-4


@needs_cc
def test_a_device_is_a_pair_of_commands(remote: RemoteTarget, tmp_path: Path) -> None:
    assert remote.missing() == ""
    assert remote.name == "remote:sh -c"
    fingerprint = remote.fingerprint()
    assert set(fingerprint) == {"device", "compiler", "flags", "cpu", "threads"}
    assert all(fingerprint.values())
    assert fingerprint["device"].startswith(platform.system())
    network = make_mlp(18, (64,), 5, generator=torch.Generator().manual_seed(0))
    small = remote.measure("mlp", spec("float", 8), SPACES)
    large = remote.measure_module(network, (torch.zeros(1, 18),))
    assert 1e-9 < small.p50_s < large.p50_s < 1e-4
    assert small.reference_s > 0
    there = {path.name for path in (tmp_path / "there").iterdir()}
    assert {"main.c", "team.c", "team.h", "rows.h", "reference", "program"} <= there


@needs_cc
def test_a_device_that_fails_is_said(tmp_path: Path) -> None:
    broken = RemoteTarget(run="sh -c {runner}", copy="false {folder}", place=str(tmp_path / "there"))
    with pytest.raises(StudentError, match=r"false .* failed"):
        broken.measure("mlp", spec("float", 8), SPACES)
    mute = RemoteTarget(run="echo {runner}", copy="true {folder}", place=str(tmp_path / "there"))
    with pytest.raises(StudentError, match="target 'remote:echo': the timing program did not print times"):
        mute.measure("mlp", spec("float", 8), SPACES)


@needs_cc
def test_what_commands_hold_besides_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Braces of a shell's variables, and what a login says on its error stream."""
    monkeypatch.setenv("PLACE", str(tmp_path / "there"))
    noisy = RemoteTarget(
        run="sh -c 'echo welcome >&2; eval \"$0\"' {runner}",
        copy="sh -c 'cp -r $0 ${PLACE}' {folder}",
        place=str(tmp_path / "there"),
    )
    assert noisy.fingerprint()["device"].startswith(platform.system())
    assert "welcome" not in noisy.fingerprint().values()
    assert 1e-9 < noisy.measure("mlp", spec("float", 8), SPACES).p50_s < 1e-4


def test_what_a_device_needs() -> None:
    with pytest.raises(ConfigError, match=r"target 'remote': \"ssh 'pi .*\" cannot be read: No closing quotation"):
        RemoteTarget(run="ssh 'pi {runner}", copy="scp {folder} pi:x")
    assert "must stand in [target] kwargs" in RemoteTarget().missing()
    assert RemoteTarget(run="no-such-ssh pi {runner}", copy="scp {folder} pi:x").missing().startswith("no-such-ssh")
    with pytest.raises(ConfigError, match=r"needs run = 'ssh pi \{runner\}' and copy = .* got run='ssh pi'"):
        RemoteTarget(run="ssh pi", copy="x")
