"""Inputs that no student of the front needs: sensors that a device may do without."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from kdnas.export.exporter import AGREEMENT, SAME_ACTION
from kdnas.policies.arrays import Floats
from kdnas.policies.distribution import greedy
from kdnas.students.student import Student
from kdnas.students.team import Team
from kdnas.students.weights import weights_digest


def removable_features(
    teams: Sequence[Team], recorded: Mapping[str, Floats]
) -> dict[str, tuple[int, ...]]:
    """Group -> the features of its view that no student of the front needs: a device may do without all of them."""
    found: dict[str, tuple[int, ...]] = {}
    for group in teams[0].spec.groups:
        students = list({weights_digest(team.students[group]): team.students[group] for team in teams}.values())
        if needless := needless_features(students, recorded[group]):
            found[group] = tuple(needless)
    return found


@torch.inference_mode()
def needless_features(students: Sequence[Student], views: Floats) -> list[int]:
    """Features that none of some students of a group needs, all at once.

    A student was pruned of it; or it may be replaced by its mean over some views (rows, V), beside those before it in
    the list, and the student acts as before on `AGREEMENT` of the rows. That is not tried on recurrent students, for
    recorded views say nothing of what they remember.
    """
    rows = torch.from_numpy(np.array(views, np.float32))
    usual = [None if student.hidden_size else _decide(student, rows) for student in students]
    needless = []
    for feature in sorted({*students[0].spaces.kept, *students[0].spaces.pruned}):
        without = rows.clone()
        without[:, feature] = rows[:, feature].mean()
        if all(
            feature in student.spaces.pruned or (before is not None and _agree(_decide(student, without), before))
            for student, before in zip(students, usual, strict=True)
        ):
            needless.append(feature)
            rows = without
    return needless


def _decide(student: Student, rows: Tensor) -> Tensor:
    return greedy(student.spaces.actions, student(rows))


def _agree(actions: Tensor, usual: Tensor) -> bool:
    off = (actions - usual).abs().reshape(len(usual), -1).amax(1)
    return float((off <= SAME_ACTION).double().mean()) >= AGREEMENT
