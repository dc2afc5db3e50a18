from pathlib import Path

import numpy as np
import pytest
from fronts import cost, member

from kdnas.errors import RunError, StudentError
from kdnas.study.crew import WorkerLostError
from kdnas.study.finish import best_members, score_finally, thin_members
from kdnas.study.objective import Objective
from kdnas.study.run_folder import open_run
from kdnas.study.setup import open_study, read_study

from .conftest import Notes, WriteStudy
from .pretended import RANDOM, TEACHER, Pretended, ask, finish, log_of, pretend

# 3 x 100 MACs of the teacher's 3 x 10,000 are 2 decades less, 400 of its 40,000 bytes too: .9 x 2 x 2 = 3.6. The
# second has .5 x 3 x 3 = 4.5, of which .5 x 2 x 2 = 2 lie inside the first. The third adds .1 x 1 x 1 at the top.
MEMBERS = [
    member(4, 0.9, pair=cost(100, 400)), member(5, 0.5, pair=cost(10, 40)), member(7, 1.0, pair=cost(1000, 4000))
]  # fmt: skip


def test_a_small_front_stays_as_it_is() -> None:
    notes = Notes()
    assert thin_members(MEMBERS, 3, notes) == MEMBERS
    assert notes.messages == []


def test_a_large_front_is_thinned_and_what_is_left_is_said() -> None:
    notes = Notes()
    assert [one.trial for one in thin_members(MEMBERS, 2, notes)] == [5, 7]
    # 4.5 + .5 x 1 x 1 of 3.6 + 2.5 + .1.
    assert notes.messages == [
        "3 teams are dominated by none; the 2 that hold 80.6 % of their hypervolume go on ([search] front takes more)"
    ]


def test_teams_that_retain_nothing_hold_no_hypervolume() -> None:
    nothing = [member(trial, -0.1 * trial, pair=cost(100, 400)) for trial in (1, 2)]
    notes = Notes()
    assert [one.trial for one in thin_members(nothing, 1, notes)] == [1]
    assert "100.0 %" in notes.messages[0]


@pytest.fixture
def lucky(write_study: WriteStudy, tmp_path: Path) -> Objective:
    """A team of 6 units retains .7 in all of 128 episodes, and a dearer one of 8 units .85 in the 32 that it played."""
    episodes = {"search_episodes": 128, "first_episodes": 32}
    path = write_study("plain", **{"distill.rungs": [1.0], "evaluation": episodes})
    objective = pretend(open_study(read_study(path, budget=["flops<=96"])), tmp_path / "run")
    ask(objective, 6, 6)
    finish(objective)
    assert isinstance(objective.workers, Pretended)
    objective.workers.other["team 8-8 of 32 episodes"] = 4.5
    ask(objective, 8, 8)
    finish(objective)
    scores = [trial.user_attrs["score"]["retention"] for trial in objective.drafts.stored.get_trials()]
    assert [score["episodes"] for score in scores] == [128, 32]
    log_of(objective).clear()
    return objective


@pytest.mark.parametrize(
    ("rest", "front"),
    [
        (4.5, {0: 0.7, 1: 0.85}),
        (3.0, {0: 0.7}),  # (32 x 4.5 + 96 x 3) / 128 = 3.375 retains .5125, for more
    ],
)
def test_who_is_on_the_front_plays_all_episodes(lucky: Objective, rest: float, front: dict[int, float]) -> None:
    assert isinstance(lucky.workers, Pretended)
    lucky.workers.other["team 8-8 of 96 episodes"] = rest
    for _ in range(2):  # and once only
        members = best_members(lucky, lucky.drafts.stored, lucky.gate, Notes())
        assert {one.trial: one.score.retention.mean for one in members} == pytest.approx(front)
        assert all(one.score.retention.episodes == 128 for one in members)
    assert log_of(lucky) == ["team 8-8 of 96 episodes"]


def test_who_cannot_play_the_rest_is_left_out(lucky: Objective) -> None:
    assert isinstance(lucky.workers, Pretended)
    lucky.workers.outcomes["team 8-8 of 96 episodes"] = WorkerLostError("the worker process died")
    notes = Notes()
    assert [one.trial for one in best_members(lucky, lucky.drafts.stored, lucky.gate, notes)] == [0]
    assert notes.messages == ["trial 1 is left out of the front: the worker process died"]


def test_who_cannot_play_the_final_episodes_is_left_out(lucky: Objective, tmp_path: Path) -> None:
    assert isinstance(lucky.workers, Pretended)
    lucky.workers.other["team 8-8 of 96 episodes"] = 4.5
    members = best_members(lucky, lucky.drafts.stored, lucky.gate, Notes())
    run, notes = open_run(tmp_path / "run", lucky.setup, None), Notes()
    for who, returned in (("teacher", TEACHER), ("random", RANDOM)):
        run.returns.keep(f"final-{who}", np.full(64, returned))
    lucky.workers.outcomes["team 6-6 of 64 episodes"] = StudentError("the rewards are NaN")
    assert [one.trial for one in score_finally(lucky, run, members, notes)] == [1]
    assert notes.messages[0] == "trial 0 is left out of the front: the rewards are NaN"
    lucky.workers.outcomes["team 8-8 of 64 episodes"] = WorkerLostError("the worker process died")
    with pytest.raises(RunError, match="none of the 2 teams of the front could play the final episodes"):
        score_finally(lucky, run, members, notes)
    run.close()


def test_a_team_that_was_told_twice_plays_the_rest_once(lucky: Objective) -> None:
    ask(lucky, 8, 8)
    assert len(lucky.drafts.stored.get_trials()) == 3
    log_of(lucky).clear()
    assert isinstance(lucky.workers, Pretended)
    lucky.workers.other["team 8-8 of 96 episodes"] = 3.0
    assert [one.trial for one in best_members(lucky, lucky.drafts.stored, lucky.gate, Notes())] == [0]
    assert log_of(lucky) == ["team 8-8 of 96 episodes"]
