"""Tasks with masks that forbid, and with continuous actions, from their study to students that are played again."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fenced import Fenced
from numpy.typing import NDArray

from kdnas.export.graph import open_session
from kdnas.students import StudentTeam, load_student
from kdnas.study.evaluate import evaluate
from kdnas.study.front import ParetoFront
from kdnas.study.search import search

from .conftest import SPACE, WriteStudy, states

Searched = tuple[Path, ParetoFront]
Search = Callable[..., Searched]

SHORT = {"search_episodes": 32, "final_episodes": 64}


@pytest.fixture
def search_in(write_study: WriteStudy, tmp_path: Path) -> Search:
    def run(file: str, bits: str, **changes: Any) -> Searched:
        table = {**SPACE["groups"]["default"], "bits": [bits]}
        path = write_study(file, space={**SPACE, "groups": {"default": table}}, evaluation=SHORT, **changes)
        return tmp_path / "run", search(path, trials=2, out=tmp_path / "run")

    return run


def in_onnx(folder: Path, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Agent -> actions of the exported artifact."""
    session = open_session((folder / "team.onnx").read_bytes())
    return {agent: session.run([f"{agent}.action"], dict(feeds))[0] for agent in ("left", "right")}


def seen_by(team: StudentTeam, rows: int) -> dict[str, NDArray[np.float32]]:
    sizes = {agent: entry.spaces.observation_size for entry in team.card.groups.values() for agent in entry.agents}
    generator = np.random.default_rng(3)
    return {agent: generator.standard_normal((rows, size)).astype(np.float32) for agent, size in sizes.items()}


@pytest.fixture
def install_check() -> ModuleType:
    """`tests/install/act.py`, which is satisfied here although this environment has more than it allows."""
    path = Path(__file__).parents[1] / "install" / "act.py"
    spec = importlib.util.spec_from_file_location("act", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ABSENT = ()  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("actions", "bits", "random"), [("discrete", "w8a8i8", 2.5), ("multi-discrete", "float", 3.75)]
)
def test_what_is_forbidden_is_never_done(
    actions: str, bits: str, random: float, search_in: Search, install_check: ModuleType
) -> None:
    """Random play, teacher, on-policy episodes, final plays: the environment fails where a mask is not obeyed."""
    arguments = {"env.factory": "fenced:make", "env.kwargs": {"actions": actions}}
    run, front = search_in(f"fenced_{actions}", bits, **arguments)
    assert set(states(run)) <= {"COMPLETE", "PRUNED"}
    assert np.load(run / "returns/final-teacher.npy").mean() == 5.0
    # 64 episodes of two agents: three deviations of the mean are at most 3 sqrt(5/4 / 128) = 0.3.
    assert np.load(run / "returns/final-random.npy").mean() == pytest.approx(random, abs=0.3)
    # What is legal, and not that it is legal, had to be learned.
    assert front.best().score.retention.mean > 0.5
    assert all(score.returned.mean > random for score in evaluate(run, episodes=40, seed=5).values())

    folder = front.best().path
    assert folder is not None
    team = load_student(folder)
    seen = seen_by(team, 500)
    env = Fenced(actions=actions)
    counts = env.agents["left"].actions.counts
    starts = np.cumsum([0, *counts[:-1]])
    best = {
        agent: np.stack([part.argmax(1) for part in np.split(rows[:, : sum(counts)], starts[1:], axis=1)], 1)
        for agent, rows in seen.items()
    }
    masks = {agent: np.ones((500, sum(counts)), np.bool_) for agent in seen}
    for agent, mask in masks.items():
        np.put_along_axis(mask, starts + best[agent], False, 1)

    chosen = {agent: rows.reshape(500, -1) for agent, rows in team.act(seen, masks).items()}
    feeds = {f"{agent}.observation": rows for agent, rows in seen.items()}
    exported = in_onnx(folder, feeds | {f"{agent}.mask": mask for agent, mask in masks.items()})
    free = in_onnx(folder, feeds | {f"{agent}.mask": np.ones_like(mask) for agent, mask in masks.items()})
    for agent, mask in masks.items():
        artifact = exported[agent].reshape(500, -1)
        assert np.take_along_axis(mask, starts + chosen[agent], 1).all()
        assert np.take_along_axis(mask, starts + artifact, 1).all()
        assert (artifact == chosen[agent]).all(1).mean() >= 0.998
        # Without masks it would do the forbidden in many of these cases.
        assert (free[agent].reshape(500, -1) == best[agent]).any(1).mean() > 0.3
    # One row at a time, with masks as lists.
    one = team.act({"left": seen["left"][0]}, {"left": masks["left"][0].tolist()})["left"]
    assert np.reshape(one, -1).tolist() == chosen["left"][0].tolist()
    install_check.main(folder)


@pytest.mark.parametrize("squash", [False, True])
def test_numbers_are_said_again(squash: bool, search_in: Search, install_check: ModuleType) -> None:
    bits = "w8a8i8" if squash else "float"
    run, front = search_in(f"box_{squash}", bits, **{"env.kwargs": {"actions": "box"}, "env.squash": squash})
    assert set(states(run)) <= {"COMPLETE", "PRUNED"}
    teacher = np.load(run / "returns/final-teacher.npy").mean()
    # The teacher says x: clipped it is right, squashed it says tanh(x) instead of clip(x), which costs some 2 %.
    assert 4.85 < teacher < 4.98 if squash else teacher == pytest.approx(5.0, abs=1e-5)
    # 5 (2/3 - .516) = 0.75, see echo.py; x^2 clipped to 1 and a uniform square have deviations of .4 and .3 a number,
    # of which there are 64 episodes x 5 steps x 2 agents x 2: three deviations of the return are below .25.
    assert np.load(run / "returns/final-random.npy").mean() == pytest.approx(0.75, abs=0.25)
    assert front.best().score.retention.mean > 0.8
    (score, *_) = evaluate(run, episodes=40, seed=5).values()
    assert score.retention.mean > 0.7

    folder = front.best().path
    assert folder is not None
    team = load_student(folder)
    space = team.card.groups["left"].spaces.actions
    assert (space.kind, space.low, space.high, space.squashed) == ("box", (-1.0, -1.0), (1.0, 1.0), squash)
    assert team.card.artifacts[0].agreed_rows == team.card.artifacts[0].checked_rows == 640
    seen = {agent: 2 * rows for agent, rows in seen_by(team, 500).items()}
    chosen = team.act(seen)
    exported = in_onnx(folder, {f"{agent}.observation": rows for agent, rows in seen.items()})
    for agent, rows in seen.items():
        assert chosen[agent].shape == exported[agent].shape == (500, 2)
        assert chosen[agent].dtype == exported[agent].dtype == np.float32
        assert (np.abs(chosen[agent] - exported[agent]).max(1) < 1e-5).mean() >= 0.998
        assert np.abs(exported[agent]).max() <= 1
        # It says what it has learned to say.
        assert np.abs(chosen[agent] - (np.tanh(rows) if squash else rows.clip(-1, 1))).mean() < 0.2
    install_check.main(folder)
