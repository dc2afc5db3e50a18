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


class _Layer(nn.Module):
    """A recurrent layer over sequences of one step, and a head."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(8, 3)

    def forward(self, observations: Tensor) -> Tensor:
        hidden, _ = self.layer(observations.unsqueeze(1))
        logits: Tensor = self.head(hidden[:, -1])
        return logits


class _Step(nn.Module):
    """A recurrent cell, and a head."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(8, 3)

    def forward(self, observations: Tensor, *hidden: Tensor) -> Tensor:
        following = self.cell(observations, hidden if len(hidden) > 1 else hidden[0])
        logits: Tensor = self.head(following[0] if isinstance(following, tuple) else following)
        return logits


@pytest.mark.parametrize(
    ("layer", "gates"), [(nn.GRU, 3), (nn.LSTM, 4), (nn.RNN, 1)], ids=lambda each: getattr(each, "__name__", None)
)
def test_recurrent_layers_of_torch_are_their_matrices(layer: type[nn.Module], gates: int) -> None:
    one_step = gates * 8 * (6 + 8)
    assert count_macs(_Layer(layer(6, 8, batch_first=True)), probe(6)) == one_step + 8 * 3
    # A second layer reads the 8 of the first.
    assert count_macs(_Layer(layer(6, 8, 2, batch_first=True)), probe(6)) == one_step + gates * 8 * (8 + 8) + 8 * 3


@pytest.mark.parametrize(("cell", "gates", "states"), [(nn.GRUCell, 3, 1), (nn.LSTMCell, 4, 2), (nn.RNNCell, 1, 1)])
def test_recurrent_cells_of_torch_are_their_matrices(cell: type[nn.Module], gates: int, states: int) -> None:
    hidden = [torch.zeros(1, 8) for _ in range(states)]
    assert count_macs(_Step(cell(6, 8)), (torch.zeros(1, 6), *hidden)) == gates * 8 * (6 + 8) + 8 * 3


class _Attention(nn.Module):
    """Five entities of six features each, which look at one another."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, observations: Tensor) -> Tensor:
        seen = self.embed(observations.unflatten(-1, (5, 6)))
        logits: Tensor = self.head(self.attend(seen, seen, seen, need_weights=False)[0].mean(1))
        return logits


def test_attention_is_its_projections_and_both_products() -> None:
    # 5 entities: embedded, three projections and the one at the end; 2 heads of 4: scores 5 x 4 x 5, then 5 x 5 x 4.
    assert count_macs(_Attention(), probe(30)) == 5 * 6 * 8 + 5 * 8 * 24 + 5 * 8 * 8 + 2 * 2 * 5 * 5 * 4 + 8 * 3


class Spectrum(nn.Module):
    def forward(self, observations: Tensor) -> Tensor:
        return torch.fft.rfft(observations).real


def test_what_would_count_as_nothing_is_refused_by_name() -> None:
    with pytest.raises(KdnasError, match=r"Spectrum: the multiply-accumulates of aten::fft_rfft.* cannot be counted"):
        count_macs(Spectrum(), probe(6))


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
