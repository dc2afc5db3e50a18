"""`OnnxPolicy`: an exported graph that plays."""

from pathlib import Path
from typing import Any

import numpy as np

from kdnas.errors import StudentError
from kdnas.export.graph import open_session
from kdnas.policies.arrays import Actions
from kdnas.policies.scene import Scene
from kdnas.students.team import Team


class OnnxPolicy:
    """A team policy (see `TeamPolicy`) that asks onnxruntime alone; `team` says which agents there are.

    Raises:
        StudentError: onnxruntime refuses the file.
    """

    def __init__(self, path: Path, team: Team) -> None:
        try:
            self._session = open_session(path.read_bytes())
        except Exception as error:  # onnxruntime's exceptions have no common class
            raise StudentError(f"{path}: onnxruntime refuses it: {error}; export the students again") from error
        self._team = team
        self._hidden: dict[str, Any] = {}

    def act(self, scene: Scene) -> dict[str, Actions]:
        spec = self._team.spec
        feeds: dict[str, Any] = {}
        for group, agents in spec.groups.items():
            size, mask = self._team.students[group].hidden_size, scene.masks.get(group)
            for seat, agent in enumerate(agents):
                views = np.ascontiguousarray(scene.views[group][:, seat], np.float32)
                feeds[f"{agent}.observation"] = views
                if spec.student_spec(group).masked:
                    legal = np.ones((len(views), spec.student_spec(group).actions.outputs), np.bool_)
                    feeds[f"{agent}.mask"] = legal if mask is None else mask[:, seat]
                if size:
                    if scene.first:
                        self._hidden[agent] = np.zeros((len(views), size), np.float32)
                    feeds[f"{agent}.hidden"] = self._hidden[agent]
        names = [port.name for port in self._session.get_outputs()]
        said = dict(zip(names, self._session.run(names, feeds), strict=True))
        self._hidden = {
            name.removesuffix(".next_hidden"): value for name, value in said.items() if name.endswith(".next_hidden")
        }
        return {
            group: np.stack([said[f"{agent}.action"] for agent in agents], 1) for group, agents in spec.groups.items()
        }
