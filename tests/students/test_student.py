from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import scene_of

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Box, Discrete, MultiDiscrete
from kdnas.spaces import StudentSpec
from kdnas.students import Normalisation, Seats, Student, Team, load_family

from .conftest import DRONE, ENV, SCOUT, MakeStudent, rows
from .memory import remembering


def test_leading_dimensions_are_kept(make_student: MakeStudent) -> None:
    student = make_student()
    seen = torch.from_numpy(rows(12, 3))
    flat = student(seen)
    assert flat.shape == (12, 5)
    assert torch.equal(student(seen.reshape(2, 3, 2, 3)), flat.reshape(2, 3, 2, 5))
    assert student(seen[0]).shape == (5,)
    assert student(seen[:0]).shape == (0, 5)


def test_normalisation_comes_before_the_network(make_student: MakeStudent) -> None:
    normalised = make_student(normalisation=Normalisation(shift=(1.0, 0.0, 2.0), scale=(1.0, 0.5, 2.0)))
    # (1 - 1) * 1, (4 - 0) * .5, (3 - 2) * 2
    assert torch.equal(normalised(torch.tensor([1.0, 4.0, 3.0])), make_student()(torch.tensor([0.0, 2.0, 2.0])))
    # The map is data of the card, not a weight.
    assert list(normalised.state_dict()) == list(make_student().state_dict())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_must_be_finite(make_student: MakeStudent, value: float) -> None:
    student = make_student()
    student.check_finite()
    with torch.no_grad():
        student.network.linears[1].bias[2] = value
    with pytest.raises(StudentError, match=r"student mlp 8x6 float: linears.1.bias holds NaN or infinity; lower"):
        student.check_finite()


def test_a_team_needs_a_student_for_every_group(make_student: MakeStudent) -> None:
    with pytest.raises(StudentError, match="no student for scout"):
        Team(ENV, {"drones": make_student()})


def test_a_team_acts_greedily_and_ties_go_to_the_lowest(make_student: MakeStudent) -> None:
    students = {"scout": make_student(spaces=SCOUT), "drones": make_student(spaces=DRONE)}
    for student in students.values():
        with torch.no_grad():
            last = student.network.linears[-1]
            last.weight.zero_()
            last.bias.zero_()
    with torch.no_grad():
        students["drones"].network.linears[-1].bias.copy_(torch.tensor([0.0, 2.0, 1.0, 2.0, 0.0]))
    team = Team(ENV, {group: student.train() for group, student in students.items()})
    assert not any(student.training for student in team.students.values())
    mask = np.array([[[False, False, True, True]], [[True] * 4]])
    scene = scene_of({"scout": rows(2, 6)[:, None], "drones": np.zeros((2, 2, 3))}, {"scout": mask})
    actions = team.act(scene)
    assert actions["scout"].tolist() == [[2], [0]]  # all logits are 0
    assert actions["drones"].tolist() == [[1, 1], [1, 1]]  # 2 in places 1 and 3


def test_a_team_sees_the_views(make_student: MakeStudent) -> None:
    spec = EnvSpec(name="test", agents={"a": SCOUT}, groups={"all": ("a",)}, state_size=6)
    team, seen = Team(spec, {"all": make_student(spaces=DRONE)}), rows(50, 3)[:, None]
    actions = team.act(scene_of({"all": np.zeros((50, 1, 6))}, views={"all": seen}))["all"]
    assert actions.tolist() == team.students["all"](torch.from_numpy(seen)).argmax(-1).tolist()
    assert len(set(actions.ravel().tolist())) > 1


def test_a_team_acts_in_every_kind_of_space(make_student: MakeStudent) -> None:
    kinds = {
        "factored": AgentSpec(observation_size=3, actions=MultiDiscrete((2, 3)), masked=True),
        "clipped": AgentSpec(observation_size=3, actions=Box((-1.0, -1.0), (2.0, 2.0))),
    }
    spec = EnvSpec(name="test", agents=kinds, groups={kind: (kind,) for kind in kinds}, state_size=6)
    students = {kind: make_student(spaces=spaces) for kind, spaces in kinds.items()}
    for kind, outputs in (("factored", [0.0, 1.0, 5.0, 7.0, 6.0]), ("clipped", [3.0, -0.5])):
        with torch.no_grad():
            students[kind].network.linears[-1].weight.zero_()
            students[kind].network.linears[-1].bias.copy_(torch.tensor(outputs))
    mask = np.array([[[True] * 5], [[True, False, True, False, True]]])
    actions = Team(spec, students).act(scene_of({kind: np.zeros((2, 1, 3)) for kind in kinds}, {"factored": mask}))
    assert actions["factored"].tolist() == [[[1, 1]], [[0, 2]]]
    assert actions["clipped"].tolist() == [[[2.0, -0.5]]] * 2
    assert (actions["factored"].dtype, actions["clipped"].dtype) == (np.int64, np.float32)


def test_a_student_without_memory(make_student: MakeStudent) -> None:
    student = make_student()
    assert (student.hidden_size, student.begin(5)) == (0, None)
    assert [tuple(probe.shape) for probe in student.probe()] == [(1, 3)]
    seen = torch.from_numpy(rows(4, 3))
    outputs, following = student.step(seen, None)
    assert torch.equal(outputs, student(seen))
    assert following is None


def test_a_student_with_memory_reads_time(monkeypatch: pytest.MonkeyPatch) -> None:
    student = remembering(monkeypatch)[1]["all"]
    assert student.begin(5).tolist() == [[0.0]] * 5
    assert [tuple(probe.shape) for probe in student.probe()] == [(1, 1), (1, 1)]
    # Two episodes of three steps: the sums since their beginning.
    seen = torch.tensor([[1.0, 2.0, 4.0], [0.5, 0.0, -1.0]])[..., None]
    assert student(seen)[..., 1].tolist() == [[1, 3, 7], [0.5, 0.5, -0.5]]
    assert student(seen[0])[..., 1].tolist() == [1, 3, 7]
    assert student(seen.reshape(2, 1, 3, 1)).shape == (2, 1, 3, 2)
    assert student(seen[:0]).shape == (0, 3, 2)
    # From a hidden state, step by step.
    outputs, following = student.step(torch.tensor([[2.0]]), torch.tensor([[10.0]]))
    assert (outputs.tolist(), following.tolist()) == ([[1.5, 12.0]], [[12.0]])


def test_normalisation_comes_before_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    student = remembering(monkeypatch, Normalisation(shift=(1.0,), scale=(2.0,)))[1]["all"]
    # (2 - 1) 2 = 2, and (4 - 1) 2 = 6 more.
    assert student(torch.tensor([[2.0], [4.0]]))[..., 1].tolist() == [2, 8]


def test_seats_and_teams_remember_until_episodes_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, students = remembering(monkeypatch)
    # Two copies of two agents; 1 once more than 1.5 was seen.
    steps = [([[1, 2], [0, 1]], True), ([[1, 0], [0, 0]], False), ([[0, -1], [2, 0]], False), ([[1, 2], [0, 1]], True)]
    want = [[[0, 1], [0, 0]], [[1, 1], [0, 0]], [[1, 0], [1, 0]], [[0, 1], [0, 0]]]
    scenes = [scene_of({"all": np.expand_dims(seen, -1)}, first=first) for seen, first in steps]
    team, seats = Team(spec, students), Seats(students["all"])
    assert [team.act(scene)["all"].tolist() for scene in scenes] == want
    assert [seats.act(scene.views["all"], None, first=scene.first).tolist() for scene in scenes] == want
    # Another batch begins anew.
    assert team.act(scene_of({"all": [[[1], [2]]]}))["all"].tolist() == [[0, 1]]


def test_what_never_changes_was_only_a_bias(make_student: MakeStudent) -> None:
    """W x + b = W' x' + (b + W'' c) for the features x' that change and the others, which are c."""
    spread = AgentSpec(observation_size=18, actions=Discrete(5))
    whole = make_student(spaces=spread, normalisation=Normalisation(shift=(0.5,) * 18, scale=(2.0,) * 18))
    constant = torch.tensor([0.0, 3.0, -1.0, 0.25])
    # In no particular place: 0, 7, 8 and 17 never change.
    spaces = replace(spread, constant=(0, 7, 8, 17))
    network = load_family("mlp").build(whole.spec.floating, spaces.inputs, torch.Generator().manual_seed(0))
    network.load_state_dict(whole.network.state_dict() | {"linears.0.weight": torch.zeros(8, 14)})
    with torch.no_grad():
        first = whole.network.linears[0]
        network.linears[0].weight.copy_(first.weight[:, list(spaces.kept)])
        network.linears[0].bias.copy_(first.bias + first.weight[:, list(spaces.constant)] @ ((constant - 0.5) * 2.0))
    student = Student(whole.spec, spaces, network, Normalisation(shift=(0.5,) * 14, scale=(2.0,) * 14)).eval()
    seen = torch.from_numpy(rows(500, 18))
    seen[:, list(spaces.constant)] = constant
    torch.testing.assert_close(student(seen), whole(seen), atol=1e-5, rtol=0)
    # What it is shown there makes no difference.
    other = seen.clone()
    other[:, list(spaces.constant)] = 100.0
    assert torch.equal(student(other), student(seen))
    assert [tuple(probe.shape) for probe in student.probe()] == [(1, 18)]
    assert list(student.state_dict()) == list(whole.state_dict())


def test_a_student_with_memory_selects_in_every_step() -> None:
    spaces, spec = replace(DRONE, constant=(1,)), StudentSpec(family="gru", base=(4,), hidden=(4,))
    network = load_family("gru").build(spec, spaces.inputs, torch.Generator().manual_seed(0))
    student, seen = Student(spec, spaces, network).eval(), torch.from_numpy(rows(12, 3)).reshape(2, 6, 3)
    plain = Student(spec, spaces.inputs, network).eval()
    assert torch.equal(student(seen), plain(seen[..., [0, 2]]))
    outputs, following = student.step(seen[:, 0], student.begin(2))
    assert following is not None
    torch.testing.assert_close(outputs, student(seen)[:, 0])
