import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.profiling import memory_bytes
from kdnas.profiling.activations import largest_activation_pair
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.teachers.network import make_mlp

from .test_flops import Cell


def test_the_largest_pair_of_an_mlp() -> None:
    # 18 + 128, 128 + 128, 128 + 5; the ReLUs run in place.
    assert largest_activation_pair(make_mlp(18, (128, 128), 5), (torch.zeros(1, 18),)) == 256


def test_a_teacher_is_charged_as_a_student_of_its_shape() -> None:
    spec, family = StudentSpec(family="mlp", base=(40, 9), hidden=(40, 9)), load_family("mlp")
    spaces = AgentSpec(observation_size=7, actions=Discrete(3))
    network = family.build(spec, spaces, torch.Generator().manual_seed(0))
    params = sum(weight.numel() for weight in network.parameters())
    assert 4 * (params + largest_activation_pair(network, (torch.zeros(1, 7),))) == memory_bytes(
        family.layers(spec, spaces)
    )


def test_a_hidden_state_is_read_and_written_too() -> None:
    # Linear layers alone own weights: 6 + 8, 8 + 8, 8 + 3. A cell of its own would be one layer: 6 + 8 + 8 numbers.
    assert largest_activation_pair(Cell(), (torch.zeros(1, 6), torch.zeros(1, 8))) == 8 + 8
    gru = nn.GRUCell(6, 8)
    assert largest_activation_pair(gru, (torch.zeros(1, 6), torch.zeros(1, 8))) == 6 + 8 + 8


class _First(nn.Module):
    def forward(self, observations: Tensor) -> Tensor:
        return observations[..., :2]


def test_a_network_without_weights_is_one_layer_and_hooks_are_gone() -> None:
    network = _First()
    assert largest_activation_pair(network, (torch.zeros(1, 6),)) == 6 + 2
    assert not network._forward_hooks
