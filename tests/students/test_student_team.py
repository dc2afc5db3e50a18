"""A team on the device: what it takes, what it answers, and how it complains."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import BundleError
from kdnas.policies.actions import ActionSpace, Box, MultiDiscrete
from kdnas.students import StudentTeam, Team

from .conftest import MakeStudent, card_of, rows
from .memory import remembering


def team_of(make_student: MakeStudent, actions: ActionSpace, outputs: list[float]) -> StudentTeam:
    """One agent that sees three numbers and always says the same."""
    spaces = AgentSpec(observation_size=3, actions=actions)
    student = make_student(spaces=spaces)
    with torch.no_grad():
        student.network.linears[-1].weight.zero_()
        student.network.linears[-1].bias.copy_(torch.tensor(outputs))
    spec = EnvSpec(name="test", agents={"a": spaces}, groups={"all": ("a",)}, state_size=3)
    team = Team(spec, {"all": student})
    return StudentTeam(card_of(team, "x"), team)


def test_one_observation_gives_a_number(loaded: StudentTeam) -> None:
    actions = loaded.act({"drone_1": [0.1, 0.2, 0.3]})
    assert list(actions) == ["drone_1"]
    assert type(actions["drone_1"]) is int
    batch = loaded.act({"drone_1": [[0.1, 0.2, 0.3]] * 3})["drone_1"]
    assert batch.tolist() == [actions["drone_1"]] * 3


def test_masked_actions_are_never_chosen(loaded: StudentTeam) -> None:
    seen = rows(100, 6)
    free = loaded.act({"scout": seen})["scout"]
    mask = np.ones((100, 4), np.int8)
    mask[np.arange(100), free] = 0
    second = loaded.act({"scout": seen}, {"scout": mask})["scout"]
    assert (second != free).all()
    only = loaded.act({"scout": seen[0]}, {"scout": [False, False, True, False]})
    assert only == {"scout": 2}


@pytest.mark.parametrize(
    ("observations", "masks", "said"),
    [
        ({"drone_2": [0, 0, 0]}, None, r"no agent 'drone_2': did you mean 'drone_"),
        ({"drone_0": [0, 0, 0]}, {"drone": [1] * 5}, r"no agent 'drone': did you mean 'drone_"),
        ({"drone_0": [0, 0]}, None, r"'drone_0' observes 3 features, but got the shape \(2,\)"),
        ({"drone_0": 1.0}, None, r"'drone_0' observes 3 features, but got the shape \(\)"),
        ({"drone_0": [[[0, 0, 0]]]}, None, r"'drone_0' observes 3 features, but got the shape \(1, 1, 3\)"),
        ({"drone_0": [[0, 0, 0], [0, 0]]}, None, r"'drone_0': list is no array of numbers"),
        ({"drone_0": "north"}, None, r"'drone_0': str is no array of numbers"),
        ({"scout": [0] * 6}, {"scout": [1] * 5}, r"'scout': the mask must have 4 entries .* got the shape \(5,\)"),
        ({"scout": [0] * 6}, {"scout": [[1] * 4]}, r"'scout': the mask must have 4 entries .* got the shape \(1, 4\)"),
        ({"scout": [[0] * 6]}, {"scout": [1] * 4}, r"'scout': the mask must have 4 entries .* got the shape \(4,\)"),
        ({"scout": [0] * 6}, {"scout": [0] * 4}, r"'scout': the mask must .* allow one of them"),
    ],
)
def test_bad_observations_and_masks(loaded: StudentTeam, observations: Any, masks: Any, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        loaded.act(observations, masks)


def test_choices_of_several_factors(make_student: MakeStudent) -> None:
    team = team_of(make_student, MultiDiscrete((2, 3)), [0.0, 1.0, 5.0, 7.0, 6.0])
    one = team.act({"a": [0, 0, 0]})["a"]
    assert (one.tolist(), one.dtype) == ([1, 1], np.int64)
    assert team.act({"a": np.zeros((3, 3))})["a"].tolist() == [[1, 1]] * 3
    # Without 1 of the first factor and 1 of the second: 0, and 2 (6 against 5).
    assert team.act({"a": [0, 0, 0]}, {"a": [1, 0, 1, 0, 1]})["a"].tolist() == [0, 2]
    mask = [[1, 1, 1, 1, 1], [0, 1, 1, 0, 0]]
    assert team.act({"a": np.zeros((2, 3))}, {"a": mask})["a"].tolist() == [[1, 1], [1, 0]]


def test_continuous_actions_are_clipped(make_student: MakeStudent) -> None:
    team = team_of(make_student, Box((-1.0, -math.inf), (2.0, 0.0)), [3.0, -50.0])
    one = team.act({"a": [0, 0, 0]})["a"]
    assert (one.tolist(), one.dtype) == ([2.0, -50.0], np.float32)
    assert team.act({"a": np.zeros((3, 3))})["a"].tolist() == [[2.0, -50.0]] * 3


def test_continuous_actions_are_squashed(make_student: MakeStudent) -> None:
    # tanh(ln(3) / 2) = 1/2: three quarters of the way from -1 to 3; a far negative number is the lower bound.
    team = team_of(make_student, Box((-1.0, 4.0), (3.0, 5.0), squashed=True), [math.log(3) / 2, -50.0])
    assert team.act({"a": [0, 0, 0]})["a"].tolist() == pytest.approx([2.0, 4.0])


@pytest.mark.parametrize(
    ("actions", "mask", "said"),
    [
        (MultiDiscrete((2, 3)), [1] * 4, r"'a': the mask must have 5 entries .* got the shape \(4,\)"),
        # Each factor needs a legal action of its own.
        (MultiDiscrete((2, 3)), [1, 1, 0, 0, 0], "'a': the mask must have 5 entries for each .* allow one of them"),
        (MultiDiscrete((2, 3)), [0, 0, 1, 1, 1], "'a': the mask must have 5 entries for each .* allow one of them"),
        (Box((0.0,), (1.0,)), [1], "'a' has continuous actions, which have no mask"),
    ],
)
def test_bad_masks_of_other_actions(make_student: MakeStudent, actions: ActionSpace, mask: Any, said: str) -> None:
    team = team_of(make_student, actions, [0.0] * actions.outputs)
    with pytest.raises(BundleError, match=said):
        team.act({"a": [0, 0, 0]}, {"a": mask})


def test_each_agent_remembers_its_own_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    team = Team(*remembering(monkeypatch))
    deployed = StudentTeam(card_of(team, "x"), team)
    # It says 1 once more than 1.5 was seen.
    assert deployed.act({"x": [1.0], "y": [2.0]}) == {"x": 0, "y": 1}
    assert deployed.act({"x": [1.0]}) == {"x": 1}
    assert deployed.act({"x": [-2.0], "y": [-1.0]}) == {"x": 0, "y": 0}
    deployed.reset()
    assert deployed.act({"x": [[1.0], [2.0]]})["x"].tolist() == [0, 1]
    assert deployed.act({"x": [[1.0], [-1.0]]})["x"].tolist() == [1, 0]
    with pytest.raises(BundleError, match=r"'x' remembers 2 episodes, but got 1 observations; call reset\(\) where"):
        deployed.act({"x": [1.0]})
    assert deployed.act({"y": [1.0]}) == {"y": 0}
