import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdnas.envs import AgentSpec, EnvSpec
from kdnas.errors import TeacherError
from kdnas.policies.actions import Discrete
from kdnas.teachers import Teacher, make_mlp

SPEC = EnvSpec(
    name="test",
    agents={
        "a": AgentSpec(observation_size=2, actions=Discrete(3)),
        "b": AgentSpec(observation_size=2, actions=Discrete(3)),
        "c": AgentSpec(observation_size=4, actions=Discrete(2), masked=True),
    },
    groups={"pair": ("a", "b"), "solo": ("c",)},
    state_size=8,
)


def actors() -> dict[str, nn.Module]:
    return {"pair": make_mlp(2, (8,), 3), "solo": make_mlp(4, (8,), 2)}


def fixed(bias: list[float], inputs: int) -> nn.Module:
    """Says the same to everything."""
    layer = nn.Linear(inputs, len(bias))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor(bias))
    return layer


def test_it_acts_greedily_by_the_rules_and_ties_go_to_the_lowest() -> None:
    teacher = Teacher(SPEC, {"pair": fixed([0.0, 2.0, 2.0], 2), "solo": fixed([1.0, 0.0], 4)})
    seen = {"pair": np.zeros((3, 2, 2), np.float32), "solo": np.zeros((3, 1, 4), np.float32)}
    mask = np.array([[[True, True]], [[False, True]], [[True, False]]])
    actions = teacher.act(seen, {"pair": None, "solo": mask}, np.zeros((3, 8), np.float32))
    assert actions["pair"].tolist() == [[1, 1]] * 3
    assert actions["solo"].tolist() == [[0], [1], [0]]


def test_it_is_frozen() -> None:
    value = make_mlp(8, (4,), 1).train()
    teacher = Teacher(SPEC, {group: actor.train() for group, actor in actors().items()}, value)
    for module in (*teacher.actors.values(), value):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not teacher.logits("pair", torch.zeros(5, 2, 2)).requires_grad


def test_digests_are_of_contents() -> None:
    first = Teacher(SPEC, actors())
    shared = make_mlp(2, (8,), 3)
    assert first.digest("pair") != first.digest("solo")
    assert Teacher(SPEC, actors() | {"pair": shared}).digest("pair") != first.digest("pair")
    copy = make_mlp(2, (8,), 3)
    copy.load_state_dict(shared.state_dict())
    digests = {Teacher(SPEC, actors() | {"pair": one}).digest("pair") for one in (shared, copy)}
    assert len(digests) == 1
    # The same numbers in another network are another teacher.
    other = nn.Sequential(copy[0], nn.Tanh(), copy[2])
    assert Teacher(SPEC, actors() | {"pair": other}).digest("pair") not in digests


class _Pair(nn.Module):
    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        return observations, observations


class _NanAtZero(nn.Module):
    def forward(self, observations: Tensor) -> Tensor:
        return (observations / observations).repeat(1, 2)[:, :3]


def poisoned(value: float) -> nn.Module:
    network = make_mlp(2, (8,), 3)
    with torch.no_grad():
        network[2].weight[0, 0] = value
    return network


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (poisoned(float("nan")), r"group 'pair' holds NaN or infinity in '2.weight'; export it again"),
        (poisoned(float("inf")), r"group 'pair' holds NaN or infinity in '2.weight'"),
        (make_mlp(3, (8,), 3), r"group 'pair' refuses observations of 2 features: .*shapes"),
        (make_mlp(2, (8,), 4), r"group 'pair' gives \(2, 4\) for two observations .* needs logits \(2, 3\)"),
        (nn.Flatten(0), r"group 'pair' gives \(4,\) for two observations"),
        (_Pair(), r"group 'pair' gives tuple for two observations"),
        (make_mlp(2, (8,), 3).double(), r"group 'pair' refuses observations of 2 features: .*dtype"),
        (_NanAtZero(), r"group 'pair' returns NaN or infinity for a zero observation"),
    ],
)
def test_networks_that_do_not_do(pair: nn.Module, said: str) -> None:
    with pytest.raises(TeacherError, match=said):
        Teacher(SPEC, actors() | {"pair": pair})


def test_every_group_needs_a_network() -> None:
    with pytest.raises(TeacherError, match="no network for group 'solo'; it has: pair"):
        Teacher(SPEC, {"pair": make_mlp(2, (8,), 3)})
