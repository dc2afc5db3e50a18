from collections.abc import Callable

import pytest
import torch

from kdnas.compress.quantize import CALIBRATION_BATCHES, quantize, training_twin
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import FakeQuantMlp, Normalisation, QuantMlp, Student
from kdnas.students.mlp import FAMILY
from kdnas.students.quantizers import STATISTICS_BATCHES

BATCHES = [torch.randn(128, 18, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def spec(bits: str) -> StudentSpec:
    return StudentSpec(family="mlp", base=(16, 12), hidden=(16, 12), bits=parse_bits(bits))


def test_the_quantizers_are_calibrated_when_it_returns() -> None:
    assert CALIBRATION_BATCHES > STATISTICS_BATCHES


@torch.no_grad()
@pytest.mark.parametrize(("bits", "error"), [("w8a8i8", 0.1), ("w4a8i8", 0.4)])
def test_a_quantized_copy_answers_nearly_the_same(
    make_dense: Callable[..., Student], bits: str, error: float
) -> None:
    normalisation = Normalisation(shift=(0.5,) * 18, scale=(3.0,) * 18)
    dense = make_dense(16, 12, normalisation=normalisation)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    quantized = quantize(dense, spec(bits), FAMILY, BATCHES)
    assert quantized.training  # what comes next is training
    assert (quantized.spec, quantized.normalisation) == (spec(bits), normalisation)
    seen = torch.cat(BATCHES)
    distance = (quantized.eval()(seen) - dense(seen)).square().mean().sqrt() / dense(seen).std()
    assert 0 < distance < error
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


@torch.no_grad()
def test_ranges_come_from_the_batches(make_dense: Callable[..., Student]) -> None:
    """Each input's is its largest magnitude; one that never moves has that of the largest."""
    factors = torch.tensor([1.0, 10.0, 0.0, *[1.0] * 15])
    quantized = quantize(make_dense(16, 12), spec("w8a8i8"), FAMILY, [factors * batch for batch in BATCHES])
    largest = torch.cat(BATCHES).abs().amax(0) * factors
    largest[2] = largest[1]
    assert isinstance(quantized.network, QuantMlp)
    assert quantized.network.input_ranges.exp2().tolist() == pytest.approx(largest.tolist(), rel=1e-5)


def test_what_is_trained_in_a_students_place(make_dense: Callable[..., Student]) -> None:
    normalisation = Normalisation(shift=(0.5,) * 18, scale=(3.0,) * 18)
    dense = make_dense(16, 12, normalisation=normalisation)
    assert training_twin(dense, FAMILY) is dense
    quantized = quantize(dense, spec("w4a8i8"), FAMILY, BATCHES)
    twin = training_twin(quantized, FAMILY)
    assert isinstance(twin.network, FakeQuantMlp)
    seen = torch.cat(BATCHES)
    with torch.no_grad():
        assert torch.equal(twin.eval()(seen), quantized.eval()(seen))  # its normalisation too
        next(twin.parameters()).mul_(1.5)
        assert torch.equal(twin(seen), quantized(seen))


def test_a_family_without_twins_trains_the_student_itself(make_dense: Callable[..., Student]) -> None:
    class Plain:
        """No more than the contract asks for."""

        name, build, prunable = "mlp", FAMILY.build, FAMILY.prunable
        quantize, layers = FAMILY.quantize, FAMILY.layers

    quantized = quantize(make_dense(16, 12), spec("w4a8i8"), Plain(), BATCHES)
    assert training_twin(quantized, Plain()) is quantized
