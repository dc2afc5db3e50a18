import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fronts import cost

from kdnas.budgets import TeamCost
from kdnas.errors import BudgetError, RunError
from kdnas.study.front import ParetoFront, hypervolume, make_front, non_dominated, read_front, thin
from kdnas.study.returns import ReturnsFolder

from .test_selector import FRONT


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([], []),
        ([(0.9, 10, 10)], [0]),
        ([(0.9, 10, 10), (0.8, 10, 10)], [0]),
        ([(0.8, 10, 10), (0.9, 10, 10)], [1]),
        # Less of one for more of another: neither dominates.
        ([(0.9, 10, 10), (0.8, 9, 10), (0.8, 10, 9)], [0, 1, 2]),
        ([(0.9, 10, 10), (0.9, 9, 11), (0.9, 9, 10)], [2]),
        # Equal points: the first.
        ([(0.9, 10, 10), (0.9, 10, 10)], [0]),
        ([(-0.1, 1, 1), (0.5, 2, 2)], [0, 1]),
    ],
)
def test_non_dominated(points: list[tuple[float, float, float]], kept: list[int]) -> None:
    assert non_dominated(points) == kept


TEACHER = TeamCost(agents={"a": cost(500, 1000)}, seats={"a": 1})
"""1,000 FLOPs and 1,000 bytes."""


@pytest.mark.parametrize(
    ("points", "volume"),
    [
        ([], 0.0),
        ([(0.9, 100, 10)], 0.9 * 1 * 2),
        ([(0.9, 100, 10), (0.8, 200, 20)], 1.8),  # dominated
        # The second adds .5 x (2 decades - 1) x 2 beyond the first.
        ([(0.9, 100, 10), (0.5, 10, 10)], 1.8 + 0.5 * 1 * 2),
        # No better than the reference in one of the three: nothing.
        ([(0.9, 1000, 10), (0.9, 100, 1000), (0.0, 1, 1), (-0.5, 1, 1)], 0.0),
        ([(1.1, 100, 100)], 1.1),
    ],
)
def test_hypervolume_by_hand(points: list[tuple[float, float, float]], volume: float) -> None:
    assert hypervolume(points, TEACHER) == pytest.approx(volume)


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        # The second holds .9 x 1 x 2 decades = 1.8; the third .3 x 2 x 3 = 1.8, but .3 x 1 x 2 inside it: 1.2 more. The
        # fourth has (.5 - .3) x 1 x 2 = .4 that neither holds (1.0 beside the second alone), and the first, 1.046
        # decades below the teacher, (.8 - .5) x .046 x 2 = .03.
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (4, [0, 1, 2, 3]),
        (9, [0, 1, 2, 3]),
    ],
)
def test_thin_keeps_what_adds_most(count: int, kept: list[int]) -> None:
    points = [(0.8, 90.0, 10.0), (0.9, 100.0, 10.0), (0.3, 10.0, 1.0), (0.5, 10.0, 10.0)]
    assert thin(points, TEACHER, count) == kept


def test_thin_keeps_the_best_though_it_adds_least() -> None:
    assert thin([(0.5, 10.0, 10.0), (0.91, 999.0, 999.0), (0.9, 100.0, 10.0)], TEACHER, 2) == [0, 1]


def test_reductions_are_of_team_sums() -> None:
    # The teacher's 3 x 20,000 FLOPs and 3 x 40,000 bytes.
    assert FRONT[2].flops_reduction == pytest.approx(60_000 / 6_000)
    assert FRONT[2].memory_reduction == pytest.approx(120_000 / 11_000)


def front(folder: Path | None = None) -> ParetoFront:
    return make_front(FRONT, final=True, folder=folder)


def test_the_best_comes_first() -> None:
    assert [one.trial for one in make_front(list(reversed(FRONT)), final=True)] == [1, 2, 3, 4, 5]
    assert (len(front()), front()[0].trial, [one.trial for one in front()[1:3]]) == (5, 1, [2, 3])


def test_the_best_by_a_selector() -> None:
    assert front().best().trial == 1
    assert front().best("retention>=95%, min memory").trial == 2
    with pytest.raises(BudgetError, match="no student of the front meets"):
        front().best("flops<1")


COSTS = {"flops", "macs", "bops", "params", "memory_bytes", "latency_s", "flash_bytes", "ram_bytes"}


def test_the_keys_of_its_json() -> None:
    written = json.loads(json.dumps(front().as_json()))[2]
    # As `kdnas front --json` documents them; `bops`, `agents` and `teacher_cost` go beyond it.
    assert set(written) == {
        "trial", "path", "retention", "return", *COSTS, "worst_agent", "teacher", "groups"
    }  # fmt: skip
    assert set(written["retention"]) == set(written["return"]) == {"mean", "low", "high", "episodes"}
    assert set(written["latency_s"]) == {"p50", "p95", "p99", "reference"}
    assert set(written["worst_agent"]) == set(written["teacher"]) == COSTS
    assert list(written["groups"]) == ["pair", "solo"]
    assert set(written["groups"]["pair"]) == {"spec", "cost", "agents", "teacher_cost"}
    assert set(written["groups"]["pair"]["cost"]) == COSTS
    assert written["groups"]["pair"]["spec"] == {
        "family": "mlp",
        "base": [64],
        "hidden": [16],
        "bits": {"input": 32, "weight": 32, "activation": 32},
    }


def test_the_numbers_of_its_json() -> None:
    written = front().as_json()[2]
    # Two seats of 900 MACs, 5,000 B, 12 us, and one of 1,200, 1,000 and 12.
    assert (written["trial"], written["path"]) == (3, None)
    assert (written["macs"], written["flops"], written["memory_bytes"]) == (3000, 6000, 11_000)
    assert written["latency_s"] == pytest.approx({"p50": 18e-6, "p95": 36e-6, "p99": 72e-6, "reference": 144e-6})
    # The largest of each metric, not of one agent.
    assert (written["worst_agent"]["macs"], written["worst_agent"]["memory_bytes"]) == (1200, 5000)
    assert written["teacher"]["flops"] == 60_000
    assert written["groups"]["solo"]["cost"]["flops"] == 2400
    assert (written["groups"]["pair"]["agents"], written["groups"]["solo"]["agents"]) == (2, 1)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    there = [replace(one, path=Path("/elsewhere") / f"{one.trial:04d}") for one in FRONT]
    (tmp_path / "front.json").write_text(json.dumps(make_front(there, final=True).as_json()))
    again = read_front(tmp_path / "front.json")
    # The folders are those beside the file, wherever it lies now.
    here = [replace(one, path=tmp_path / "students" / f"{one.trial:04d}") for one in FRONT]
    assert again == make_front(here, final=True, folder=tmp_path)


def test_what_each_episode_says_is_read_where_returns_are_kept(tmp_path: Path) -> None:
    (tmp_path / "front.json").write_text(json.dumps(front().as_json()))
    kept = {"final-teacher": [0.0, 0.0], "final-random": [-20.0, -20.0], "final-0002": [-1.0, -3.0]}
    for name, returns in kept.items():
        ReturnsFolder(tmp_path / "returns").keep(name, np.array(returns))
    parts = {one.trial: one.parts for one in read_front(tmp_path / "front.json")}
    # See `retention_parts`.
    assert parts[2] == pytest.approx([0.95, 0.85])
    assert [parts[trial] for trial in (1, 3, 4, 5)] == [None] * 4
    (tmp_path / "returns/final-0002.npy").write_bytes(b"text")
    with pytest.raises(RunError, match=r"returns/final-0002.npy: is damaged .*; delete it, it will be played again"):
        read_front(tmp_path / "front.json")


@pytest.mark.parametrize("text", ["", "{", "[1]", "[{}]", "{}x", '[{"trial": 1}]', "null"])
def test_a_damaged_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "front.json").write_text(text)
    with pytest.raises(RunError, match=r"front.json: is damaged .* repeat the search's command to write it again"):
        read_front(tmp_path / "front.json")


def test_a_spec_in_it_that_is_none(tmp_path: Path) -> None:
    written = make_front(FRONT[:1], final=True).as_json()
    written[0]["groups"]["pair"]["spec"]["hidden"] = "wide"
    (tmp_path / "front.json").write_text(json.dumps(written))
    with pytest.raises(RunError, match=r"front.json: is damaged"):
        read_front(tmp_path / "front.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"front.json: cannot be read: No such file .*; has this search ended\?"):
        read_front(tmp_path / "front.json")
