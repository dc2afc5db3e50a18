import torch

from kdnas.teachers import GaussianActor, make_mlp


def test_layers_are_orthogonal_and_the_last_is_small() -> None:
    network = make_mlp(6, (4, 3), 2, last_gain=0.01, generator=torch.Generator().manual_seed(0))
    linears = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    assert [tuple(linear.weight.shape) for linear in linears] == [(4, 6), (3, 4), (2, 3)]
    for linear, gain in zip(linears, (2**0.5, 2**0.5, 0.01), strict=True):
        # Rows of length `gain` at right angles.
        torch.testing.assert_close(linear.weight @ linear.weight.T, gain**2 * torch.eye(len(linear.weight)))
        assert not linear.bias.any()


def test_a_gaussian_actor_says_means_and_deviations_side_by_side() -> None:
    mean = torch.nn.Sequential(torch.nn.Linear(1, 2))
    with torch.no_grad():
        mean[0].weight.copy_(torch.tensor([[2.0], [-1.0]]))
        mean[0].bias.copy_(torch.tensor([0.0, 1.0]))
    actor = GaussianActor(mean, 2, log_std=-0.25)
    # 2 x and 1 - x; the deviations are the same whatever is observed.
    assert actor(torch.tensor([[1.0], [3.0]])).tolist() == [[2, 0, -0.25, -0.25], [6, -2, -0.25, -0.25]]
    actor(torch.ones(5, 1)).sum().backward()
    assert actor.log_std.grad is not None
    assert actor.log_std.grad.tolist() == [5, 5]
