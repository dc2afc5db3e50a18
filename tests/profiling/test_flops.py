import pytest
import torch
from torch import Tensor, nn

from kdnas.errors import KdnasError
from kdnas.profiling import count_macs
from kdnas.teachers.network import GaussianActor, make_mlp


def probe(features: int) -> tuple[Tensor, ...]:
    return (torch.zeros(1, features),)


def test_an_mlp_is_the_sum_of_its_matrices() -> None:
    network = nn.Sequential(nn.Linear(18, 24), nn.ReLU(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 5))
    assert count_macs(network, probe(18)) == 18 * 24 + 24 * 24 + 24 * 5 == 1128


class _Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, observations: Tensor) -> Tensor:
        hidden, _ = self.gru(observations.unsqueeze(1))
        logits: Tensor = self.head(hidden[:, 0])
        return logits


def test_what_fvcore_would_count_as_nothing_is_refused_by_name() -> None:
    with pytest.raises(KdnasError, match=r"_Gru: the multiply-accumulates of aten::gru cannot be counted"):
        count_macs(_Gru(), probe(6))


class Cell(nn.Module):
    """Remembers: h' = tanh(W x + U h), logits V h'."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.kept, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, observations: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = (self.seen(observations) + self.kept(hidden)).tanh()
        return self.head(hidden), hidden


def test_a_recurrent_network_is_counted_with_its_hidden_state() -> None:
    assert count_macs(Cell(), (torch.zeros(1, 6), torch.zeros(1, 8))) == 6 * 8 + 8 * 8 + 8 * 3 == 136


def test_the_actor_of_continuous_actions_is_its_means() -> None:
    assert count_macs(GaussianActor(make_mlp(18, (64,), 2), 2), probe(18)) == 18 * 64 + 64 * 2


class _Elementwise(nn.Module):
    def forward(self, observations: Tensor) -> Tensor:
        gate = torch.sigmoid(observations) * observations.tanh() - observations.exp() / 2 + observations.pow(2)
        return torch.where(gate > 0, gate, -gate).softmax(-1)


def test_elementwise_operators_are_free() -> None:
    # 4 x 6 = 24 of the matrix, nothing of the rest.
    assert count_macs(nn.Sequential(nn.Linear(4, 6), _Elementwise()), probe(4)) == 24


def test_the_network_is_counted_in_evaluation_and_stays_in_training() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 2))
    network[1].eval()
    assert count_macs(network, probe(4)) == 4 * 4 + 4 * 2
    assert [module.training for module in network] == [True, False, True]


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    count_macs(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Identity(), _Elementwise()), probe(4))
    assert caplog.records == []
