import torch
from torch import nn

from kdnas.students.linears import make_linear
from kdnas.students.quantizers import quantize_linear


def test_blocks_are_orthogonal_and_biases_zero() -> None:
    linear = make_linear(4, 6, torch.Generator().manual_seed(0), gain=2.0, blocks=2)
    assert tuple(linear.weight.shape) == (6, 4)
    for block in linear.weight.chunk(2):  # 3 rows of length 2, at right angles
        torch.testing.assert_close(block @ block.T, 4 * torch.eye(3), rtol=0, atol=1e-5)
    assert not linear.bias.any()


def test_nothing_is_drawn_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    linear = make_linear(4, 6, torch.Generator().manual_seed(0))
    quantized = quantize_linear(linear, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(quantized.weight, linear.weight)
    assert isinstance(quantized, nn.Linear)
    assert quantized.weight.data_ptr() != linear.weight.data_ptr()
