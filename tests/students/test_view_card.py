"""A student folder that remembers how much of the observation its students see."""

from dataclasses import replace

import pytest
import torch

from kdnas.envs import AgentSpec, EnvSpec, SeenSet, View
from kdnas.errors import BundleError
from kdnas.policies.actions import Discrete
from kdnas.spaces.spec import StudentSpec
from kdnas.students.bundle import group_cards, load_student, save_weights, write_card
from kdnas.students.family import load_family
from kdnas.students.student import Student
from kdnas.students.team import Team

from .conftest import card_of

THINGS = SeenSet(name="things", members=((1,), (2,)), positions=((1,), (2,)), nearest=1)
VIEW = View(observation_size=5, own=(0,), sets=(THINGS,), noise=0.25)
"""Two of five features."""

SPEC = EnvSpec(
    name="toy",
    agents={
        "a": AgentSpec(observation_size=5, actions=Discrete(3)),
        "b": AgentSpec(observation_size=4, actions=Discrete(2)),
    },
    groups={"one": ("a",), "two": ("b",)},
    state_size=9,
    views={"one": VIEW},
)


def save(folder, **changes) -> None:
    students = {}
    for group in SPEC.groups:
        spec, spaces = StudentSpec(family="mlp", base=(3,), hidden=(3,)), SPEC.student_spec(group)
        network = load_family("mlp").build(spec, spaces, torch.Generator().manual_seed(0))
        students[group] = Student(spec, spaces, network)
    team = Team(SPEC, students)
    groups = group_cards(team)
    groups["one"] = groups["one"].model_copy(update=changes)
    card = card_of(team, save_weights(folder, team))
    write_card(folder, card.model_copy(update={"groups": groups, "environment": SPEC.name}))


def test_the_view_comes_back_with_the_team(tmp_path):
    save(tmp_path)
    student = load_student(tmp_path)
    assert student.team.spec == SPEC
    assert student.team.students["one"].spaces.observation_size == 2
    assert student.act({"a": [[1.0, 2.0]], "b": [[1.0, 2.0, 3.0, 4.0]]}).keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        ({"own": [0]}, "group 'one' has no readable view"),
        (replace(VIEW, own=(0, 3)).as_json(), "reads 2 features, but that its view shows 3"),
    ],
)
def test_a_view_that_is_damaged_is_refused(tmp_path, view, sentence):
    save(tmp_path, view=view)
    with pytest.raises(BundleError, match=sentence):
        load_student(tmp_path)
