"""The contract of an exporter: a team in, files and what they were checked on out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from kdnas.errors import StudentError
from kdnas.policies.arrays import Floats
from kdnas.policies.team_policy import TeamPolicy
from kdnas.students.team import Team

AGREEMENT = 0.999
"""Share of the recorded rows on which an artifact must act as its students do. Not all of them: a hidden unit halfway
between two integers may be rounded either way, and near a tie of the logits that decides the action."""

SAME_ACTION = 1e-4
"""Continuous actions closer than this are the same one."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What an exporter has written, and how far it agrees with the students.

    Example: `Artifact(files=("team.onnx",), checked_rows=2000, agreed_rows=2000, max_error=2.4e-7)`.
    """

    files: tuple[str, ...]
    """Names relative to the folder that was asked for."""
    checked_rows: int
    """Recorded observations that the artifact was run on, over all groups."""
    agreed_rows: int
    """Those of them on which every agent of the group chooses the action of its student."""
    max_error: float
    """Largest difference of a logit, a mean or a number of the hidden state."""
    note: str = ""
    """What could not be checked here, in a sentence."""


class Exporter(Protocol):
    """A form in which a team is deployed.

    One object without state, registered under `kdnas.exporters` and made without arguments. `export` is called once for
    every team of the front, in a folder of its own, and leaves the students as they were, to the last bit.
    """

    @property
    def name(self) -> str: ...

    def export(self, team: Team, folder: Path, *, recorded: Mapping[str, Floats]) -> Artifact:
        """Write the files whole or not at all, run them on `recorded`, and say how far they agree.

        Args:
            team: students in evaluation mode.
            folder: where the files go; made if it is not there.
            recorded: group -> views (rows, V) of its agents, at least one row.

        Raises:
            StudentError: a student that this form cannot hold, or an artifact that does not act as its students do.
        """
        ...


@runtime_checkable
class Opener(Protocol):
    """What an exporter may have besides: a way to play with what it wrote, which `kdnas verify` takes."""

    def open(self, folder: Path, team: Team) -> TeamPolicy:
        """The artifact in a folder as a policy; `team` holds the students that it was made of.

        It must run the artifact itself, and may read of the team only which agents, spaces and shapes there are.

        Raises:
            StudentError: the artifact cannot be run on this machine.
        """
        ...


def check_recorded(team: Team, recorded: Mapping[str, Floats]) -> None:
    """Refuse recorded rows that leave a group out or are not its observations.

    Raises:
        StudentError: naming the group.
    """
    for group in team.spec.groups:
        features = team.spec.student_spec(group).observation_size
        rows = recorded.get(group)
        if rows is None or rows.ndim != 2 or rows.shape[1] != features or not len(rows):
            have = "none" if rows is None else f"an array {rows.shape}"
            raise StudentError(
                f"export: group {group!r} needs recorded observations (rows, {features}) to check the artifact on, "
                f"but got {have}; record demonstrations first"
            )
