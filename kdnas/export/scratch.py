"""`scratch_folder`: a place for files that nobody keeps."""

import errno
from collections.abc import Iterator
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
            if error.errno not in _NO_PLACE or _has_room(Path(place)):  # another disk may be full
                raise
            raise ScratchError(
                f"{gettempdir()}: cannot be written: {error.strerror}; make room, or name another place in TMPDIR"
            ) from error


def _has_room(place: Path) -> bool:
    try:
        (place / "room").write_bytes(bytes(1 << 20))
    except OSError:
        return False
    return True
