"""The contract of a target: the device and runtime on which a team will run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.policies.arrays import Floats
from kdnas.spaces.spec import Bits, StudentSpec
from kdnas.students.student import Student


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one decision of one agent takes at batch 1, in one thread. Budgets compare the 95th percentile of time."""

    p50_s: float
    p95_s: float
    p99_s: float
    flash_bytes: int = 0
    """Code and constants, in memory that keeps them; 0 on targets that do not say."""
    ram_bytes: int = 0
    """State between decisions, buffers, and the deepest stack; 0 on targets that do not say."""
    reference_s: float = 0.0
    """Median time of the target's reference kernel, measured in turns with it; 0 on targets that count."""
    drift: float = 0.0
    """How much slower the slowest chunk of the reference kernel was than the fastest: 0.1 is a tenth."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `as_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        times = {name: float(data[name]) for name in ("p50_s", "p95_s", "p99_s", "reference_s", "drift")}
        return cls(**times, flash_bytes=int(data["flash_bytes"]), ram_bytes=int(data["ram_bytes"]))


class Target(Protocol):
    """Where students run, and how a decision is measured there. Not the torch device that they are trained on.

    Registered under `kdnas.targets`, made with the study's `[target]` arguments; a class that derives from this one has
    the answers below where it gives none of its own. Methods that measure are called in the coordinator while no worker
    trains; `measure` and `measure_module` may neither train nor read a student's weights, for those do not exist yet.
    """

    name: str
    """Short and fixed: measurements are kept under it."""
    metrics: frozenset[str] = frozenset({"latency"})
    """Budget metrics that it measures: `latency`, and maybe `flash` and `ram`."""
    exporter: str = "onnx"
    """The form in which students run there; every student folder holds it."""
    note: str = "Latency was measured where the search ran."
    """What its figures are, in sentences for the card of a student."""

    def missing(self) -> str:
        """What is to be installed before it can measure, in a sentence; nothing where all is there."""
        return ""

    def number_format(self, bits: Bits) -> str:
        """What of a student's bits makes a difference there: equal texts, equal measurements."""
        return str(bits)

    def fingerprint(self) -> dict[str, str]:
        """What a measurement depends on besides the network: runtime, version, cpu, threads."""
        ...

    def measure(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Measurement:
        """Measure a student of this shape and number format; `normalised` puts the map of observations before it.

        It is shown `spaces.observation_size` features, and its network reads those of `spaces.inputs`.

        Raises:
            StudentError: the target cannot run such a student.
        """
        ...

    def measure_student(self, student: Student, views: Floats) -> Measurement:
        """Measure a finished student on recorded views (rows, V).

        Raises:
            StudentError: the target cannot run it.
        """
        normalised = student.normalisation is not None
        return self.measure(student.spec.family, student.spec, student.spaces, normalised=normalised)

    def measure_module(self, network: nn.Module, probe: tuple[Tensor, ...]) -> Measurement:
        """Measure a float network with its own weights, as teachers are; `probe` is what it takes, of one row.

        Raises:
            StudentError: the target cannot run it.
        """
        ...

    def run_tests(self, exported: Path) -> str:
        """Run there what an exported folder brings to test itself with; what it says, or nothing where it brings none.

        Raises:
            StudentError: it says that something is wrong.
        """
        return ""

    def reference_s(self) -> float:
        """Time of a fixed kernel: of two records of one machine, the ratio says how busy it was."""
        ...
