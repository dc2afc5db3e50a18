"""The contract of targets passes on every built-in, and fails on those that break it."""

import pytest
import torch
from torch import nn

from kdnas import plugins
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.profiling.target import Measurement, Target
from kdnas.spaces.spec import StudentSpec
from kdnas.testing import check_target

COUNT = {"cortex-m0plus", "cortex-m4", "cortex-m7"}
"""Targets that count instructions; all others take the time."""

WIDE = StudentSpec(family="mlp", base=(48, 48), hidden=(48, 48))
"""A large student for those: counts have no noise, and a core without floating point is simulated slowly."""

LARGE = dict.fromkeys(COUNT, WIDE) | {"c": StudentSpec(family="mlp", base=(128, 128), hidden=(128, 128))}
"""Instead of the contract's own, which is so large that calls of a runtime do not hide it, and takes C long."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in COUNT else pytest.mark.alone)
        for name in sorted(plugins.installed("kdnas.targets"))
    ],
)
def test_built_in_targets(name):
    target = plugins.load("kdnas.targets", name)()
    if lacking := target.missing():
        pytest.skip(lacking)
    check_target(target, **({"large": LARGE[name]} if name in LARGE else {}))


class Sheet(Target):
    """A target from a data sheet: a nanosecond for each weight."""

    name = "sheet"

    def fingerprint(self) -> dict[str, str]:
        return {"runtime": "none", "version": "1", "cpu": "paper"}

    def measure(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Measurement:
        layers = plugins.load("kdnas.students", family).layers(spec, spaces.inputs)
        return self.time(sum(layer.rows * layer.columns for layer in layers))

    def measure_module(self, network: nn.Module, probe: tuple[torch.Tensor, ...]) -> Measurement:
        return self.time(sum(parameter.numel() for parameter in network.parameters()))

    def reference_s(self) -> float:
        return 1e-6

    def time(self, weights: int) -> Measurement:
        return Measurement(p50_s=weights * 1e-9, p95_s=weights * 1.1e-9, p99_s=weights * 1.2e-9)


class Backwards(Sheet):
    def time(self, weights: int) -> Measurement:
        return Measurement(p50_s=weights * 1e-9, p95_s=weights * 0.9e-9, p99_s=weights * 1e-9)


class Constant(Sheet):
    def time(self, weights: int) -> Measurement:
        return Measurement(p50_s=1e-6, p95_s=1e-6, p99_s=1e-6)


class Endless(Sheet):
    def time(self, weights: int) -> Measurement:
        return Measurement(p50_s=1e-6, p95_s=float("inf"), p99_s=1.0)


class Loose32(Sheet):
    def time(self, weights: int) -> Measurement:
        return weights * 1e-9


class ByAncestor(Sheet):
    def measure(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Measurement:
        return self.time(sum(spec.base))


class Restless(Sheet):
    count = 0

    def fingerprint(self) -> dict[str, str]:
        self.count += 1
        return {"runtime": "none", "version": str(self.count)}


class Stopped(Sheet):
    def reference_s(self) -> float:
        return 0.0


class Nameless(Sheet):
    name = ""


class Rounding(Sheet):
    def measure_module(self, network: nn.Module, probe: tuple[torch.Tensor, ...]) -> Measurement:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.round_()
        return super().measure_module(network, probe)


class FloatsOnly(Sheet):
    def measure(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Measurement:
        if spec.bits.quantized:
            raise StudentError("the sheet knows floats only")
        return super().measure(family, spec, spaces, normalised=normalised)


@pytest.mark.parametrize("kind", [Sheet, FloatsOnly])
def test_a_good_target(kind):
    check_target(kind())


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Backwards, "0 < p50 <= p95 <= p99 must hold for mlp 8 float"),
        (Constant, "mlp 512x512 float takes 1e-06 s and mlp 8x8 float 1e-06 s; the larger one must take longer"),
        (Endless, "the latency of mlp 8 float has the 95th percentile inf s"),
        (Loose32, "what is measured of mlp 8 float is float and no Measurement"),
        (ByAncestor, "when it comes from a larger ancestor; its shape alone decides"),
        (Restless, "its fingerprint changes"),
        (Stopped, "the reference takes 0.0 s"),
        (Nameless, "its name is empty"),
        (Rounding, "timing a module of 8x8 changed its weights"),
    ],
)
def test_a_target_that_breaks_the_contract(said_by, kind, said):
    assert said in said_by(check_target, kind())
