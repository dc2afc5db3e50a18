"""`ReturnsFolder`: per-episode returns that were played once, each in a file of its own."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdnas.errors import RunError
from kdnas.study.room import Room

Returns = NDArray[np.float64]
"""(E,), one return per episode of a seed set, mean over agents."""


@dataclass(frozen=True)
class ReturnsFolder:
    """Arrays by name; a file is there whole or not at all."""

    path: Path
    room: Room | None = None
    """Waits while the disk is full; without it, a full disk is an error."""

    def has(self, name: str) -> bool:
        return self._file(name).exists()

    def load(self, name: str) -> Returns:
        """What `keep` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        file = self._file(name)
        try:
            returns: Returns = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{file}: is damaged ({error}); delete it, it will be played again") from error
        return returns

    def keep(self, name: str, returns: Returns) -> None:
        """Write returns (E,).

        Raises:
            RunError: the folder cannot be written.
        """
        if self.room is None:
            self._write(name, returns)
        else:
            self.room.keep_trying(self._write, name, returns)

    def _write(self, name: str, returns: Returns) -> None:
        file = self._file(name)
        part = file.with_suffix(".part.npy")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            np.save(part, returns)
            part.replace(file)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise RunError(f"{file}: cannot be written: {error.strerror or error}; make room") from error

    def get(self, name: str, play: Callable[[], Returns]) -> Returns:
        """Returns by name, played only if they are not there.

        Raises:
            RunError: as `load` and `keep`.
        """
        if not self.has(name):
            self.keep(name, play())
        return self.load(name)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npy"


def short_name(*parts: str) -> str:
    """A file name for what may hold any characters: groups may be called as their environment likes."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def team_name(trial: int) -> str:
    """What the returns of a trial's team are kept as."""
    return f"team-{trial:04d}"
