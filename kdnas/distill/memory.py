"""Training rows of one pool: demonstrations first, then the student's own on-policy tracks, the oldest overwritten."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdnas.distill.lessons import Lessons


@dataclass(frozen=True, kw_only=True)
class Windows:
    """C stretches of L steps of single tracks, for recurrent students."""

    lessons: Lessons
    """C x L rows, stretch by stretch."""
    length: int
    counted: Tensor
    """(C, L): steps that belong to the stretch's track and come after its burn-in."""


class LessonMemory:
    """A ring of at most `capacity` rows; the first `keep` demonstrations are never overwritten.

    DAgger (Ross et al. 2011, arXiv 1011.0686): train on the union of all data, each labelled by the teacher.
    """

    def __init__(self, demonstrations: Lessons, capacity: int, generator: torch.Generator) -> None:
        capacity = max(capacity, 2)  # one demonstration, one row of the student's own
        kept = _some_tracks(demonstrations, capacity // 2, generator)
        self.keep, self.size, self._next = len(kept), 0, 0
        self._capacity, self._generator = capacity, generator
        self._rows = Lessons(
            **{name: column.new_zeros(capacity, *column.shape[1:]) for name, column in kept.columns.items()}
        )
        self._track = torch.full((capacity,), -1)
        self._tracks = 0
        self.add(kept)

    def add(self, lessons: Lessons) -> None:
        """Take in rows, in place of the oldest on-policy ones when there is no room."""
        room = self._capacity - self.keep
        count = min(len(lessons), room)  # of more than a ringful, the latest are kept
        if not count:
            return
        places = torch.arange(self._next, self._next + count)
        places = torch.where(places < self._capacity, places, self._on_ring(places))
        given = lessons.columns
        for name, column in self._rows.columns.items():
            column[places] = given[name][-count:]
        tracks = self._tracks + (lessons.position == 0).cumsum(0)
        self._track[places] = tracks[-count:]
        self._tracks = int(tracks[-1])
        self.size = min(self._capacity, max(self.size, self._next + count))
        self._next = int(places[-1]) + 1

    def forget_demonstrations(self) -> None:
        """Leave all the room to on-policy tracks, which are added next; of those that are there already, none is lost
        when it was done before."""
        if self.keep:
            self.keep = self.size = self._next = 0
            self._track.fill_(-1)

    def batch(self, count: int) -> Lessons:
        """Random rows."""
        return self._rows.take(torch.randint(self.size, (count,), generator=self._generator))

    def windows(self, count: int, length: int, burn_in: int) -> Windows:
        """Random stretches: each begins up to `burn_in` steps before a random row, so that a student that starts there
        from nothing has warmed up when it is first counted; at a track's beginning every step counts."""
        row = torch.randint(self.size, (count,), generator=self._generator)
        before = self._rows.position[row].clamp_max(burn_in)
        start = torch.where(row < self.keep, row - before, self._on_ring(row - before))
        # Of a track whose head was overwritten, the rest begins in the middle and is warmed up from there.
        start = torch.where(self._follows(start, row, before), start, row)
        steps = torch.arange(length)
        places = start[:, None] + steps
        places = torch.where(places < self._capacity, places, self._on_ring(places))
        same = self._follows(start[:, None], places, steps)
        warm = (steps >= burn_in) | (self._rows.position[start] == 0)[:, None]
        return Windows(lessons=self._rows.take(places.flatten()), length=length, counted=same & warm)

    def _on_ring(self, places: Tensor) -> Tensor:
        """Places before or behind the ring, taken round it."""
        return self.keep + (places - self.keep) % (self._capacity - self.keep)

    def _follows(self, first: Tensor, second: Tensor, steps: Tensor) -> Tensor:
        """Whether the second row is so many steps after the first, in one track."""
        position = self._rows.position
        return (self._track[first] == self._track[second]) & (position[first] + steps == position[second])


def _some_tracks(lessons: Lessons, rows: int, generator: torch.Generator) -> Lessons:
    """Whole tracks, chosen at random, of at most so many rows; fewer rows of one track where none is so short."""
    if len(lessons) <= rows:
        return lessons
    starts = (lessons.position == 0).nonzero().squeeze(1)
    ends = torch.cat([starts[1:], torch.tensor([len(lessons)])])
    order = torch.randperm(len(starts), generator=generator)
    fitting = order[(ends - starts)[order].cumsum(0) <= rows].sort().values
    if not len(fitting):
        first = int(starts[order[0]])
        return lessons.take(torch.arange(first, first + rows))
    chosen = torch.zeros(len(lessons) + 1)
    chosen[starts[fitting]] += 1
    chosen[ends[fitting]] -= 1
    return lessons.take(chosen.cumsum(0)[:-1].bool().nonzero().squeeze(1))
