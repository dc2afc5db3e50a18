"""`CPolicy`: generated C that plays."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdnas.errors import StudentError
from kdnas.export.c_library import CLibrary, compile_library, find_compiler
from kdnas.export.c_source import name_groups
from kdnas.export.c_student import CStudent
from kdnas.export.scratch import scratch_folder
from kdnas.policies.arrays import Actions
from kdnas.policies.scene import Scene
from kdnas.students.team import Team


class CPolicy:
    """A team policy (see `TeamPolicy`) that calls the C of a folder, compiled for this machine.

    Of the students of `team` it reads which arguments and states their functions have.

    Raises:
        StudentError: there is no compiler, or it refuses the C.
    """

    def __init__(self, folder: Path, team: Team, *, prefix: str) -> None:
        compiler = find_compiler()
        if compiler is None:
            raise StudentError(f"{folder}: running its C needs a C compiler; install one (build-essential)")
        with scratch_folder() as place:
            path = place / "team.so"
            compile_library(compiler, folder, path, prefix=prefix, trace=False)
            self._library = CLibrary(path, prefix=prefix)  # it stays loaded
        names = name_groups(team, prefix)
        self._students = {group: CStudent(student, names[group]) for group, student in team.students.items()}
        self._states: dict[str, NDArray[Any]] = {}

    def act(self, scene: Scene) -> dict[str, Actions]:
        actions = {}
        for group, student in self._students.items():
            views, mask = scene.views[group], scene.masks.get(group)
            rows = np.ascontiguousarray(views, np.float32).reshape(-1, views.shape[-1])
            legal = None if mask is None else mask.reshape(len(rows), -1)
            if scene.first:
                self._states[group] = self._library.begin(student, len(rows))
            chosen = self._library.act(student, rows, legal, self._states[group])
            actions[group] = chosen.reshape((*views.shape[:2], *chosen.shape[1:]))
        return actions
