from dataclasses import replace

import pytest
import torch

from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.profiling import OnnxTarget
from kdnas.profiling.untrained import make_untrained
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family

SPACES = AgentSpec(observation_size=18, actions=Discrete(5), masked=True)


def spec(bits: str, *hidden: int) -> StudentSpec:
    return StudentSpec(family="gru", base=hidden, hidden=hidden, bits=parse_bits(bits))


@pytest.mark.parametrize("bits", ["float", "w4a8i8"])
def test_it_can_be_asked_and_nothing_global_is_drawn(bits: str) -> None:
    before = torch.get_rng_state()
    student = make_untrained(load_family("gru"), spec(bits, 12, 9), SPACES, normalised=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert not student.training
    assert student.normalisation is not None
    with torch.no_grad():
        outputs, hidden = student.step(torch.zeros(2, 18), student.begin(2))
    assert hidden is not None
    assert (outputs.shape, hidden.shape) == ((2, 5), (2, 9))
    scales = [value for name, value in student.network.state_dict().items() if "scaling_impl" in name]
    assert len(scales) == (5 if spec(bits, 12, 9).bits.quantized else 0)  # four matrices, encodings: known


@pytest.mark.parametrize("bits", ["float", "w8a8i8"])
def test_a_family_that_is_no_chain_is_timed_as_it_is_exported(bits: str) -> None:
    target = OnnxTarget(calls=300, chunks=3)
    small, large = (target.measure("gru", spec(bits, 8, size), SPACES, normalised=True) for size in (8, 512))
    assert 1e-6 < small.p50_s <= small.p95_s < 0.1
    # 3 * 512 * 520 MACs against 3 * 8 * 16, two thousand times as many: no load of the machine turns that round.
    assert large.p50_s > small.p50_s


@pytest.mark.parametrize("bits", ["float", "w4a8i8"])
def test_it_reads_what_ever_changes(bits: str) -> None:
    spaces = replace(SPACES, constant=(0, 16))
    student = make_untrained(load_family("gru"), spec(bits, 12, 9), spaces, normalised=True)
    # The encoder reads 16 of 18 features, and is shown all of them.
    assert student.network.encoder[0].weight.shape == (12, 16)
    assert [tuple(probe.shape) for probe in student.probe()] == [(1, 18), (1, 9)]
    assert OnnxTarget(calls=10, chunks=1).measure("gru", spec(bits, 12, 9), spaces).p50_s > 0
