"""`CompiledTarget`: what targets have in common that run the generated C of one student."""

import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.export.scratch import check_room
from kdnas.policies.actions import Discrete
from kdnas.policies.arrays import Floats
from kdnas.profiling.activations import largest_activation_pair
from kdnas.profiling.flops import count_macs
from kdnas.profiling.target import Measurement, Target
from kdnas.profiling.targets.program import as_student
from kdnas.profiling.untrained import make_untrained
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.student import Student

_WIDTH = 64
"""Of the reference kernel, a float perceptron of three square layers."""


class CompiledTarget(Target):
    """See `Target`. A student that has no weights yet is written with random ones, for C needs some."""

    exporter = "c"

    @abstractmethod
    def run(self, student: Student, views: Floats | None) -> Measurement:
        """Compile and measure a student on some views (rows, V), or on random ones.

        Raises:
            StudentError: it has no C form, or a tool fails.
        """

    def measure(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Measurement:
        with torch.no_grad():
            return self.run(make_untrained(load_family(family), spec, spaces, normalised=normalised), None)

    def measure_student(self, student: Student, views: Floats) -> Measurement:
        with torch.no_grad():
            return self.run(student, views)

    def measure_module(self, network: nn.Module, probe: tuple[Tensor, ...]) -> Measurement:
        """A teacher: as a float perceptron of its layers; one that is no perceptron, from the time that the reference
        kernel takes for a multiply-accumulate, and as large as its parameters and vectors."""
        try:
            student = as_student(network, probe)
        except StudentError:
            share = count_macs(network, probe) / (3 * _WIDTH**2)
            time_s = share * self.reference_s()
            parameters = sum(parameter.numel() for parameter in network.parameters())
            sizes = (4 * parameters, 4 * largest_activation_pair(network, probe)) if "flash" in self.metrics else (0, 0)
            return Measurement(p50_s=time_s, p95_s=time_s, p99_s=time_s, flash_bytes=sizes[0], ram_bytes=sizes[1])
        with torch.no_grad():
            return self.run(student, None)

    def reference_s(self) -> float:
        with torch.no_grad():
            return self.run(self.reference, None).p50_s

    @cached_property
    def reference(self) -> Student:
        """The reference kernel."""
        spec = StudentSpec(family="mlp", base=(_WIDTH, _WIDTH), hidden=(_WIDTH, _WIDTH))
        spaces = AgentSpec(observation_size=_WIDTH, actions=Discrete(_WIDTH))
        return make_untrained(load_family("mlp"), spec, spaces, normalised=False)


def run_program(command: Sequence[str], folder: Path | None = None, *, errors: bool = False) -> str:
    """What a program says; with `errors` that on its error stream too.

    Raises:
        StudentError: it is not there, fails, or takes more than ten minutes.
        ScratchError: it has no room for its files.
    """
    try:
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or getattr(error, "stdout", None) or str(error)).strip().splitlines()
        named = [line for line in said if "error" in line or "undefined" in line] or said[-1:] or ["without a word"]
        check_room(command[0], said)
        raise StudentError(f"{' '.join(command[:2])} failed: {named[0]}") from error
    return done.stdout + done.stderr * errors
