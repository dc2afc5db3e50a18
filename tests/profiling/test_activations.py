import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.profiling import memory_bytes
from kdnas.profiling.activations import largest_activation_pair
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.teachers.network import make_mlp


def test_the_largest_pair_of_an_mlp() -> None:
    # 18 + 128, 128 + 128, 128 + 5; the ReLUs run in place.
    assert largest_activation_pair(make_mlp(18, (128, 128), 5), 18) == 256


def test_a_teacher_is_charged_as_a_student_of_its_shape() -> None:
    spec, family = StudentSpec(family="mlp", base=(40, 9), hidden=(40, 9)), load_family("mlp")
    spaces = AgentSpec(observation_size=7, actions=Discrete(3))
    network = family.build(spec, spaces, torch.Generator().manual_seed(0))
    params = sum(weight.numel() for weight in network.parameters())
    assert 4 * (params + largest_activation_pair(network, 7)) == memory_bytes(family.layers(spec, spaces))


class _First(nn.Module):
    def forward(self, observations: Tensor) -> Tensor:
        return observations[..., :2]


def test_a_network_without_weights_is_one_layer_and_hooks_are_gone() -> None:
    network = _First()
    assert largest_activation_pair(network, 6) == 6 + 2
    assert not network._forward_hooks
