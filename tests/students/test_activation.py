"""Softsign: its numbers and slopes by hand, as one operation wherever it is asked."""

import torch
from torch.nn import functional

from kdnas.profiling import count_macs
from kdnas.spaces.spec import StudentSpec
from kdnas.students import RELU, SOFTSIGN, load_family

from .conftest import DRONE


def test_softsign_by_hand() -> None:
    values = torch.tensor([-3.0, 0.0, 1.0], requires_grad=True)
    said = SOFTSIGN.apply(values)
    assert said.tolist() == [-0.75, 0.0, 0.5]
    said.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1 / 16, 1.0, 1 / 4]  # 1 / (1 + |x|)^2


def test_it_is_that_of_torch_to_the_last_bit() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 10
    assert torch.equal(SOFTSIGN.apply(values), functional.softsign(values))
    assert torch.equal(RELU.apply(values), values.clamp_min(0))


def test_its_family_counts_as_many_macs_as_that_of_relu() -> None:
    spec = StudentSpec(family="mlp_softsign", base=(8, 6), hidden=(8, 6))
    family = load_family("mlp_softsign")
    network = family.build(spec, DRONE, torch.Generator().manual_seed(0))
    assert (family.name, family.chain) == ("mlp_softsign", SOFTSIGN)
    assert count_macs(network, (torch.zeros(1, 3),)) == 3 * 8 + 8 * 6 + 6 * 5
