from pathlib import Path

import numpy as np
import pytest
import torch
from echo import Echo, teach
from toys import Counting

from kdnas.envs import Copies, TeamEnv
from kdnas.errors import RunError, TeacherError
from kdnas.teachers import Demonstrations, Rows, Teacher, keep_demonstrations, make_mlp, record
from kdnas.teachers.demonstrations import join_rows, teacher_chooser


def counting(masks: str | None = None) -> TeamEnv:
    copies = Copies("counting", lambda: Counting(masks=masks))
    return TeamEnv(copies, {"early": ("early",), "late": ("late",)})


def always_two(group: str, observations: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The last action, or 1 where 2 is illegal."""
    return torch.where(logits[..., 2] > -1e8, 2, 1)


def some_teacher(env: TeamEnv) -> Teacher:
    shared = make_mlp(3, (4,), 3, generator=torch.Generator().manual_seed(0))
    return Teacher(env.spec, dict.fromkeys(env.spec.groups, shared))


def test_only_living_agents_are_recorded() -> None:
    env = counting()
    rows = record(env, some_teacher(env), always_two, [1, 2, 3], copies=2, max_steps=9)
    # Observations are (step, sum of own actions, luck): `early` acts in steps 0 and 1, `late` in 0 to 3; copies of a
    # batch stand together, and the third episode comes after the first two.
    assert rows["early"].observations[:, :2].tolist() == [[0, 0], [0, 0], [1, 2], [1, 2], [0, 0], [1, 2]]
    assert rows["late"].observations[:, :2].tolist() == [
        [0, 0], [0, 0], [1, 2], [1, 2], [2, 4], [2, 4], [3, 6], [3, 6], [0, 0], [1, 2], [2, 4], [3, 6]
    ]  # fmt: skip
    assert rows["early"].masks is None
    luck = {np.float32(np.random.default_rng(seed).random()) for seed in (1, 2, 3)}
    assert set(rows["late"].observations[:, 2]) == luck


def test_labels_are_the_teachers_unmasked_logits() -> None:
    env = counting("info")
    teacher = some_teacher(env)
    rows = record(env, teacher, always_two, [1, 2, 3], copies=3, max_steps=9)["late"]
    np.testing.assert_allclose(rows.logits, teacher.logits("late", torch.from_numpy(rows.observations)), atol=1e-6)
    assert rows.masks is not None
    # Of 3 actions, step % 3 is illegal.
    assert rows.masks.tolist() == [[action != step % 3 for action in range(3)] for step in rows.observations[:, 0]]


def test_an_episode_is_cut() -> None:
    env = counting()
    rows = record(env, some_teacher(env), always_two, [1], copies=1, max_steps=3)
    assert (len(rows["early"].observations), len(rows["late"].observations)) == (2, 3)


def test_half_of_the_copies_are_greedy() -> None:
    env = TeamEnv(Echo(), {"left": ("left",), "right": ("right",)})
    teacher = teach(env.spec, sharpness=0.5)
    seen = torch.randn(400, 1, 3, generator=torch.Generator().manual_seed(0))
    logits = teacher.logits("left", seen)
    actions = teacher_chooser(torch.Generator().manual_seed(0))("left", seen, logits)
    assert torch.equal(actions[:200], logits[:200].argmax(-1))
    assert 0.2 < float((actions[200:] == logits[200:].argmax(-1)).float().mean()) < 0.9


def test_a_teacher_that_returns_nan() -> None:
    env = counting()
    teacher = some_teacher(env)
    with torch.no_grad():
        teacher.actors["late"][0].weight[0, 0] = torch.nan
    with pytest.raises(TeacherError, match="the teacher of group 'early' returns NaN or infinity in counting"):
        record(env, teacher, always_two, [1], copies=1, max_steps=9)


def some_rows(*, masked: bool = False) -> Rows:
    seen = np.arange(6, dtype=np.float32).reshape(3, 2)
    return Rows(observations=seen, logits=seen + 1, masks=seen > 2 if masked else None)


def test_joined_rows() -> None:
    joined = join_rows([some_rows(masked=True), some_rows(masked=True)])
    assert joined.observations.shape == (6, 2)
    assert joined.masks is not None
    assert joined.masks.shape == (6, 2)
    assert join_rows([some_rows()]).masks is None


def test_they_are_kept_and_found_again(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> dict[str, Rows]:
        made.append("once")
        return {"a": some_rows(), "b": some_rows(masked=True)}

    first = keep_demonstrations(tmp_path, {"seed": 0, "env": "x"}, make)
    again = keep_demonstrations(tmp_path, {"env": "x", "seed": 0}, make)
    assert made == ["once"]
    assert again == first
    for group, masked in (("a", False), ("b", True)):
        rows, want = again.rows(group), some_rows(masked=masked)
        assert isinstance(rows.observations, np.memmap)
        assert not rows.observations.flags.writeable
        np.testing.assert_array_equal(rows.observations, want.observations)
        np.testing.assert_array_equal(rows.logits, want.logits)
        assert (rows.masks is None) == (want.masks is None)
    other = keep_demonstrations(tmp_path, {"seed": 1, "env": "x"}, make)
    assert other.folder != first.folder
    assert len(made) == 2
    assert len(list(tmp_path.iterdir())) == 2  # nothing half-written beside them


def test_what_was_left_half_written_is_written_again(tmp_path: Path) -> None:
    def fail() -> dict[str, Rows]:
        raise TeacherError("NaN")

    with pytest.raises(TeacherError):
        keep_demonstrations(tmp_path, {"seed": 0}, fail)
    assert list(tmp_path.iterdir()) == []
    kept = keep_demonstrations(tmp_path, {"seed": 0}, lambda: {"a": some_rows()})
    part = kept.folder.with_name(f"{kept.folder.name}.part")
    kept.folder.rename(part)
    (part / "a.logits.npy").unlink()
    assert len(keep_demonstrations(tmp_path, {"seed": 0}, lambda: {"a": some_rows()}).rows("a").logits) == 3


def test_a_group_may_be_called_anything(tmp_path: Path) -> None:
    names = ["a/b", "..", "a b", "ü", "a.observations"]
    kept = keep_demonstrations(tmp_path / "x", {}, lambda: dict.fromkeys(names, some_rows()))
    assert [len(kept.rows(name).logits) for name in names] == [3] * 5
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/.*: cannot be written: Not a directory"):
        keep_demonstrations(tmp_path / "file", {}, lambda: {"a": some_rows()})


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY"])
def test_damaged_files(tmp_path: Path, content: bytes | None) -> None:
    folder = keep_demonstrations(tmp_path, {}, lambda: {"a": some_rows()}).folder
    path = folder / "a.logits.npy"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=rf"a.logits.npy: cannot be read .*; delete {folder} to record the teacher anew"):
        Demonstrations(folder).rows("a")


def test_cut_in_half(tmp_path: Path) -> None:
    folder = keep_demonstrations(tmp_path, {}, lambda: {"a": some_rows()}).folder
    path = folder / "a.observations.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RunError, match=r"a.observations.npy: cannot be read"):
        Demonstrations(folder).rows("a")
