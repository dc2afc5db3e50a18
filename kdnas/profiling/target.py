"""The contract of a target: the device and runtime on which a team will run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.spaces.spec import StudentSpec


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of one decision of one agent at batch 1, in one thread, in seconds. Budgets compare the 95th percentile."""

    p50_s: float
    p95_s: float

    def as_json(self) -> dict[str, float]:
        return {"p50": self.p50_s, "p95": self.p95_s}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(p50_s=float(data["p50"]), p95_s=float(data["p95"]))


class Target(Protocol):
    """Where students run, and how a decision is timed there. Not the torch device that they are trained on.

    Registered under `kdnas.targets`, made with the study's `[target]` arguments. Methods that measure are called in the
    coordinator while no worker trains; they may neither train nor read weights, for those do not exist yet.
    """

    @property
    def name(self) -> str:
        """Short and fixed: measurements are kept under it."""
        ...

    def fingerprint(self) -> dict[str, str]:
        """What a time depends on besides the network: runtime, version, cpu."""
        ...

    def latency(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Latency:
        """Time a student of this shape and number format; `normalised` puts the map of observations before it.

        It is shown `spaces.observation_size` features, and its network reads those of `spaces.inputs`.

        Raises:
            StudentError: the target cannot run such a student.
        """
        ...

    def module_latency(self, network: nn.Module, probe: tuple[Tensor, ...]) -> Latency:
        """Time a float network with its own weights, as teachers are; `probe` is what it takes, of one row.

        Raises:
            StudentError: the target cannot run it.
        """
        ...

    def reference_s(self) -> float:
        """Time of a fixed kernel: of two records of one machine, the ratio says how busy it was."""
        ...
