from pathlib import Path

import numpy as np
import pytest

from kdnas.errors import RunError
from kdnas.study.returns import ReturnsFolder, short_name


@pytest.fixture
def folder(tmp_path: Path) -> ReturnsFolder:
    return ReturnsFolder(tmp_path / "run" / "returns")


def test_what_is_kept_comes_back(folder: ReturnsFolder) -> None:
    returns = np.array([1.5, -2.0, 1 / 3])
    assert not folder.has("team-0001")
    folder.keep("team-0001", returns)
    assert folder.has("team-0001")
    assert not folder.has("team-0002")
    np.testing.assert_array_equal(folder.load("team-0001"), returns)
    assert [path.name for path in folder.path.iterdir()] == ["team-0001.npy"]


def test_returns_are_played_once(folder: ReturnsFolder) -> None:
    played: list[int] = []

    def play() -> np.ndarray:
        played.append(1)
        return np.array([1.5, -2.0])

    for _ in range(2):
        assert folder.get("final-teacher", play).tolist() == [1.5, -2.0]
    assert played == [1]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text"])
def test_a_damaged_file_names_itself(folder: ReturnsFolder, content: bytes) -> None:
    folder.keep("final-teacher", np.zeros(3))
    (folder.path / "final-teacher.npy").write_bytes(content)
    with pytest.raises(RunError, match=r"final-teacher.npy: is damaged .*; delete it, it will be played again"):
        folder.load("final-teacher")


def test_what_is_missing_names_its_file(folder: ReturnsFolder) -> None:
    with pytest.raises(RunError, match=r"team-0007.npy: is damaged .*No such file"):
        folder.load("team-0007")


def test_writing_is_all_or_nothing(folder: ReturnsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.keep("a", np.ones(2))

    def full(file: Path, returns: np.ndarray) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(RunError, match=r"a.npy: cannot be written: No space left on device; make room"):
        folder.keep("a", np.zeros(2))
    assert [path.name for path in folder.path.iterdir()] == ["a.npy"]
    assert folder.load("a").tolist() == [1.0, 1.0]


def test_short_names_are_file_names_and_tell_their_parts_apart() -> None:
    names = {short_name("a/b", "c"), short_name("a", "b/c"), short_name("a/bc"), short_name("", "a/b", "c")}
    assert len(names) == 4
    assert all(len(name) == 20 and name.isalnum() for name in names)
    assert short_name("a/b", "c") in names  # the same each time
