"""`OnnxExporter`: the whole team as one ONNX graph, which onnxruntime runs on integers where students are quantized."""

import copy
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from kdnas.errors import StudentError
from kdnas.export.exporter import Artifact
from kdnas.export.graph import make_model, open_session
from kdnas.export.piece import trace
from kdnas.policies.arrays import Bools, Floats
from kdnas.policies.categorical import greedy
from kdnas.students.student import Team

FILE = "team.onnx"
AGREEMENT = 0.999
"""Share of the recorded rows on which an artifact must act as its students do. Not all of them: a hidden unit halfway
between two integers may be rounded either way, and near a tie of the logits that decides the action."""

_logger = logging.getLogger(__name__)


class OnnxExporter:
    """`team.onnx`: see `kdnas.export.graph.make_model` for its ports.

    Agents of one group share one copy of the weights, normalisation is part of the graph, and the batch is free.
    """

    name = "onnx"

    def export(self, team: Team, folder: Path, *, recorded: Mapping[str, Floats]) -> Artifact:
        """See `Exporter.export`."""
        _check_recorded(team, recorded)
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


def _check_recorded(team: Team, recorded: Mapping[str, Floats]) -> None:
    for group in team.spec.groups:
        features = team.spec.group_spec(group).observation_size
        rows = recorded.get(group)
        if rows is None or rows.ndim != 2 or rows.shape[1] != features or not len(rows):
            have = "none" if rows is None else f"an array {rows.shape}"
            raise StudentError(
                f"export: group {group!r} needs recorded observations (rows, {features}) to check the artifact on, "
                f"but got {have}; record demonstrations first"
            )


def _encode(team: Team) -> bytes:
    nodes, weights = [], []
    for group, agents in team.spec.groups.items():
        student = team.students[group]
        student.check_finite()
        piece = trace(student, student.spaces.observation_size, group=group)
        weights += piece.weights
        for agent in agents:
            nodes += piece.nodes(agent)
    content: bytes = make_model(team.spec.agents, nodes, weights).SerializeToString()
    return content


def _compare(content: bytes, team: Team, recorded: Mapping[str, Floats]) -> Artifact:
    """Run an artifact and its students on the recorded rows, every action legal.

    Raises:
        StudentError: onnxruntime refuses it, or they act differently on too many rows.
    """
    feeds: dict[str, Floats | Bools] = {}
    # One graph has one batch: groups with fewer rows repeat theirs, and the repetitions are not counted.
    batch = max(len(recorded[group]) for group in team.spec.groups)
    for group, agents in team.spec.groups.items():
        spaces = team.spec.group_spec(group)
        rows = np.resize(recorded[group].astype(np.float32), (batch, spaces.observation_size))
        for agent in agents:
            feeds[f"{agent}.observation"] = rows
            if spaces.masked:
                feeds[f"{agent}.mask"] = np.ones((batch, spaces.action_count), np.bool_)
    try:
        session = open_session(content)
        names = [port.name for port in session.get_outputs()]
        outputs = dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise StudentError(f"export: onnxruntime refuses the artifact: {error}") from error
    checked, agreed, worst = 0, 0, 0.0
    for group, agents in team.spec.groups.items():
        count = len(recorded[group])
        with torch.inference_mode():
            # Of a copy: a student that someone has put into training mode would learn scales from these rows.
            student = copy.deepcopy(team.students[group]).eval()
            logits = student(torch.from_numpy(recorded[group].astype(np.float32)))
        actions = greedy(logits).numpy()
        same = np.ones(count, np.bool_)
        for agent in agents:
            same &= outputs[f"{agent}.action"][:count] == actions
            worst = max(worst, float(np.abs(outputs[f"{agent}.logits"][:count] - logits.numpy()).max()))
        checked, agreed = checked + count, agreed + int(same.sum())
    if agreed < AGREEMENT * checked:
        raise StudentError(
            f"export: the artifact acts as its students on {agreed} of {checked} recorded rows, "
            f"{AGREEMENT:.1%} are needed (logits differ by up to {worst:.3g}); nothing was written"
        )
    return Artifact(files=(FILE,), checked_rows=checked, agreed_rows=agreed, max_error=worst)
