import math
import re

import pytest
import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import TeacherError
from kdnas.policies.actions import Discrete
from kdnas.teachers.roles import Roles, has_roles, listen, role_features
from kdnas.teachers.teacher import Reading, Teacher

SPEC = EnvSpec(
    name="toy",
    agents={"a": AgentSpec(observation_size=2, actions=Discrete(2))},
    groups={"one": ("a",)},
    state_size=1,
)


def linear(*weight: list[float]) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, len(weight[0]), len(weight), bias=False)
    layer.weight.data.copy_(torch.tensor(weight))
    return layer


def teacher(network: nn.Module, reading: Reading | None = None) -> Teacher:
    return Teacher(SPEC, {"one": network}, reading={"one": reading} if reading else None)


def rectifier() -> nn.Sequential:
    """Hidden layer (relu(x), relu(-x), relu(y)); the first output is their sum."""
    return nn.Sequential(
        linear([1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]), nn.ReLU(), linear([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    )


class Backwards(nn.Module):
    """Its layers are called in the other order than they are made, and one is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = linear([1.0, 0.0], [0.0, 1.0]), linear([2.0, 0.0], [0.0, 3.0])
        self.spare = linear([1.0, 0.0], [0.0, 1.0])

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(rows))
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = linear([1.0, 0.0], [0.0, 1.0])

    def forward(self, rows: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        following = hidden + rows
        return self.last(following), following


class Plain(nn.Module):
    """No nn.Linear that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = linear([1.0, 0.0], [0.0, 1.0])

    def forward(self, rows: Tensor) -> Tensor:
        return rows @ self.spare.weight


def test_features_by_hand() -> None:
    features = role_features(teacher(rectifier()), "one", torch.tensor([[2.0, 3.0], [-2.0, -3.0]]))
    assert features.tolist() == [[2, 0, 3], [0, 2, 0]]
    assert not features.requires_grad


def test_the_last_layer_is_the_one_that_is_called_last() -> None:
    assert role_features(teacher(Backwards()), "one", torch.tensor([[1.0, 1.0]])).tolist() == [[2, 3]]


def test_a_recurrent_teacher_is_asked_with_its_hidden_state() -> None:
    asked = teacher(Recurrent(), Reading(hidden_size=2))
    assert role_features(asked, "one", torch.tensor([[1.0, 1.0]]), torch.tensor([[5.0, 7.0]])).tolist() == [[6, 8]]


def test_every_pass_is_heard_while_it_listens() -> None:
    network = rectifier()
    with listen(network) as heard:
        network(torch.tensor([[2.0, 3.0]]))
        network(torch.tensor([[-1.0, 0.0]]))
    network(torch.tensor([[9.0, 9.0]]))
    assert [tensor.tolist() for tensor in heard] == [[[2, 0, 3]], [[0, 1, 0]]]


def test_without_a_linear_layer_there_are_no_roles() -> None:
    said = (
        "the teacher of group 'one' has no nn.Linear, so no hidden layer that roles can be taken from; "
        "set role = 0 in [distill.loss]"
    )
    with pytest.raises(TeacherError, match=f"^{re.escape(said)}$"):
        role_features(teacher(Plain()), "one", torch.zeros(1, 2))
    assert not has_roles(teacher(Plain()), "one")
    assert has_roles(teacher(Recurrent(), Reading(hidden_size=2)), "one")


def test_components_by_hand() -> None:
    # About (10, 20): +-4 along (1, 1) / sqrt 2 and +-1 along (1, -1) / sqrt 2, so variances 16 / 2 and 1 / 2 over four
    # rows, and roles of +-sqrt 2 and 0, or the other way round.
    half = 2**-0.5
    rows = torch.tensor([[4 * half, 4 * half], [-4 * half, -4 * half], [half, -half], [-half, half]])
    rows = rows + torch.tensor([10.0, 20.0])
    roles = Roles.fit(rows, 16)
    assert roles.size == 2
    first = [math.sqrt(2), -math.sqrt(2), 0, 0]
    assert roles.transform(rows)[:, 0].tolist() == pytest.approx(first, abs=1e-4)
    # Both loadings of the second are as large: its sign is that of either.
    assert roles.transform(rows)[:, 1].abs().tolist() == pytest.approx([0, 0, math.sqrt(2), math.sqrt(2)], abs=1e-4)
    assert Roles.fit(rows, 1).transform(rows)[:, 0].tolist() == pytest.approx(first, abs=1e-4)


def test_the_largest_loading_is_positive() -> None:
    # Along (-3, 1) / sqrt 10 in either order of the rows: the role grows with the first feature.
    rows = torch.tensor([[-3.0, 1.0], [3.0, -1.0]])
    for given in (rows, rows.flip(0)):
        assert Roles.fit(given, 1).transform(rows).flatten().tolist() == pytest.approx([-1, 1])


def test_roles_have_mean_0_and_variance_1_and_do_not_correlate() -> None:
    rows = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 5, 3, 2, 1, 0.1]) + 4
    found = Roles.fit(rows, 4).transform(rows)
    assert found.shape == (500, 4)
    torch.testing.assert_close(found.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.T @ found / 500, torch.eye(4), atol=1e-4, rtol=0)


def test_directions_that_do_not_vary_are_no_roles() -> None:
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([x, 2 * x, torch.full((50, 1), 1e4)], 1)
    assert Roles.fit(rows, 3).size == 1
    # A variance of 1e-10 beside one of 1 or so.
    assert Roles.fit(torch.cat([x, 1e-5 * x.flip(0)], 1), 2).size == 1


ROUNDED = torch.full((20, 3), 0.1)
ROUNDED[::2] = torch.nextafter(ROUNDED[::2], torch.tensor(1.0))


@pytest.mark.parametrize("rows", [torch.full((20, 3), 0.1), ROUNDED, torch.zeros(20, 3), torch.ones(1, 3)])
def test_one_representation_for_everything_is_refused(rows: Tensor) -> None:
    with pytest.raises(TeacherError, match=r"says the same to all \d+ demonstrated observations.*set role = 0"):
        Roles.fit(rows, 2)
