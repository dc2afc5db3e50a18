import pytest
import torch
from torch import nn

from kdnas import plugins
from kdnas.envs.spec import AgentSpec
from kdnas.errors import ConfigError
from kdnas.policies.actions import Box, Discrete, MultiDiscrete
from kdnas.profiling import OnnxTarget, Target
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.teachers.network import GaussianActor, make_mlp

from ..test_flops import Cell

SPACES = AgentSpec(observation_size=18, actions=Discrete(5))


@pytest.fixture
def target() -> Target:
    return OnnxTarget(calls=300, chunks=3)


@pytest.mark.parametrize("bits", ["float", "w4a4i4"])
def test_a_shape_is_timed_before_it_has_weights(bits: str, target: Target) -> None:
    spec = StudentSpec(family="mlp", base=(64, 64), hidden=(24, 24), bits=parse_bits(bits))
    for spaces in (
        SPACES,
        AgentSpec(observation_size=18, actions=Discrete(5), masked=True),
        AgentSpec(observation_size=18, actions=MultiDiscrete((5, 3)), masked=True),
        AgentSpec(observation_size=18, actions=Box((-1.0, 0.0), (1.0, float("inf")))),
        AgentSpec(observation_size=18, actions=Box((-1.0, 0.0), (1.0, 2.0), squashed=True)),
    ):
        latency = target.measure("mlp", spec, spaces, normalised=True)
        # A call of onnxruntime takes microseconds; a tenth of a second would be another thing that was timed.
        assert 1e-6 < latency.p50_s <= latency.p95_s < 0.1
        assert 1e-6 < latency.reference_s < 0.1


def test_a_module_is_timed_and_left_in_its_mode(target: Target) -> None:
    network = nn.Sequential(nn.Linear(18, 128), nn.Tanh(), nn.Linear(128, 5)).train()
    before = [weight.clone() for weight in network.parameters()]
    latency = target.measure_module(network, (torch.zeros(1, 18),))
    assert 1e-6 < latency.p50_s <= latency.p95_s < 0.1
    assert network.training
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


def test_a_recurrent_module_is_timed_with_its_hidden_state(target: Target) -> None:
    latency = target.measure_module(Cell(), (torch.zeros(1, 6), torch.zeros(1, 8)))
    assert 1e-6 < latency.p50_s <= latency.p95_s < 0.1


def test_an_actor_of_continuous_actions_is_timed(target: Target) -> None:
    latency = target.measure_module(GaussianActor(make_mlp(18, (64,), 2), 2), (torch.zeros(1, 18),))
    assert 1e-6 < latency.p50_s <= latency.p95_s < 0.1


def test_the_reference_kernel_and_the_fingerprint(target: Target) -> None:
    assert 1e-6 < target.reference_s() < 0.1
    fingerprint = target.fingerprint()
    assert set(fingerprint) == {"runtime", "version", "python", "cpu", "threads"}
    assert all(fingerprint.values())


def test_widths_below_a_byte_are_no_faster(target: Target) -> None:
    """Weights of any width are stored in bytes; activations and inputs below 8 bits are clipped, which takes time."""
    bytes_only, narrow, activations, both, inputs = (
        target.number_format(parse_bits(bits)) for bits in ("w8a8i8", "w2a8i8", "w8a2i8", "w4a4i8", "w8a8i4")
    )
    assert bytes_only == narrow != activations == both != inputs
    assert target.number_format(parse_bits("float")) == "float"
    # Of mixed ones it makes a difference which are clipped, and weights make none.
    said = [target.number_format(parse_bits(bits)) for bits in ("w8-4a8i8p", "w4a8-4i8", "w4a4-8i4", "w4a6-4i8")]
    assert said == ["int8", "int8+clipped-activations-1", "int8+clipped-inputs+clipped-activations-0",
                    "int8+clipped-activations"]  # fmt: skip


def test_it_is_registered_and_says_what_its_arguments_must_be() -> None:
    assert plugins.load("kdnas.targets", "onnx") is OnnxTarget
    with pytest.raises(ConfigError, match=r"1 <= chunks <= calls.*got chunks=0"):
        OnnxTarget(chunks=0)
