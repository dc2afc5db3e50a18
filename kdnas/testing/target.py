"""The contract of a target: see `kdnas.profiling.target.Target`."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Discrete
from kdnas.profiling.target import Latency, Target
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.teachers.network import make_mlp
from kdnas.testing.contract import contract, weights_of

SPACES = AgentSpec(observation_size=18, actions=Discrete(5))
SMALL = StudentSpec(family="mlp", base=(8, 8), hidden=(8, 8))
LARGE = StudentSpec(family="mlp", base=(512, 512), hidden=(512, 512))
"""More than a thousand times the multiply-accumulates of `SMALL`."""

APART = 3.0
"""Two measurements of one thing may differ by this factor: machines are busy."""


def check_target(target: Target, *, small: StudentSpec = SMALL, large: StudentSpec = LARGE) -> None:
    """Time a small and a large student, in float and in integers, and a module.

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
        _check_shapes(target, small, large)
        _check_formats(target, small)
        _check_modules(target)
        seconds = target.reference_s()
        assert math.isfinite(seconds), f"the reference takes {seconds} s"
        assert seconds > 0, f"the reference takes {seconds} s"


def _check_fingerprint(target: Target) -> None:
    fingerprint = target.fingerprint()
    assert fingerprint, "its fingerprint is empty; it says what a time depends on besides the network"
    texts = all(isinstance(text, str) for item in fingerprint.items() for text in item)
    assert texts, f"its fingerprint must be text to text, but is {fingerprint}"
    assert (target.name, target.fingerprint()) == (target.name, fingerprint), "its fingerprint changes"


def _check_latency(what: str, latency: Latency) -> Latency:
    assert isinstance(latency, Latency), f"the latency of {what} is {type(latency).__name__} and not Latency"
    p50, p95 = latency.p50_s, latency.p95_s
    assert math.isfinite(p50), f"the latency of {what} has the median {p50} s"
    assert math.isfinite(p95), f"the latency of {what} has the 95th percentile {p95} s"
    assert 0 < p50 <= p95, f"0 < p50 <= p95 must hold for {what}, but p50 is {p50:.3g} s and p95 {p95:.3g} s"
    return latency


def _check_shapes(target: Target, small: StudentSpec, large: StudentSpec) -> None:
    def measure(spec: StudentSpec) -> float:
        return _check_latency(str(spec), target.latency(spec.family, spec, SPACES)).p50_s

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
            latency = target.latency(spec.family, spec, spaces, normalised=normalised)
        except StudentError:  # the way to say that the target cannot run it
            continue
        _check_latency(str(spec), latency)


def _check_modules(target: Target) -> None:
    times = []
    for width in (8, 512):
        network = make_mlp(
            SPACES.observation_size,
            (width, width),
            SPACES.actions.outputs,
            generator=torch.Generator().manual_seed(0),
        )
        network.requires_grad_(False).eval()
        before, probe = weights_of(network), (torch.zeros(1, SPACES.observation_size),)
        what = f"a module {width} wide"
        times.append(
            _least(lambda: _check_latency(what, target.module_latency(network, probe)).p50_s)  # noqa: B023
        )
        assert weights_of(network) == before, f"timing {what} changed its weights"
        assert not network.training, f"timing {what} left it in training mode"
    assert times[0] < times[1], f"a module 512 wide takes {times[1]:.3g} s, one 8 wide {times[0]:.3g} s"


def _least(measure: Callable[[], float], times: int = 3) -> float:
    """The least disturbed of a few measurements."""
    with torch.inference_mode():
        return min(measure() for _ in range(times))
