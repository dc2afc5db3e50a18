"""`Lessons`: training rows of one pool, and everything that the loss compares its student with."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdnas.distill.pool import Pool
from kdnas.teachers.episodes import Episodes, GroupRecord


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """R decisions, in the order of time within each track: what one agent lived through in one episode.

    Optional columns are there when a term of the loss asks for them.
    """

    views: Tensor
    """(R, V): what the student sees."""
    parameters: Tensor
    """(R, P): what the teacher says, masked actions left in."""
    position: Tensor
    """(R,) int64: steps since the track began."""
    masks: Tensor | None = None
    """(R, N) legal actions."""
    advantages: Tensor | None = None
    """(R,) of the step that was taken, on the teacher's value."""
    others: Tensor | None = None
    """(R, sum of their N): what the teachers of all other agents say at the same time, side by side."""
    roles: Tensor | None = None
    """(R, D): the teacher's last hidden layer, reduced."""

    def __len__(self) -> int:
        return len(self.views)

    @property
    def columns(self) -> dict[str, Tensor]:
        """Name -> (R, ...) of the columns that are there."""
        return {each.name: column for each in fields(self) if (column := getattr(self, each.name)) is not None}

    def take(self, rows: Tensor) -> "Lessons":
        """Some rows, by index (M,)."""
        # index_select takes a third of the time of indexing by a tensor.
        return Lessons(**{name: column.index_select(0, rows) for name, column in self.columns.items()})

    def to(self, device: torch.device) -> "Lessons":
        """The same rows on a device."""
        return Lessons(**{name: column.to(device) for name, column in self.columns.items()})


def split_tracks(lessons: Lessons, share: float, generator: torch.Generator) -> tuple[Lessons, Lessons]:
    """Most tracks, and a random share of them, at least one, to hold out; one track alone is both."""
    track = (lessons.position == 0).cumsum(0) - 1
    count = int(track[-1]) + 1
    if count == 1:
        return lessons, lessons
    held = torch.zeros(count, dtype=torch.bool)
    held[torch.randperm(count, generator=generator)[: max(int(share * count), 1)]] = True
    chosen = held[track]
    return lessons.take((~chosen).nonzero().squeeze(1)), lessons.take(chosen.nonzero().squeeze(1))


def make_lessons(
    episodes: Episodes,
    pool: Pool,
    *,
    extras: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    seats: Mapping[str, Tensor] | None = None,
) -> Lessons:
    """The rows of a pool's groups, one track after the other.

    Args:
        episodes: of all groups that are needed.
        pool: whose groups' decisions are taken.
        extras: name of an optional column -> group -> array (E, T, A, ...).
        seats: group -> whose tracks are taken (copies, A), the same again for each so many episodes; all unless given.
    """
    parts = []
    for group in pool.groups:
        record = episodes.groups[group]
        if seats is not None:
            taken = seats[group].numpy()[np.arange(len(record.alive)) % len(seats[group])]
            record = replace(record, alive=record.alive & taken[:, None])
        parts.append(_group_columns(record, {name: arrays[group] for name, arrays in (extras or {}).items()}))
    return Lessons(**{name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]})


def _group_columns(record: GroupRecord, extras: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Name -> (R, ...), R = living decisions, episode by episode and agent by agent."""
    alive = record.alive.swapaxes(1, 2)  # (E, A, T): time last, so that a track's rows are neighbours
    arrays: dict[str, NDArray[Any]] = {"views": record.views, "parameters": record.parameters, **extras}
    if record.masks is not None:
        arrays["masks"] = record.masks
    position = np.broadcast_to(np.arange(alive.shape[2]), alive.shape)
    return {
        "position": position[alive],
        **{name: np.ascontiguousarray(array.swapaxes(1, 2)[alive]) for name, array in arrays.items()},
    }
