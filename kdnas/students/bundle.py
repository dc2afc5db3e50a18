"""A student folder: the team's weights and everything that is needed to act with them, and nothing that runs code.

    student.safetensors   weights of every group's network       team.onnx   one graph, all agents
    student.json          specs, spaces, cost, score, hashes     README.md   a card for people
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from kdnas.config.toml import MAX_BYTES, validate_json
from kdnas.envs.spec import EnvSpec
from kdnas.envs.view import View
from kdnas.errors import BundleError, ConfigError
from kdnas.spaces.spec import StudentSpec
from kdnas.students.card import GroupCard, NormalisationCard, SpacesCard, StudentCard
from kdnas.students.student import Normalisation, Student
from kdnas.students.student_team import StudentTeam
from kdnas.students.team import Team
from kdnas.students.weights import read_tensors, rebuild_student, team_tensors, write_tensors

WEIGHTS, CARD = "student.safetensors", "student.json"
MAX_WEIGHT_BYTES = 1 << 28
"""A student of more than 256 MiB is none."""

def save_weights(folder: Path, team: Team) -> str:
    """Write `student.safetensors`; returns its SHA-256.

    The specs are in it too: the shapes of 4-bit and 8-bit weights are the same, so the card alone could be mixed up.
    """
    specs = {group: student.spec.as_json() for group, student in team.students.items()}
    return hashlib.sha256(write_tensors(folder / WEIGHTS, team_tensors(team.students), specs)).hexdigest()


def group_cards(team: Team) -> dict[str, GroupCard]:
    """What `student.json` says of each group."""
    cards = {}
    for group, student in team.students.items():
        normalisation, view = student.normalisation, team.spec.views.get(group)
        cards[group] = GroupCard(
            agents=team.spec.groups[group],
            spaces=SpacesCard.of(student.spaces),
            spec=student.spec.as_json(),
            view=view.as_json() if view else None,
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
    students, views, spaces, constant = {}, {}, {}, {}
    for group, entry in card.groups.items():
        students[group] = _read_student(folder, group, entry, tensors, specs)
        # The card has the students' spaces, and an EnvSpec those of the environment.
        seen = replace(entry.spaces.spec, constant=(), pruned=())
        if entry.spaces.constant:
            constant[group] = entry.spaces.constant
        if entry.view is not None:
            views[group] = _read_view(folder, group, entry)
            seen = replace(seen, observation_size=views[group].observation_size, entities=None)
        spaces.update(dict.fromkeys(entry.agents, seen))
    spec = EnvSpec(
        name=card.environment,
        agents=spaces,
        groups={group: entry.agents for group, entry in card.groups.items()},
        state_size=card.state_size,
        views=views,
        constant=constant,
    )
    return StudentTeam(card, Team(spec, students))


def _read_view(folder: Path, group: str, entry: GroupCard) -> View:
    try:
        view = View.from_json(entry.view or {})
    except ConfigError as error:
        raise BundleError(f"{folder}: group {group!r} has no readable view: {error}") from error
    if view.size != entry.spaces.observation_size:
        raise BundleError(
            f"{folder}: {CARD} says that group {group!r} reads {entry.spaces.observation_size} features, but that its "
            f"view shows {view.size}; copy the folder again"
        )
    return view


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
        entry.spaces.spec,
        own,
        normalisation=Normalisation(**normalisation.model_dump()) if normalisation else None,
        where=str(folder / WEIGHTS),
    )


def write_card(folder: Path, card: StudentCard) -> None:
    """Write `student.json`."""
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
