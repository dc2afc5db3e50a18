import math

import numpy as np
import pytest
import torch
from scenes import scene_of
from torch import Tensor, nn

from kdnas.envs import AgentSpec, EnvSpec
from kdnas.errors import TeacherError
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.teachers import GaussianActor, Reading, Teacher, make_mlp

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


def fixed(bias: list[float], inputs: int) -> nn.Linear:
    """Says the same to everything."""
    layer = nn.Linear(inputs, len(bias))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor(bias))
    return layer


def two_of(actions: ActionSpace, *, state_size: int = 2) -> EnvSpec:
    """Two agents that see one number."""
    spaces = AgentSpec(observation_size=1, actions=actions)
    return EnvSpec(name="test", agents={"a": spaces, "b": spaces}, groups={"all": ("a", "b")}, state_size=state_size)


def test_it_acts_greedily_by_the_rules_and_ties_go_to_the_lowest() -> None:
    teacher = Teacher(SPEC, {"pair": fixed([0.0, 2.0, 2.0], 2), "solo": fixed([1.0, 0.0], 4)})
    mask = np.array([[[True, True]], [[False, True]], [[True, False]]])
    scene = scene_of({"pair": np.zeros((3, 2, 2)), "solo": np.zeros((3, 1, 4))}, {"solo": mask}, np.zeros((3, 8)))
    actions = teacher.act(scene)
    assert actions["pair"].tolist() == [[1, 1]] * 3
    assert actions["solo"].tolist() == [[0], [1], [0]]
    # What it says is not masked yet.
    said = teacher.parameters(scene)
    assert said["solo"].tolist() == [[[1.0, 0.0]]] * 3
    assert said["pair"].shape == (3, 2, 3)


def test_it_acts_in_each_factor_by_the_rules() -> None:
    teacher = Teacher(two_of(MultiDiscrete((2, 3))), {"all": fixed([0.0, 1.0, 5.0, 7.0, 6.0], 1)})
    mask = np.array([[[True] * 5, [True, False, True, False, True]]])
    # Free: 1 and 1 (7.0); without those: 0 and 2 (6.0).
    assert teacher.act(scene_of({"all": np.zeros((1, 2, 1))}, {"all": mask}))["all"].tolist() == [[[1, 1], [0, 2]]]


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        # The mean 3 is clipped to 2, -0.5 stays; deviations do not matter.
        (Box((-1.0, -1.0), (2.0, 2.0)), [2.0, -0.5]),
        # tanh(3) = 0.995055 and tanh(-0.5) = -0.462117: -1 + 3 (1.995055) / 2 and -1 + 3 (0.537883) / 2.
        (Box((-1.0, -1.0), (2.0, 2.0), squashed=True), [1.992582, -0.193176]),
    ],
)
def test_it_acts_by_the_mean_of_continuous_actions(space: Box, actions: list[float]) -> None:
    teacher = Teacher(two_of(space), {"all": GaussianActor(nn.Sequential(fixed([3.0, -0.5], 1)), 2, log_std=1.0)})
    scene = scene_of({"all": np.zeros((4, 2, 1))})
    assert teacher.parameters(scene)["all"].tolist() == [[[3.0, -0.5, 1.0, 1.0]] * 2] * 4
    taken = teacher.act(scene)["all"]
    np.testing.assert_allclose(taken, np.full((4, 2, 2), actions), atol=1e-6)
    assert taken.dtype == np.float32


class _Sum(nn.Module):
    """Says (sum of all that it read, 1.5): with memory since the beginning, without it now."""

    def forward(self, rows: Tensor, hidden: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        total = rows.sum(-1, keepdim=True) + (0.0 if hidden is None else hidden)
        logits = torch.cat([total, torch.full_like(total, 1.5)], -1)
        return logits if hidden is None else (logits, total)


def test_a_centralised_teacher_reads_the_state_behind_each_observation() -> None:
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 10.0, 0.0], [0.0, 0.0, 1.0]]))
        network.bias.zero_()
    teacher = Teacher(two_of(Discrete(2)), {"all": network}, reading={"all": Reading(state=True)})
    scene = scene_of({"all": [[[1], [2]], [[3], [4]]]}, state=[[0.5, -1], [0.25, 9]])
    # (observation + 10 times the first of the state, the second): 1 + 5, 2 + 5; 3 + 2.5, 4 + 2.5.
    assert teacher.parameters(scene)["all"].tolist() == [[[6, -1], [7, -1]], [[5.5, 9], [6.5, 9]]]
    assert teacher.act(scene)["all"].tolist() == [[0, 0], [1, 1]]


def test_a_recurrent_teacher_remembers_until_episodes_begin_anew() -> None:
    teacher = Teacher(two_of(Discrete(2)), {"all": _Sum()}, reading={"all": Reading(hidden_size=1)})

    def said(rows: list[list[float]], *, first: bool = False) -> list[float]:
        scene = scene_of({"all": np.reshape(rows, (-1, 2, 1))}, first=first)
        return teacher.parameters(scene)["all"][..., 0].flatten().tolist()

    assert said([[1, 2], [3, 4]], first=True) == [1, 2, 3, 4]
    # Each agent of each copy has its own memory.
    assert said([[1, 1], [0, 10]]) == [2, 3, 3, 14]
    assert said([[0, 0], [0, 0]]) == [2, 3, 3, 14]
    # Another batch, forgotten.
    assert said([[1, 1]], first=True) == [1, 1]
    assert said([[1, 0]]) == [2, 1]


def test_a_recurrent_teacher_remembers_while_it_acts() -> None:
    teacher = Teacher(two_of(Discrete(2)), {"all": _Sum()}, reading={"all": Reading(hidden_size=1)})
    steps = [scene_of({"all": np.full((1, 2, 1), 0.75)}, first=first) for first in (True, False, False, True)]
    # 0.75, 1.5 and 2.25 against 1.5; a tie goes to the lowest.
    assert [teacher.act(step)["all"].tolist() for step in steps] == [[[1, 1]], [[0, 0]], [[0, 0]], [[1, 1]]]


def test_a_teacher_may_read_the_state_and_remember() -> None:
    reading = {"all": Reading(state=True, hidden_size=1)}
    teacher = Teacher(two_of(Discrete(2)), {"all": _Sum()}, reading=reading)
    scenes = [scene_of({"all": [[[1], [2]]]}, state=[[10, 100]], first=first) for first in (True, False)]
    assert [teacher.parameters(scene)["all"][0, :, 0].tolist() for scene in scenes] == [[111, 112], [222, 224]]
    assert [tuple(probe.shape) for probe in teacher.probe("all", rows=5)] == [(5, 3), (5, 1)]


def test_action_values_become_a_policy_by_their_temperature() -> None:
    reading = {"all": Reading(q_temperature=0.5)}
    teacher = Teacher(two_of(Discrete(2)), {"all": fixed([2.0, 1.0], 1)}, reading=reading)
    scene = scene_of({"all": np.zeros((1, 2, 1))})
    # Q / 0.5: logits 4 and 2, so 1 / (1 + e^-2) = 0.8808 of the first.
    said = teacher.parameters(scene)["all"]
    assert said.tolist() == [[[4.0, 2.0]] * 2]
    assert said.softmax(-1)[0, 0, 0].item() == pytest.approx(0.8808, abs=1e-4)
    # The hotter, the closer to a half; the greedy action is the same.
    hot = Teacher(two_of(Discrete(2)), {"all": fixed([2.0, 1.0], 1)}, reading={"all": Reading(q_temperature=100.0)})
    assert hot.parameters(scene)["all"].softmax(-1)[0, 0, 0].item() == pytest.approx(0.5, abs=0.01)
    assert hot.act(scene)["all"].tolist() == teacher.act(scene)["all"].tolist() == [[0, 0]]


def test_probes_are_what_a_network_takes() -> None:
    def shapes(**reading: object) -> list[tuple[int, ...]]:
        network = _Sum()
        teacher = Teacher(two_of(Discrete(2)), {"all": network}, reading={"all": Reading(**reading)})
        network(*teacher.probe("all"))
        return [tuple(probe.shape) for probe in teacher.probe("all")]

    assert shapes() == [(1, 1)]
    assert shapes(state=True) == [(1, 3)]
    assert shapes(hidden_size=1) == [(1, 1), (1, 1)]
    assert shapes(q_temperature=1.0) == [(1, 1)]


def test_it_is_frozen() -> None:
    value = make_mlp(8, (4,), 1).train()
    teacher = Teacher(SPEC, {group: actor.train() for group, actor in actors().items()}, value)
    for module in (*teacher.actors.values(), value):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    seen = {"pair": np.zeros((5, 2, 2)), "solo": np.zeros((5, 1, 4))}
    assert not any(said.requires_grad for said in teacher.parameters(scene_of(seen)).values())


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


def test_digests_are_of_how_a_network_is_read() -> None:
    network, readings = fixed([2.0, 1.0], 1), [{}, {"q_temperature": 1.0}, {"q_temperature": 0.5}]
    teachers = [Teacher(two_of(Discrete(2)), {"all": network}, reading={"all": Reading(**how)}) for how in readings]
    assert len({teacher.digest("all") for teacher in teachers}) == 3
    assert teachers[0].digest("all") == Teacher(two_of(Discrete(2)), {"all": network}).digest("all")


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


class _Answers(nn.Module):
    """A recurrent network that returns what it is given."""

    def __init__(self, *answer: Tensor) -> None:
        super().__init__()
        self._answer = answer

    def forward(self, rows: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        return self._answer


PLANE = Box((-1.0,), (1.0,))
TWO = Discrete(2)


@pytest.mark.parametrize(
    ("space", "network", "reading", "said"),
    [
        # Continuous actions need deviations as well.
        (PLANE, nn.Linear(1, 1), Reading(), r"gives \(2, 1\) .* needs means and logarithms of deviations \(2, 2\)"),
        (MultiDiscrete((2, 3)), nn.Linear(1, 6), Reading(), r"gives \(2, 6\) for two .* needs logits \(2, 5\)"),
        # The state is read, or it is not: observations of 1, a state of 2.
        (
            TWO,
            nn.Linear(1, 2),
            Reading(state=True),
            r"refuses observations of 3 features \(observation and state\): .*shapes",
        ),
        (TWO, nn.Linear(3, 2), Reading(), r"refuses observations of 1 features: .*shapes"),
        # It remembers, or it does not.
        (TWO, nn.Linear(1, 2), Reading(hidden_size=4), "refuses observations of 1 features: .*positional argument"),
        (TWO, _Answers(), Reading(), "refuses observations of 1 features: .*missing 1 required .*'hidden'"),
        (
            TWO,
            _Answers(torch.zeros(2, 2)),
            Reading(hidden_size=4),
            r"group 'all' is recurrent and must return \(logits, hidden\), but gives tuple",
        ),
        (
            TWO,
            _Answers(torch.zeros(2, 2), torch.zeros(2, 3)),
            Reading(hidden_size=4),
            r"group 'all' returns a hidden state \(2, 3\); it needs \(2, 4\)",
        ),
        (
            TWO,
            _Answers(torch.zeros(2, 3), torch.zeros(2, 4)),
            Reading(hidden_size=4),
            r"group 'all' gives \(2, 3\) for two observations .* needs logits \(2, 2\)",
        ),
        (
            TWO,
            _Answers(torch.full((2, 2), math.nan), torch.zeros(2, 4)),
            Reading(hidden_size=4),
            "group 'all' returns NaN or infinity for a zero observation",
        ),
        # Action values are of discrete actions.
        (
            PLANE,
            nn.Linear(1, 2),
            Reading(q_temperature=1.0),
            "group 'all': q_temperature = 1.0 needs discrete actions and must be positive",
        ),
        (TWO, nn.Linear(1, 2), Reading(q_temperature=0.0), "q_temperature = 0.0 needs .* must be positive"),
        (TWO, nn.Linear(1, 2), Reading(q_temperature=math.nan), "q_temperature = nan needs .* must be positive"),
    ],
)
def test_networks_that_are_read_otherwise(space: ActionSpace, network: nn.Module, reading: Reading, said: str) -> None:
    with pytest.raises(TeacherError, match=said):
        Teacher(two_of(space), {"all": network}, reading={"all": reading})


def test_every_group_needs_a_network() -> None:
    with pytest.raises(TeacherError, match="no network for group 'solo'; it has: pair"):
        Teacher(SPEC, {"pair": make_mlp(2, (8,), 3)})


def test_a_reading_of_a_group_that_is_not_there() -> None:
    with pytest.raises(TeacherError, match="reading: no group 'pairs': did you mean 'pair'"):
        Teacher(SPEC, actors(), reading={"pairs": Reading(q_temperature=0.5)})


def test_an_answer_that_is_not_finite() -> None:
    teacher = Teacher(two_of(TWO), {"all": _Sum()}, reading={"all": Reading(hidden_size=1)})
    teacher.parameters(scene_of({"all": np.ones((1, 2, 1))}))
    with pytest.raises(TeacherError, match="the teacher of group 'all' returns NaN or infinity in test"):
        teacher.parameters(scene_of({"all": np.full((1, 2, 1), np.inf)}, first=False))
