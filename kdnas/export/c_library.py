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
    """
    command = [compiler, *flags, "-shared", "-fPIC", *([f"-D{prefix.upper()}_TRACE"] if trace else [])]
    try:
        subprocess.run([*command, str(folder / SOURCE), "-o", str(into), "-lm"], check=True, capture_output=True,
                       text=True, timeout=600)  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise StudentError(
            f"export: {compiler} refuses the generated C: {said[0] if said else 'without a word'}; "
            "this is a fault of the exporter, or of the compiler"
        ) from error


class CLibrary:
    """The step functions of a traced library, on arrays."""

    def __init__(self, path: Path, *, prefix: str) -> None:
        self._library = ctypes.CDLL(str(path))
        self._trace = getattr(self._library, f"{prefix}_trace")
        self._trace.argtypes, self._trace.restype = [ctypes.c_void_p], None

    def run(self, student: CStudent, views: Floats, mask: Bools | None = None) -> tuple[NDArray[Any], Floats, Actions]:
        """Layers as traced (B, ...), outputs (B, N) and actions (B, *shape) of views (B, V).

        Views of a recurrent student are tracks of `TRACK` steps, one after the other.
        """
        step = getattr(self._library, f"{student.name}_step")
        arguments = 3 + has_mask(student) + student.recurrent
        step.argtypes, step.restype = [ctypes.c_void_p] * arguments, None
        space, count = student.student.spaces.actions, len(views)
        rows = np.ascontiguousarray(views, np.float32)
        kind = np.float32 if isinstance(space, Box) else np.int32
        actions = np.zeros((count, action_numbers(space)), kind)
        outputs = np.zeros((count, space.outputs), np.float32)
        seen = np.zeros((count, student.traced), np.uint8)
        legal = None if mask is None else np.ascontiguousarray(mask, np.uint8)
        places = [rows, *([legal] if has_mask(student) else []), actions, outputs]
        state = np.zeros(student.network.units, np.uint8 if student.integer else np.float32)
        begin = getattr(self._library, f"{student.name}_begin") if student.recurrent else None
        held = [state.ctypes.data] if student.recurrent else []
        at = [(None, 0) if place is None else (place.ctypes.data, place.strides[0]) for place in places]
        for row in range(count):
            if begin is not None and row % TRACK == 0:
                begin(ctypes.c_void_p(state.ctypes.data))
            self._trace(seen.ctypes.data + row * student.traced)
            step(*held, *(None if start is None else start + row * stride for start, stride in at))
        layers: NDArray[Any] = seen if student.integer else seen.view(np.float32)
        chosen: NDArray[Any] = actions.reshape(count, *space.shape)
        return layers, outputs, chosen if isinstance(space, Box) else chosen.astype(np.int64)
