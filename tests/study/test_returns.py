from pathlib import Path

import numpy as np
import pytest

from kdnas.errors import RunError
from kdnas.study.returns import member_path, read_returns, reference_path, write_returns


def test_where_they_are(tmp_path: Path) -> None:
    assert reference_path(tmp_path, "final", "teacher") == tmp_path / "references" / "final.teacher.npy"
    assert member_path(tmp_path, 7) == tmp_path / "returns" / "0007.npy"


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = member_path(tmp_path, 7)
    for returns in ([1.5, -2.0], [0.25]):
        write_returns(path, np.array(returns))
        assert read_returns(path).tolist() == returns
    assert [file.name for file in path.parent.iterdir()] == ["0007.npy"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "returns").write_text("")
    with pytest.raises(RunError, match=r"returns/0007.npy: cannot be written: .*; make room"):
        write_returns(member_path(tmp_path, 7), np.zeros(2))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text"])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0007.npy").write_bytes(content)
    with pytest.raises(RunError, match=r"0007.npy: is damaged .*; delete it, it will be played again"):
        read_returns(tmp_path / "0007.npy")
