import numpy as np
import pytest
import torch

from kdnas.errors import StudentError
from kdnas.students import Normalisation, Team

from .conftest import DRONE, ENV, SCOUT, MakeStudent, rows


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
    actions = team.act(
        {"scout": rows(2, 6)[:, None], "drones": np.zeros((2, 2, 3), np.float32)},
        {"scout": mask, "drones": None},
        np.zeros((2, 12), np.float32),
    )
    assert actions["scout"].tolist() == [[2], [0]]  # all logits are 0
    assert actions["drones"].tolist() == [[1, 1], [1, 1]]  # 2 in places 1 and 3
