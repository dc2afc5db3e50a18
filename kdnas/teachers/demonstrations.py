"""`Demonstrations`: recorded teacher episodes as arrays on disk, immutable and addressed by what made them."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from kdnas.errors import RunError
from kdnas.teachers.episodes import Episodes, GroupRecord

_STATE = "state.npy"
_OPTIONAL = ("masks", "limited_views")


@dataclass(frozen=True)
class Demonstrations:
    """Recorded episodes in a folder of `.npy` files that all processes map into memory."""

    folder: Path

    def episodes(self, groups: Sequence[str]) -> Episodes:
        """The episodes as those groups lived them, memory-mapped and read-only.

        Raises:
            RunError: a file is missing or damaged.
        """
        records = {group: self._record(group) for group in groups}
        state = self._map(self.folder / _STATE)
        lengths = {record.alive.shape[:2] for record in records.values()} | {state.shape[:2]}
        if len(lengths) > 1:
            raise RunError(f"{self.folder}: its files do not belong together; delete it to record the teacher anew")
        return Episodes(groups=records, state=state)

    def _record(self, group: str) -> GroupRecord:
        paths = {field.name: _file(self.folder, group, field.name) for field in fields(GroupRecord)}
        return GroupRecord(
            **{name: self._map(path) for name, path in paths.items() if name not in _OPTIONAL or path.exists()}
        )

    def _map(self, path: Path) -> NDArray[Any]:
        try:
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(
                f"{path}: cannot be read ({error}); delete {self.folder} to record the teacher anew"
            ) from error
        return mapped


def keep_demonstrations(root: Path, key: Mapping[str, object], make: Callable[[], Episodes]) -> Demonstrations:
    """The demonstrations that `key` describes: found under `root` by the key's hash, or made and written there.

    Raises:
        RunError: they cannot be written.
    """
    digest = hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()[:16]
    folder = root / digest
    if not folder.exists():
        made = make()
        part = root / f"{digest}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            np.save(part / _STATE, made.state)
            for group, record in made.groups.items():
                for field in fields(record):
                    if (array := getattr(record, field.name)) is not None:
                        np.save(_file(part, group, field.name), array)
            part.replace(folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise RunError(
                f"{folder}: cannot be written: {error.strerror or error}; make room or choose another --out"
            ) from error
    return Demonstrations(folder)


def _file(folder: Path, group: str, what: str) -> Path:
    """A group may be called anything, also what no file can be called."""
    return folder / f"{quote(group, safe='')}.{what}.npy"
