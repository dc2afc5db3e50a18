"""`CExporter`: the whole team as C99 that needs nothing, in integers where students are quantized."""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdnas.errors import StudentError
from kdnas.export.c_library import CLibrary, compile_library, find_compiler
from kdnas.export.c_policy import CPolicy
from kdnas.export.c_source import (
    HEADER,
    MAKEFILE,
    SOURCE,
    has_mask,
    name_groups,
    write_header,
    write_main,
    write_source,
)
from kdnas.export.c_student import TRACK, CStudent
from kdnas.export.c_vectors import ROWS, Vectors, write_test, write_vectors
from kdnas.export.exporter import AGREEMENT, SAME_ACTION, Artifact, check_recorded
from kdnas.export.scratch import scratch_folder
from kdnas.policies.actions import Box, Discrete, MultiDiscrete
from kdnas.policies.arrays import Actions, Bools, Floats
from kdnas.students.integer import decide
from kdnas.students.team import Team

CLOSE = 1e-3
"""Float logits closer than this, in units of the largest, may be ranked differently by another order of additions."""

_logger = logging.getLogger(__name__)


class CExporter:
    """`team.h` and `team.c`, an example, a Makefile and test vectors.

    Each group has a function, `kdnas_GROUP_step`, and its tables once, however many agents it has; weights lie at their
    real bit-width. Nothing is allocated, and every name begins with the prefix.

    Quantized students are held against `kdnas.students.integer`, bit for bit in every layer of every recorded row;
    float ones act as they do in torch. Recurrent ones are compared on tracks of a few rows; what the student says in
    torch it says from the state of the reference before each step, because a state that is rounded otherwise, at one
    step of ten thousand, is remembered. Without a C compiler on this machine only the reference is compared, and the
    artifact says so.
    """

    name = "c"

    def __init__(self, prefix: str = "kdnas") -> None:
        self.prefix = prefix

    def export(self, team: Team, folder: Path, *, recorded: Mapping[str, Floats]) -> Artifact:
        """See `Exporter.export`."""
        check_recorded(team, recorded)
        names = name_groups(team, self.prefix)
        students = {group: CStudent(student, names[group]) for group, student in team.students.items()}
        vectors = {group: _vectors(student, recorded[group]) for group, student in students.items()}
        texts = {
            HEADER: write_header(team, students, self.prefix),
            SOURCE: write_source(students, self.prefix),
            "main.c": write_main(students),
            "test.c": write_test(students, vectors, prefix=self.prefix),
            "vectors.h": write_vectors(students, vectors),
            "Makefile": MAKEFILE.replace("{macro}", self.prefix.upper()),
        }
        with scratch_folder() as place:
            for name, text in texts.items():
                (place / name).write_text(text, encoding="ascii")
            artifact = self._compare(place, students, recorded)
            _put(place, folder, tuple(texts))
        _logger.info("%s: C of %d groups, acts as its students on %d of %d rows", folder, len(students),
                     artifact.agreed_rows, artifact.checked_rows)  # fmt: skip
        return artifact

    def open(self, folder: Path, team: Team) -> CPolicy:
        """See `Opener.open`."""
        return CPolicy(folder, team, prefix=self.prefix)

    def _compare(self, folder: Path, students: Mapping[str, CStudent], recorded: Mapping[str, Floats]) -> Artifact:
        """Run the C on all recorded rows, or its reference where there is no compiler.

        Raises:
            StudentError: C and reference differ, or the reference acts otherwise than the students.
        """
        library, note = None, ""
        if (compiler := find_compiler()) is not None:
            path = folder / "team.so"
            compile_library(compiler, folder, path, prefix=self.prefix)
            library = CLibrary(path, prefix=self.prefix)
            path.unlink()  # it stays loaded
        else:
            note = "no C compiler was found on this machine: the C was not run, only its reference was compared"
            _logger.warning("%s", note)
        checked, agreed, worst = 0, 0, 0.0
        for group, student in students.items():
            same = np.ones(len(recorded[group]), np.bool_)
            for mask in _masks(student, len(same)):
                got, error = _run(library, group, student, recorded[group], mask)
                want = decide(student.student.spaces.actions, student.outputs_in_torch(recorded[group]), mask)
                off = np.abs(got - want).reshape(len(same), -1).max(1)
                same &= off <= SAME_ACTION
                worst = max(worst, error)
            checked, agreed = checked + len(same), agreed + int(same.sum())
        if agreed < AGREEMENT * checked:
            raise StudentError(
                f"export: the C acts as its students on {agreed} of {checked} recorded rows, {AGREEMENT:.1%} are "
                f"needed (outputs differ by up to {worst:.3g}); nothing was written"
            )
        files = tuple(sorted(path.name for path in folder.iterdir()))
        return Artifact(files=files, checked_rows=checked, agreed_rows=agreed, max_error=worst, note=note)


def _run(
    library: CLibrary | None, group: str, student: CStudent, views: Floats, mask: Bools | None
) -> tuple[Actions, float]:
    """Actions (B, *shape) of C, and how far its outputs are from those of torch at most.

    Raises:
        StudentError: the C of a quantized student is not its reference.
    """
    layers, outputs = student.answer(views)
    actions = decide(student.student.spaces.actions, outputs, mask)
    if library is not None:
        c_layers, c_outputs, c_actions = library.run(student, views, mask)
        exact = {"layer": (c_layers, layers), "outputs": (c_outputs, outputs)} if student.integer else {}
        if student.integer and not isinstance(student.student.spaces.actions, Box):
            exact["action"] = (c_actions, actions)
        for what, (got, want) in exact.items():
            if (wrong := (got != want).reshape(len(views), -1).any(1)).any():
                raise StudentError(
                    f"export: group {group!r}: the compiled C differs from the integer reference in the {what} of "
                    f"{int(wrong.sum())} of {len(views)} rows; nothing was written; compile without -ffast-math"
                )
        outputs, actions = c_outputs, c_actions
    return actions, float(np.abs(outputs - student.outputs_in_torch(views)).max())


def _masks(student: CStudent, rows: int) -> list[Bools | None]:
    """Everything is legal, and for students with masks that half of it is, in each factor at least one choice."""
    actions = student.student.spaces.actions
    if not has_mask(student) or not isinstance(actions, Discrete | MultiDiscrete):
        return [None]
    generator = np.random.default_rng(0)
    mask = generator.random((rows, actions.outputs)) < 0.5
    for begin, count in zip(np.cumsum((0, *actions.counts)), actions.counts, strict=False):
        mask[np.arange(rows), begin + generator.integers(0, count, rows)] = True
    return [None, mask]


def _vectors(student: CStudent, recorded: Floats) -> Vectors:
    """Rows from all over the recording; of float students those whose action no rounding can change.

    Rows of a recurrent student are taken by whole tracks.

    Raises:
        StudentError: there are none.
    """
    mask = _masks(student, len(recorded))[-1]
    actions = student.student.spaces.actions
    layers, outputs = student.answer(recorded)
    chosen = decide(actions, outputs, mask)
    robust = np.ones(len(recorded), np.bool_)
    if not student.integer and not isinstance(actions, Box):
        step = np.float32(CLOSE) * np.abs(outputs).max(1, keepdims=True)
        nudged = [decide(actions, outputs - step * np.eye(outputs.shape[1], dtype=np.float32)[index], mask)
                  for index in range(outputs.shape[1])]  # fmt: skip
        robust = np.array([all((each[row] == chosen[row]).all() for each in nudged) for row in range(len(recorded))])
    length = TRACK if student.recurrent else 1
    begins = range(0, max(len(recorded) - length + 1, 1), length)
    tracks = [np.arange(len(recorded))[begin : begin + length] for begin in begins]
    tracks = [track for track in tracks if robust[track].all()]
    if not tracks:
        raise StudentError(
            f"export: {student.student.spec}: its outputs are nearly equal in all recorded rows, so that rounding "
            "decides what it does, and no test of its C could be written"
        )
    spread = np.linspace(0, len(tracks) - 1, min(ROWS // length, len(tracks))).astype(np.int64)
    rows = np.concatenate([tracks[index] for index in spread])
    return Vectors(
        observations=recorded[rows].astype(np.float32),
        mask=None if mask is None else mask[rows],
        layers=layers[rows],
        outputs=outputs[rows],
        actions=chosen[rows].astype(np.float32 if isinstance(actions, Box) else np.int32),
    )


def _put(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Bring files into a folder: all of them, or none."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {folder / f".{name}.{os.getpid()}": folder / name for name in names}
    try:
        for part, target in parts.items():
            shutil.copyfile(source / target.name, part)
        for part, target in parts.items():
            part.replace(target)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
