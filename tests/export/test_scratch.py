import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdnas.errors import ScratchError
from kdnas.export.scratch import check_room, scratch_folder


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Temporary folders on a disk of two mebibytes."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "kdnas-tests", str(point)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted")
    monkeypatch.setattr(tempfile, "tempdir", str(point))
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)


def test_it_is_gone_afterwards() -> None:
    with scratch_folder() as folder:
        (folder / "x").write_text("x")
    assert not folder.exists()


def test_a_full_disk_is_named(small_disk: Path) -> None:
    said = rf"^{small_disk}: cannot be written: No space left on device; make room, or"
    with pytest.raises(ScratchError, match=said), scratch_folder() as folder:
        (folder / "large").write_bytes(bytes(3 << 20))
    assert list(small_disk.iterdir()) == []


def test_what_happens_elsewhere_is_not_its_own(small_disk: Path) -> None:
    """Another disk may be full, and files may be missing."""
    for error in (OSError(28, "No space left on device"), FileNotFoundError(2, "No such file", "x")):
        with pytest.raises(OSError, match=error.strerror) as caught, scratch_folder():
            raise error
        assert caught.value is error


def test_no_place_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    said = r"cannot be made \(No usable temporary .*\); name a place for it in TMPDIR"
    with pytest.raises(ScratchError, match=said), scratch_folder():
        os.abort()


def test_a_program_that_has_no_room_is_told_from_one_that_fails() -> None:
    check_room("cc", ["team.c:3: error: expected ';'"])
    with pytest.raises(ScratchError, match=r"^cc: cc1: fatal error: .*: No space left on device; make room, or name"):
        check_room("cc", ["cc1: fatal error: /tmp/x.s: No space left on device"])
