"""One stage of the end of a search: a team is trained on, and stays what it was unless it plays better."""

import copy
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from kdnas.distill.classroom import Classroom
from kdnas.distill.refined import RefineStage, Students
from kdnas.errors import StudentError
from kdnas.evaluation.score import make_gain
from kdnas.students.refinement import IntervalCard, Refinement
from kdnas.students.team import Team

Returns = NDArray[np.float64]
"""Of E episodes, (E,)."""


def refine(
    stage: RefineStage,
    team: Team,
    rooms: Mapping[str, Classroom],
    validate: Callable[[Team], Returns],
    references: tuple[Returns, Returns],
    *,
    seed: int,
) -> tuple[Refinement, Students]:
    """Put a team through a stage, and play it before and afterwards on the same validation episodes.

    Args:
        stage: what is done.
        team: is left as it is.
        rooms: group -> the classroom of its pool.
        validate: plays a team on the validation episodes, as it will act: greedily, quantized students in integers.
        references: returns of the teacher and of random play on these episodes.
        seed: of the training.

    Returns:
        What was done, and the students that are kept: those of the stage if the mean of their differences is above 0.
        One that fails, or makes what cannot act, keeps nothing and says why.
    """
    before = validate(team)
    students = copy.deepcopy(team.students)
    try:
        stage.run(students, rooms, seed=seed)
        after = validate(Team(team.spec, students))
    except StudentError as error:
        return Refinement(stage=stage.name, kept=False, failure=str(error)), team.students
    gain = make_gain(after, before, *references)
    kept = gain.mean > 0
    record = Refinement(stage=stage.name, kept=kept, gain=IntervalCard(**gain.as_json()))
    return record, students if kept else team.students
