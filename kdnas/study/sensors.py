"""Inputs that no student of the front needs: sensors that a device may do without."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from kdnas.export.exporter import AGREEMENT, SAME_ACTION
from kdnas.policies.arrays import Floats
from kdnas.policies.distribution import greedy
from kdnas.students.student import Student
from kdnas.students.team import Team
from kdnas.students.weights import weights_digest


def removable_features(
    teams: Sequence[Team], recorded: Mapping[str, Floats]
) -> dict[str, tuple[int, ...]]:
    """Group -> the features of its view that no student of the front needs.

    Students were pruned of it; or it may be replaced by its mean, and they act as before on `AGREEMENT` of the recorded
    views. That is tried for one feature at a time: two that stand in for each other may both be listed. It is not tried
    on recurrent students, for recorded views say nothing of what they remember.
    """
    found: dict[str, tuple[int, ...]] = {}
    for group in teams[0].spec.groups:
        students = list({weights_digest(team.students[group]): team.students[group] for team in teams}.values())
        needless = [
            {*student.spaces.pruned, *([] if student.hidden_size else needless_features(student, recorded[group]))}
            for student in students
        ]
        if common := set.intersection(*needless):
            found[group] = tuple(sorted(common))
    return found


@torch.inference_mode()
def needless_features(student: Student, views: Floats) -> list[int]:
    """Features that a student reads, and whose mean over some views (rows, V) does as well."""
    actions = student.spaces.actions
    rows = torch.from_numpy(np.ascontiguousarray(views, np.float32))
    usual = greedy(actions, student(rows))
    needless = []
    for feature in student.spaces.kept:
        without = rows.clone()
        without[:, feature] = rows[:, feature].mean()
        off = (greedy(actions, student(without)) - usual).abs().reshape(len(rows), -1).amax(1)
        if float((off <= SAME_ACTION).double().mean()) >= AGREEMENT:
            needless.append(feature)
    return needless
