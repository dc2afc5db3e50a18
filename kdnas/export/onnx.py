"""`OnnxExporter`: the whole team as one ONNX graph, which onnxruntime runs on integers where students are quantized."""

import copy
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdnas.errors import StudentError
from kdnas.export.exporter import AGREEMENT, SAME_ACTION, Artifact, check_recorded
from kdnas.export.graph import make_model, open_session
from kdnas.export.onnx_policy import OnnxPolicy
from kdnas.export.piece import trace
from kdnas.policies.arrays import Bools, Floats
from kdnas.policies.distribution import greedy
from kdnas.students.student import Student
from kdnas.students.team import Team

FILE = "team.onnx"
_logger = logging.getLogger(__name__)


class OnnxExporter:
    """`team.onnx`: see `kdnas.export.graph.make_model` for its ports.

    Agents of one group share one copy of the weights, normalisation is part of the graph, and the batch is free.
    """

    name = "onnx"

    def export(self, team: Team, folder: Path, *, recorded: Mapping[str, Floats]) -> Artifact:
        """See `Exporter.export`."""
        check_recorded(team, recorded)
        content = _encode(team)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / FILE
        temporary = folder / f".{FILE}.{os.getpid()}"
        try:
            temporary.write_bytes(content)
            artifact = _compare(temporary.read_bytes(), team, recorded)  # what was written, not what was meant
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _logger.info("%s: %d bytes, acts as its students on %d of %d rows", target, len(content), artifact.agreed_rows,
                     artifact.checked_rows)  # fmt: skip
        return artifact

    def open(self, folder: Path, team: Team) -> OnnxPolicy:
        """See `Opener.open`."""
        return OnnxPolicy(folder / FILE, team)


def _encode(team: Team) -> bytes:
    nodes, weights, hidden = [], [], dict[str, int]()
    for group, agents in team.spec.groups.items():
        student = team.students[group]
        student.check_finite()
        piece = trace(student, student.probe(), group=group)
        hidden |= dict.fromkeys(agents, student.hidden_size)
        weights += piece.weights
        for agent in agents:
            nodes += piece.nodes(agent)
    spaces = {agent: team.spec.student_spec(group) for group, agents in team.spec.groups.items() for agent in agents}
    content: bytes = make_model(spaces, nodes, weights, hidden_sizes=hidden).SerializeToString()
    return content


def _compare(content: bytes, team: Team, recorded: Mapping[str, Floats]) -> Artifact:
    """Run an artifact and its students on the recorded rows, every action legal.

    Recurrent ones are compared in the second of two steps on each row, so that they have something to remember.

    Raises:
        StudentError: onnxruntime refuses it, or they act differently on too many rows.
    """
    feeds: dict[str, Floats | Bools] = {}
    expected: dict[str, dict[str, NDArray[Any]]] = {}
    # One graph has one batch: groups with fewer rows repeat theirs, and the repetitions are not counted.
    batch = max(len(recorded[group]) for group in team.spec.groups)
    for group, agents in team.spec.groups.items():
        spaces = team.spec.student_spec(group)
        rows = np.resize(recorded[group].astype(np.float32), (batch, spaces.observation_size))
        # Of a copy: a student that someone has put into training mode would learn scales from these rows.
        hidden, expected[group] = _answers(copy.deepcopy(team.students[group]).eval(), torch.from_numpy(rows))
        for agent in agents:
            feeds[f"{agent}.observation"] = rows
            if spaces.masked:
                feeds[f"{agent}.mask"] = np.ones((batch, spaces.actions.outputs), np.bool_)
            if hidden is not None:
                feeds[f"{agent}.hidden"] = hidden
    try:
        session = open_session(content)
        names = [port.name for port in session.get_outputs()]
        answered = dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise StudentError(f"export: onnxruntime refuses the artifact: {error}") from error
    checked, agreed, worst = 0, 0, 0.0
    for group, agents in team.spec.groups.items():
        count = len(recorded[group])
        same = np.ones(count, np.bool_)
        for agent in agents:
            for port, wanted in expected[group].items():
                off = np.abs(answered[f"{agent}.{port}"][:count] - wanted[:count]).reshape(count, -1)
                if port == "action":
                    same &= off.max(1) <= SAME_ACTION
                else:
                    worst = max(worst, float(off.max()))
        checked, agreed = checked + count, agreed + int(same.sum())
    if agreed < AGREEMENT * checked:
        raise StudentError(
            f"export: the artifact acts as its students on {agreed} of {checked} recorded rows, "
            f"{AGREEMENT:.1%} are needed (outputs differ by up to {worst:.3g}); nothing was written"
        )
    return Artifact(files=(FILE,), checked_rows=checked, agreed_rows=agreed, max_error=worst)


@torch.inference_mode()
def _answers(student: Student, rows: Tensor) -> tuple[Floats | None, dict[str, NDArray[Any]]]:
    """The hidden state that a student is asked with, and by port what it answers to rows (R, V)."""
    hidden = student.begin(len(rows))
    if hidden is not None:
        hidden = student.step(rows, hidden)[1]
    outputs, following = student.step(rows, hidden)
    answers = {"outputs": outputs.numpy(), "action": greedy(student.spaces.actions, outputs).numpy()}
    if following is not None:
        answers["next_hidden"] = following.numpy()
    return (None if hidden is None else hidden.numpy()), answers
