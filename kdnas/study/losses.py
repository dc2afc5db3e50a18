"""What each student of a front loses alone among teachers, as the search that found it has played it."""

from collections.abc import Sequence
from pathlib import Path

from kdnas.evaluation.score import Interval
from kdnas.study.front import Member
from kdnas.study.run_folder import trials_of


def read_losses(run: Path, members: Sequence[Member]) -> dict[int, dict[str, Interval]]:
    """Trial -> group -> retention that a team of teachers loses by the student of that group; see `prediction`.

    Raises:
        KdnasError: the folder is no run, or its storage cannot be read.
    """
    numbers = {member.trial for member in members}
    return {
        trial.number: {group: Interval.from_json(loss) for group, loss in trial.user_attrs["losses"].items()}
        for trial in trials_of(run)
        if trial.number in numbers and "losses" in trial.user_attrs
    }
