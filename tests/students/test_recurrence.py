import torch
from torch import nn

from kdnas.students.recurrence import recur

STEPS, FEATURES, UNITS, TRACKS = 4, 3, 2, 5


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def parts() -> tuple[torch.Tensor, ...]:
    """Inputs, first state, W and its bias, U and its bias."""
    shapes = [(STEPS, FEATURES, TRACKS), (UNITS, TRACKS)]
    shapes += [(3 * UNITS, FEATURES), (3 * UNITS,), (3 * UNITS, UNITS), (3 * UNITS,)]
    return tuple(draw(*shape, seed=seed) for seed, shape in enumerate(shapes))


def test_states_are_those_of_pytorchs_cell() -> None:
    inputs, hidden, *weights = parts()
    cell = nn.GRUCell(FEATURES, UNITS, dtype=torch.float64)
    for own, given in zip((cell.weight_ih, cell.bias_ih, cell.weight_hh, cell.bias_hh), weights, strict=True):
        own.data.copy_(given)
    states, held = recur(inputs, hidden, (weights[0], weights[1]), (weights[2], weights[3])), hidden.T
    for index in range(STEPS):
        held = cell(inputs[index].T, held)
        torch.testing.assert_close(states[index].T, held)


def test_gradients_are_those_of_differences() -> None:
    def states(inputs: torch.Tensor, hidden: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return recur(inputs, hidden, (weights[0], weights[1]), (weights[2], weights[3]))

    assert torch.autograd.gradcheck(states, parts())


def test_it_may_be_differentiated_again_from_the_start() -> None:
    inputs, hidden, *weights = parts()
    states = recur(inputs, hidden, (weights[0], weights[1]), (weights[2], weights[3]))
    first, second = (torch.autograd.grad(states.sum(), inputs, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
