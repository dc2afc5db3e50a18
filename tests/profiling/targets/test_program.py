import pytest
import torch
from torch import nn

from kdnas.errors import StudentError
from kdnas.profiling.targets.program import as_student
from kdnas.students.mlp import Mlp
from kdnas.teachers.network import make_mlp

from ..test_flops import Cell


def test_a_teacher_is_a_perceptron_of_its_layers() -> None:
    network = make_mlp(6, (8, 4), 3, generator=torch.Generator().manual_seed(0))
    student = as_student(network, (torch.zeros(1, 6),))
    assert (student.spec.hidden, student.spaces.observation_size, student.spaces.actions.outputs) == ((8, 4), 6, 3)
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert isinstance(student.network, Mlp)
    for own, his in zip(student.network.linears, linears, strict=True):
        assert torch.equal(own.weight, his.weight)
        assert torch.equal(own.bias, his.bias)


@pytest.mark.parametrize(
    ("network", "probe"),
    [
        (Cell(), (torch.zeros(1, 6), torch.zeros(1, 8))),
        (nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2)), (torch.zeros(1, 1, 6),)),
        (nn.Linear(6, 2), (torch.zeros(1, 6),)),
    ],
)
def test_other_networks_are_none(network: nn.Module, probe: tuple[torch.Tensor, ...]) -> None:
    with pytest.raises(StudentError, match="is no chain of linear layers"):
        as_student(network, probe)
