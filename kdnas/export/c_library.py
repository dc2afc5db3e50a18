"""`CLibrary`: generated C, compiled for this machine and bound by ctypes."""

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdnas.errors import StudentError
from kdnas.export.c_source import SOURCE, action_numbers, has_mask
from kdnas.export.c_student import TRACK, CStudent
from kdnas.export.scratch import check_room
from kdnas.policies.actions import Box
from kdnas.policies.arrays import Actions, Bools, Floats

FLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-pedantic")
COMPILERS = ("cc", "gcc", "clang")


def find_compiler() -> str | None:
    """The C compiler of this machine, or None."""
    return next((found for name in COMPILERS if (found := shutil.which(name)) is not None), None)


def compile_library(
    compiler: str, folder: Path, into: Path, *, prefix: str, trace: bool = True, flags: Sequence[str] = FLAGS
) -> None:
    """Compile `team.c` of a folder into a shared library.

    Raises:
        StudentError: the compiler refuses it.
        ScratchError: it has no room for its files.
    """
    command = [compiler, *flags, "-shared", "-fPIC", *([f"-D{prefix.upper()}_TRACE"] if trace else [])]
    try:
        subprocess.run([*command, str(folder / SOURCE), "-o", str(into), "-lm"], check=True, capture_output=True,
                       text=True, timeout=600)  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        check_room(compiler, said)
        raise StudentError(
            f"export: {compiler} refuses the generated C: {said[0] if said else 'without a word'}; "
            "this is a fault of the exporter, or of the compiler"
        ) from error


class CLibrary:
    """The step functions of a library, on arrays."""

    def __init__(self, path: Path, *, prefix: str) -> None:
        self._library, self._prefix = ctypes.CDLL(str(path)), prefix

    def run(self, student: CStudent, views: Floats, mask: Bools | None = None) -> tuple[NDArray[Any], Floats, Actions]:
        """Layers as traced (B, ...), outputs (B, N) and actions (B, *shape) of views (B, V), of a traced library.

        Views of a recurrent student are tracks of `TRACK` steps, one after the other.
        """
        trace = getattr(self._library, f"{self._prefix}_trace")
        trace.argtypes, trace.restype = [ctypes.c_void_p], None
        asked = _Asked(self._library, student, views, mask)
        seen = np.zeros((len(views), student.traced), np.uint8)
        state = self.begin(student, 1)
        for row in range(len(views)):
            if row % TRACK == 0:
                state = self.begin(student, 1)
            trace(seen.ctypes.data + row * student.traced)
            asked.step(row, state.ctypes.data)
        layers: NDArray[Any] = seen if student.integer else seen.view(np.float32)
        return layers, asked.outputs, asked.chosen

    def begin(self, student: CStudent, rows: int) -> NDArray[Any]:
        """States (B, U) at the beginning of episodes; of a student that remembers nothing U is 0."""
        states = np.zeros((rows, student.network.units), np.uint8 if student.integer else np.float32)
        if student.recurrent:
            begin = getattr(self._library, f"{student.name}_begin")
            for row in range(rows):
                begin(ctypes.c_void_p(states.ctypes.data + row * states.strides[0]))
        return states

    def act(self, student: CStudent, views: Floats, mask: Bools | None, states: NDArray[Any]) -> Actions:
        """Actions (B, *shape) of views (B, V), of as many agents with a state each (B, U), which goes on in place."""
        asked = _Asked(self._library, student, views, mask)
        for row in range(len(views)):
            asked.step(row, states.ctypes.data + row * states.strides[0])
        return asked.chosen


class _Asked:
    """Rows of one student, and where a library writes its answers to them."""

    def __init__(self, library: ctypes.CDLL, student: CStudent, views: Floats, mask: Bools | None) -> None:
        self._step = getattr(library, f"{student.name}_step")
        arguments = 3 + has_mask(student) + student.recurrent
        self._step.argtypes, self._step.restype = [ctypes.c_void_p] * arguments, None
        self._space, self._recurrent = student.student.spaces.actions, student.recurrent
        kind = np.float32 if isinstance(self._space, Box) else np.int32
        self._rows = np.ascontiguousarray(views, np.float32)
        self._legal = None if mask is None else np.ascontiguousarray(mask, np.uint8)
        self._actions = np.zeros((len(views), action_numbers(self._space)), kind)
        self.outputs = np.zeros((len(views), self._space.outputs), np.float32)
        """(B, N)."""
        places = [self._rows, *([self._legal] if has_mask(student) else []), self._actions, self.outputs]
        self._at = [(None, 0) if place is None else (place.ctypes.data, place.strides[0]) for place in places]

    def step(self, row: int, state: int) -> None:
        """One decision; `state` is an address."""
        held = (state,) if self._recurrent else ()
        self._step(*held, *(None if start is None else start + row * stride for start, stride in self._at))

    @property
    def chosen(self) -> Actions:
        """(B, *shape)."""
        chosen: NDArray[Any] = self._actions.reshape(len(self._actions), *self._space.shape)
        return chosen if isinstance(self._space, Box) else chosen.astype(np.int64)
