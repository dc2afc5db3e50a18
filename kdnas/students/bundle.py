"""A student folder: the team's weights and everything that is needed to act with them, and nothing that runs code.

    student.safetensors   weights of every group's network       team.onnx   one graph, all agents
    student.json          specs, spaces, cost, score, hashes     README.md   a card for people
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from kdnas.config.study import Strict
from kdnas.config.toml import MAX_BYTES, validate_json
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import BundleError, ConfigError, name_nearest
from kdnas.policies.categorical import greedy, mask_logits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.student import Normalisation, Student, Team
from kdnas.students.weights import read_tensors, rebuild_student, student_tensors, write_tensors

WEIGHTS, CARD = "student.safetensors", "student.json"
MAX_WEIGHT_BYTES = 1 << 28
"""A student of more than 256 MiB is none."""

Width = Annotated[int, Field(ge=1, le=65536)]


class SpacesCard(Strict):
    """The spaces of one agent."""

    observation_size: Width
    action_count: Width
    masked: bool


class NormalisationCard(Strict):
    """Shift and scale of each observation feature, applied before the network."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]


class GroupCard(Strict):
    """One group of the team: its agents, their spaces, and the student that they share."""

    agents: Annotated[tuple[str, ...], Field(min_length=1)]
    spaces: SpacesCard
    spec: dict[str, Any]
    """As `StudentSpec.as_json` writes it."""
    normalisation: NormalisationCard | None = None


class Hashes(Strict):
    """What the students come from, by content."""

    teacher: dict[str, str]
    """Group -> hash of the teacher's network."""
    study: str
    weights: str
    """SHA-256 of `student.safetensors`."""


class ArtifactCard(Strict):
    """An exported form, and what it was checked on."""

    format: str
    files: tuple[str, ...]
    checked_rows: int
    agreed_rows: int
    max_error: float


class StudentCard(Strict):
    """`student.json`."""

    schema_version: Literal[1] = 1
    kdnas_version: str
    environment: str
    trial: int
    state_size: int
    groups: Annotated[dict[str, GroupCard], Field(min_length=1)]
    cost: dict[str, Any]
    """Team sums, `worst_agent`, `teacher` and `groups`, in base units."""
    score: dict[str, Any]
    """`retention` and `return` with their intervals, and on which seeds they were played."""
    hashes: Hashes
    artifacts: tuple[ArtifactCard, ...] = ()


class StudentTeam:
    """A team read from a student folder, ready to act.

    Example: `kdnas.load_student("runs/spread/students/0007").act({"agent_0": observation, ...})`.
    """

    def __init__(self, card: StudentCard, team: Team) -> None:
        self.card = card
        self.team = team
        self._group_of = {agent: group for group, entry in card.groups.items() for agent in entry.agents}

    @torch.inference_mode()
    def act(
        self, observations: Mapping[str, ArrayLike], masks: Mapping[str, ArrayLike] | None = None
    ) -> dict[str, Any]:
        """Greedy actions of the agents whose observations are given.

        Args:
            observations: agent -> (O,) or a batch (B, O).
            masks: agent -> (N,) or (B, N) legal actions; agents without an entry may do everything.

        Returns:
            Agent -> action: an int for one observation, an array (B,) for a batch.

        Raises:
            BundleError: an agent that the team does not have, an observation or mask of another size, or a mask that
                allows nothing.
        """
        for agent in (*observations, *(masks or {})):
            if agent not in self._group_of:
                raise BundleError(f"the team has no agent {agent!r}: {name_nearest(agent, self._group_of)}")
        actions: dict[str, Any] = {}
        for agent, given in observations.items():
            group = self._group_of[agent]
            spaces = self.card.groups[group].spaces
            rows = _array(agent, given, np.float32)
            if rows.ndim not in (1, 2) or rows.shape[-1] != spaces.observation_size:
                raise BundleError(
                    f"agent {agent!r} observes {spaces.observation_size} features, but got the shape {rows.shape}"
                )
            legal = None
            if masks is not None and agent in masks:
                legal = torch.from_numpy(_array(agent, masks[agent], np.bool_))
                if legal.shape != (*rows.shape[:-1], spaces.action_count) or not legal.any(-1).all():
                    raise BundleError(
                        f"agent {agent!r}: the mask must have {spaces.action_count} entries for each observation and "
                        f"allow one of them, but got the shape {tuple(legal.shape)}"
                    )
            logits = self.team.students[group](torch.from_numpy(np.ascontiguousarray(rows)))
            chosen = greedy(mask_logits(logits, legal))
            actions[agent] = int(chosen) if rows.ndim == 1 else chosen.numpy()
        return actions


def _array(agent: str, given: ArrayLike, kind: type[np.generic]) -> NDArray[Any]:
    try:
        return np.array(given, kind)
    except (TypeError, ValueError) as error:
        raise BundleError(f"agent {agent!r}: {type(given).__name__} is no array of numbers: {error}") from error


def save_weights(folder: Path, team: Team) -> str:
    """Write `student.safetensors`; returns its SHA-256.

    The specs are in it too: the shapes of 4-bit and 8-bit weights are the same, so the card alone could be mixed up.
    """
    tensors = {
        f"{group}/{name}": tensor
        for group, student in team.students.items()
        for name, tensor in student_tensors(student).items()
    }
    specs = {group: student.spec.as_json() for group, student in team.students.items()}
    return hashlib.sha256(write_tensors(folder / WEIGHTS, tensors, specs)).hexdigest()


def group_cards(team: Team) -> dict[str, GroupCard]:
    """What `student.json` says of each group."""
    cards = {}
    for group, student in team.students.items():
        spaces, normalisation = student.spaces, student.normalisation
        cards[group] = GroupCard(
            agents=team.spec.groups[group],
            spaces=SpacesCard(
                observation_size=spaces.observation_size, action_count=spaces.action_count, masked=spaces.masked
            ),
            spec=student.spec.as_json(),
            normalisation=NormalisationCard(shift=normalisation.shift, scale=normalisation.scale)
            if normalisation
            else None,
        )
    return cards


def read_student_card(folder: Path) -> StudentCard:
    """Read `student.json`.

    Raises:
        BundleError: it is missing, damaged, or not a student card.
    """
    path = folder / CARD
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BundleError(f"{path}: is too large to be a student card")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}; is this a student folder?") from error
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: is not text: {error}") from error
    return validate_json(text, StudentCard, where=str(path), error=BundleError)


def load_student(path: str | os.PathLike[str]) -> StudentTeam:
    """Read a student folder. Nothing in it is executed, and the weights must be those that the card was written for.

    Raises:
        BundleError: files that are missing or damaged, or that contradict each other.
    """
    folder = Path(path)
    card = read_student_card(folder)
    weights = folder / WEIGHTS
    try:
        if weights.stat().st_size > MAX_WEIGHT_BYTES:
            raise BundleError(f"{weights}: is larger than {MAX_WEIGHT_BYTES:,} bytes; this is no student")
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        if digest != card.hashes.weights:
            raise BundleError(
                f"{weights}: is not the file that {CARD} describes (its hash differs); copy the folder again"
            )
        tensors, specs = read_tensors(weights)
    except OSError as error:
        raise BundleError(f"{weights}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise BundleError(f"{weights}: is damaged ({error}); copy the folder again") from error
    agents = [agent for entry in card.groups.values() for agent in entry.agents]
    if len(set(agents)) < len(agents):
        raise BundleError(f"{folder / CARD}: an agent is in two groups; copy the folder again")
    students = {}
    for group, entry in card.groups.items():
        students[group] = _read_student(folder, group, entry, tensors, specs)
    spec = EnvSpec(
        name=card.environment,
        agents={agent: AgentSpec(**e.spaces.model_dump()) for e in card.groups.values() for agent in e.agents},
        groups={group: entry.agents for group, entry in card.groups.items()},
        state_size=card.state_size,
    )
    return StudentTeam(card, Team(spec, students))


def _read_student(
    folder: Path, group: str, entry: GroupCard, tensors: Mapping[str, Tensor], specs: Mapping[str, Any]
) -> Student:
    try:
        spec = StudentSpec.from_json(entry.spec)
        written = StudentSpec.from_json(specs.get(group, {}))
    except ConfigError as error:
        raise BundleError(f"{folder}: group {group!r} has no readable spec: {error}") from error
    if spec != written:
        raise BundleError(
            f"{folder}: {CARD} says that group {group!r} is {spec}, but the weights are those of {written}; "
            "copy the folder again"
        )
    names = {key: key.rpartition("/") for key in tensors}
    own = {name: tensors[key] for key, (owner, _, name) in names.items() if owner == group}
    normalisation = entry.normalisation
    return rebuild_student(
        spec,
        AgentSpec(**entry.spaces.model_dump()),
        own,
        normalisation=Normalisation(**normalisation.model_dump()) if normalisation else None,
        where=str(folder / WEIGHTS),
    )


def write_card(folder: Path, card: StudentCard) -> None:
    """Write `student.json`."""
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
