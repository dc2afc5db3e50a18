from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from kdnas.errors import RunError, TeacherError
from kdnas.teachers import Demonstrations, Episodes, GroupRecord, keep_demonstrations


def some_record(*, masked: bool = False, limited: bool = False, episodes: int = 2) -> GroupRecord:
    """Three steps of an agent that sees two numbers."""
    seen = np.arange(episodes * 6, dtype=np.float32).reshape(episodes, 3, 1, 2)
    return GroupRecord(
        observations=seen,
        parameters=seen + 1,
        alive=seen[..., 0] < 8,
        rewards=seen[..., 1],
        masks=seen > 2 if masked else None,
        limited_views=seen[..., :1] if limited else None,
    )


def some_episodes(*groups: str, episodes: int = 2) -> Episodes:
    state = np.arange(episodes * 6, dtype=np.float32).reshape(episodes, 3, 2)
    return Episodes(groups={group: some_record(episodes=episodes) for group in groups}, state=state)


def test_they_are_kept_and_found_again(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> Episodes:
        made.append("once")
        return written

    records = {"a": some_record(), "b": some_record(masked=True), "c": some_record(limited=True)}
    written = Episodes(groups=records, state=some_episodes().state)

    first = keep_demonstrations(tmp_path, {"seed": 0, "env": "x"}, make)
    again = keep_demonstrations(tmp_path, {"env": "x", "seed": 0}, make)
    assert made == ["once"]
    assert again == first
    read = again.episodes(["a", "b", "c"])
    np.testing.assert_array_equal(read.state, written.state, strict=True)
    for group, want in records.items():
        have = read.groups[group]
        assert isinstance(have.observations, np.memmap)
        assert not have.observations.flags.writeable
        for field in fields(GroupRecord):
            mine, theirs = getattr(have, field.name), getattr(want, field.name)
            assert (mine is None) == (theirs is None)
            if theirs is not None:
                np.testing.assert_array_equal(mine, theirs, strict=True)
    # Only what is asked for is opened.
    assert list(again.episodes(["b"]).groups) == ["b"]
    other = keep_demonstrations(tmp_path, {"seed": 1, "env": "x"}, make)
    assert other.folder != first.folder
    assert len(made) == 2
    assert len(list(tmp_path.iterdir())) == 2  # nothing half-written beside them


def test_what_was_left_half_written_is_written_again(tmp_path: Path) -> None:
    def fail() -> Episodes:
        raise TeacherError("NaN")

    with pytest.raises(TeacherError):
        keep_demonstrations(tmp_path, {"seed": 0}, fail)
    assert list(tmp_path.iterdir()) == []
    kept = keep_demonstrations(tmp_path, {"seed": 0}, lambda: some_episodes("a"))
    part = kept.folder.with_name(f"{kept.folder.name}.part")
    kept.folder.rename(part)
    (part / "a.parameters.npy").unlink()
    again = keep_demonstrations(tmp_path, {"seed": 0}, lambda: some_episodes("a"))
    assert len(again.episodes(["a"]).groups["a"].parameters) == 2


def test_a_group_may_be_called_anything(tmp_path: Path) -> None:
    names = ["a/b", "..", "a b", "ü", "a.observations", "state"]
    kept = keep_demonstrations(tmp_path / "x", {}, lambda: some_episodes(*names))
    assert [len(record.parameters) for record in kept.episodes(names).groups.values()] == [2] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/.*: cannot be written: Not a directory"):
        keep_demonstrations(tmp_path / "file", {}, lambda: some_episodes("a"))


@pytest.mark.parametrize("name", ["a.parameters.npy", "a.alive.npy", "state.npy"])
@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = keep_demonstrations(tmp_path, {}, lambda: some_episodes("a")).folder
    path = folder / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}: cannot be read .*; delete {folder} to record the teacher anew"):
        Demonstrations(folder).episodes(["a"])


def test_cut_in_half(tmp_path: Path) -> None:
    folder = keep_demonstrations(tmp_path, {}, lambda: some_episodes("a")).folder
    path = folder / "a.observations.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RunError, match=r"a.observations.npy: cannot be read"):
        Demonstrations(folder).episodes(["a"])


def test_files_of_other_demonstrations(tmp_path: Path) -> None:
    folder = keep_demonstrations(tmp_path, {}, lambda: some_episodes("a", "b")).folder
    other = keep_demonstrations(tmp_path / "other", {}, lambda: some_episodes("b", episodes=1)).folder
    (other / "b.alive.npy").replace(folder / "b.alive.npy")
    with pytest.raises(RunError, match="its files do not belong together; delete it to record the teacher anew"):
        Demonstrations(folder).episodes(["a", "b"])
