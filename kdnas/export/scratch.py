"""`scratch_folder`: a place for files that nobody keeps."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from kdnas.errors import ScratchError

_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder, which is gone afterwards.

    Raises:
        ScratchError: it cannot be made, or has no room for what is written into it.
    """
    try:
        folder = TemporaryDirectory(prefix="kdnas-")
    except OSError as error:  # also where `gettempdir` finds no place at all
        raise ScratchError(
            f"a temporary folder cannot be made ({error.strerror or error}); name a place for it in TMPDIR"
        ) from error
    with folder as place:
        try:
            yield Path(place)
        except OSError as error:
            if not lacks_place(error) or _has_room(Path(place)):  # another disk may be full
                raise
            raise ScratchError(
                f"{gettempdir()}: cannot be written: {error.strerror}; make room, or name another place in TMPDIR"
            ) from error


def check_room(program: str, said: Iterable[str]) -> None:
    """Tell a program that had no room for its files from one that failed, by the lines that it said.

    Raises:
        ScratchError: it had none.
    """
    for line in said:
        if os.strerror(errno.ENOSPC) in line:
            raise ScratchError(f"{program}: {line}; make room, or name another place for temporary files in TMPDIR")


def lacks_place(error: BaseException) -> bool:
    """Whether something cannot be written for lack of room, or because nothing may be written there."""
    return isinstance(error, OSError) and error.errno in _NO_PLACE


def _has_room(place: Path) -> bool:
    try:
        (place / "room").write_bytes(bytes(1 << 20))
    except OSError:
        return False
    return True
