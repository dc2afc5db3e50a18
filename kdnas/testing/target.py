"""The contract of a target: see `kdnas.profiling.target.Target`."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from kdnas import plugins
from kdnas.budgets.metric import METRICS
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Discrete
from kdnas.profiling.target import Measurement, Target
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.teachers.network import make_mlp
from kdnas.testing.contract import contract, weights_of

SPACES = AgentSpec(observation_size=18, actions=Discrete(5))
SMALL = StudentSpec(family="mlp", base=(8, 8), hidden=(8, 8))
LARGE = StudentSpec(family="mlp", base=(512, 512), hidden=(512, 512))
"""More than a thousand times the multiply-accumulates of `SMALL`."""

FLAT = StudentSpec(family="mlp", base=(8,), hidden=(8,))

APART = 3.0
"""Two measurements of one thing may differ by this factor: machines are busy."""


def check_target(target: Target, *, small: StudentSpec = SMALL, large: StudentSpec = LARGE) -> None:
    """Time a small and a large student, in float and in integers, and modules of the same widths.

    Args:
        target: what the factory that is registered under `kdnas.targets` returns.
        small: a student that the target runs.
        large: one that takes it clearly longer.

    Raises:
        AssertionError: times that are not positive and finite or whose p50 exceeds p95; a large student that is as fast
            as a small one, or two of one shape that are not; a name or fingerprint that changes; a module that is
            changed by being timed.
    """
    name = getattr(target, "name", type(target).__name__)
    with contract(f"target {name!r}"):
        assert isinstance(name, str), f"its name is {type(name).__name__} and no text"
        assert name, "its name is empty; measurements are kept under it"
        _check_fingerprint(target)
        _check_metrics(target)
        _check_shapes(target, small, large)
        _check_formats(target, small)
        _check_modules(target, small, large)
        seconds = target.reference_s()
        assert math.isfinite(seconds), f"the reference takes {seconds} s"
        assert seconds > 0, f"the reference takes {seconds} s"


def _check_fingerprint(target: Target) -> None:
    fingerprint = target.fingerprint()
    assert fingerprint, "its fingerprint is empty; it says what a time depends on besides the network"
    texts = all(isinstance(text, str) for item in fingerprint.items() for text in item)
    assert texts, f"its fingerprint must be text to text, but is {fingerprint}"
    assert (target.name, target.fingerprint()) == (target.name, fingerprint), "its fingerprint changes"


def _check_metrics(target: Target) -> None:
    measured = {name for name, metric in METRICS.items() if metric.measured}
    assert target.metrics <= measured, f"it measures {sorted(target.metrics - measured)}, which no budget knows"
    assert "latency" in target.metrics, "it measures no latency"
    said = _check_measurement(str(FLAT), target.measure(FLAT.family, FLAT, SPACES))
    for name, size in (("flash", said.flash_bytes), ("ram", said.ram_bytes)):
        assert (size > 0) == (name in target.metrics), (
            f"its metrics are {sorted(target.metrics)}, but it says {size} bytes of {name}"
        )
    plugins.load("kdnas.exporters", target.exporter)
    assert target.note.endswith("."), f"its note is no sentence: {target.note!r}"
    assert target.missing() == "", f"it cannot be checked on this machine: {target.missing()}"


def _check_measurement(what: str, measured: Measurement) -> Measurement:
    kind = type(measured).__name__
    assert isinstance(measured, Measurement), f"what is measured of {what} is {kind} and no Measurement"
    p50, p95, p99 = measured.p50_s, measured.p95_s, measured.p99_s
    assert math.isfinite(p50), f"the latency of {what} has the median {p50} s"
    assert math.isfinite(p95), f"the latency of {what} has the 95th percentile {p95} s"
    assert math.isfinite(p99), f"the latency of {what} has the 99th percentile {p99} s"
    assert 0 < p50 <= p95 <= p99, (
        f"0 < p50 <= p95 <= p99 must hold for {what}, but they are {p50:.3g} s, {p95:.3g} s and {p99:.3g} s"
    )
    assert 0 <= measured.reference_s < math.inf, f"the reference took {measured.reference_s} s beside {what}"
    assert 0 <= measured.drift < math.inf, f"the reference drifted by {measured.drift} beside {what}"
    return measured


def _check_shapes(target: Target, small: StudentSpec, large: StudentSpec) -> None:
    def measure(spec: StudentSpec) -> float:
        return _check_measurement(str(spec), target.measure(spec.family, spec, SPACES)).p50_s

    fast, slow = _least(lambda: measure(small)), _least(lambda: measure(large))
    assert fast < slow, f"{large} takes {slow:.3g} s and {small} {fast:.3g} s; the larger one must take longer"
    # Another ancestor, the same shape.
    cousin = replace(small, base=tuple(8 * width for width in small.base))
    same = _least(lambda: measure(cousin))
    assert max(same, fast) < APART * min(same, fast), (
        f"{small} takes {fast:.3g} s, and {same:.3g} s when it comes from a larger ancestor; its shape alone decides"
    )


def _check_formats(target: Target, small: StudentSpec) -> None:
    masked = replace(SPACES, masked=True)
    partial = replace(SPACES, constant=(0, 7, 17))
    for bits, spaces, normalised in [
        ("float", masked, True),
        ("float", partial, True),
        ("w8a8i8", SPACES, False),
        ("w8a8i8", partial, False),
        ("w4a4i4", masked, True),
    ]:
        spec = replace(small, bits=parse_bits(bits))
        try:
            measured = target.measure(spec.family, spec, spaces, normalised=normalised)
        except StudentError:  # the way to say that the target cannot run it
            continue
        _check_measurement(str(spec), measured)


def _check_modules(target: Target, small: StudentSpec, large: StudentSpec) -> None:
    times, names = [], []
    for spec in (small, large):
        network = make_mlp(
            SPACES.observation_size,
            spec.hidden,
            SPACES.actions.outputs,
            generator=torch.Generator().manual_seed(0),
        )
        network.requires_grad_(False).eval()
        before, probe = weights_of(network), (torch.zeros(1, SPACES.observation_size),)
        what = f"a module of {'x'.join(map(str, spec.hidden))}"
        names.append(what)
        times.append(
            _least(lambda: _check_measurement(what, target.measure_module(network, probe)).p50_s)  # noqa: B023
        )
        assert weights_of(network) == before, f"timing {what} changed its weights"
        assert not network.training, f"timing {what} left it in training mode"
    assert times[0] < times[1], f"{names[1]} takes {times[1]:.3g} s, {names[0]} {times[0]:.3g} s"


def _least(measure: Callable[[], float], times: int = 3) -> float:
    """The least disturbed of a few measurements; two that are equal were counted, and count for all."""
    measured: list[float] = []
    with torch.inference_mode():
        while len(measured) < times and len(set(measured)) == len(measured):
            measured.append(measure())
    return min(measured)
