import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from kdnas.budgets import TeamCost, parse_budget
from kdnas.study import proposer
from kdnas.study.board import Board, Option
from kdnas.study.front import Objectives, hypervolume, non_dominated
from kdnas.study.proposer import explore, propose, rank, starting_teams

from .conftest import mlp
from .test_board import OPTIONS, TEACHER, option
from .test_board import board as small_board
from .test_selector import cost

DECADES = TeamCost(agents={"a": cost(500, 1000)}, seats={"a": 1})
"""1,000 FLOPs and 1,000 bytes."""


def random_board(groups: int, options: int, *budget: str, seed: int = 0) -> Board:
    """Groups of different weight, each with options that lose less the larger they are, give or take a fifth."""
    rng = np.random.default_rng(seed)
    made: dict[str, tuple[Option, ...]] = {}
    for group in range(groups):
        weight = rng.uniform(0.3, 2.0) / groups
        units = np.sort(rng.choice(np.arange(2, 65), options, replace=False)).tolist()
        made[f"group_{group}"] = tuple(
            Option(
                spec=mlp("float", each),
                loss=float(weight * (2 / each) * rng.lognormal(0, 0.2)),
                # Memory of its own, as quantized students have.
                cost=cost(20 * each, int(each * rng.integers(20, 80))),
            )
            for each in units
        )
    teacher = TeamCost(agents={group: cost(20_000, 80_000) for group in made}, seats=dict.fromkeys(made, 1))
    return Board(made, budget=parse_budget(budget), teacher=teacher)


def everything(board: Board) -> list[Objectives]:
    """Feasible teams of a board, all of them."""
    teams = product(*(range(len(own)) for own in board.options.values()))
    return [outcome.objectives for outcome in map(board.outcome, teams) if outcome.feasible]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [(), ("team.flops<=4%", "team.memory<=3%")])
def test_the_front_of_three_groups_is_found(seed: int, budget: tuple[str, ...]) -> None:
    board = random_board(3, 5, *budget, seed=seed)
    whole = everything(board)
    assert 10 < len(whole) <= 125
    assert (len(whole) < np.prod([len(own) for own in board.options.values()])) == bool(budget)
    found = [one.objectives for one in explore(board, starting_teams(board), evaluations=600, seed=0).values()
             if one.feasible]  # fmt: skip
    assert hypervolume(found, board.teacher) >= 0.95 * hypervolume(whole, board.teacher)
    proposed = propose(board, played=[], count=200, evaluations=600, seed=0)
    assert len({one.objectives for one in proposed}) == len(proposed) <= len(whole)
    assert sum(one.improvement for one in proposed) >= 0.95 * hypervolume(whole, board.teacher)


def test_without_good_starts_it_searches_too() -> None:
    board = random_board(3, 12)
    whole = hypervolume(everything(board), board.teacher)

    def share(evaluations: int) -> float:
        found = explore(board, [], evaluations=evaluations, seed=0)
        return hypervolume([one.objectives for one in found.values()], board.teacher) / whole

    shares = [share(50), share(600)]
    assert shares[0] < 0.9
    assert shares[1] > 0.97


def test_the_corners_of_the_front_are_among_the_starts() -> None:
    """Sixteen groups, 30^16 teams: for an exchange rate, the best of them all is each group's own best."""
    board = random_board(16, 30, seed=1)
    starts = starting_teams(board)
    assert len(starts) == len(set(starts)) < 1000
    shares, losses = board.shares(), board.losses()
    for rate, memory in product((0.1, 1.0, 10.0), (0.0, 0.5, 1.0)):
        prices = [rate * ((1 - memory) * own[0] + memory * own[1]) for own in shares]
        best = sum((lost + price).min() for lost, price in zip(losses, prices, strict=True))
        reached = min(
            sum(lost[place] + price[place] for lost, price, place in zip(losses, prices, team, strict=True))
            for team in starts
        )
        assert reached == pytest.approx(best, rel=1e-9)


def test_the_most_frugal_teams_are_among_the_starts() -> None:
    assert (0, 0) in starting_teams(small_board())
    quick = Option(spec=mlp("float", 48), loss=0.3, cost=cost(4000, 20_000, latency_us=1))
    options = {group: (*own, quick) for group, own in OPTIONS.items()}
    board = Board(options, budget=parse_budget(["team.latency<5us"]), teacher=TEACHER)
    assert len(board.options["solo"]) == 4
    # Three agents of 1 us: no other team is feasible.
    proposed = propose(board, played=[], count=5, evaluations=200, seed=0)
    assert [one.candidate for one in proposed] == [{"pair": quick.spec, "solo": quick.spec}]


def test_a_team_limit_that_few_teams_meet_is_learned() -> None:
    board = random_board(8, 12, "team.flops<=2%", "team.memory<=2%", seed=2)
    rng = np.random.default_rng(0)
    drawn = [tuple(int(rng.integers(len(own))) for own in board.options.values()) for _ in range(2000)]
    assert np.mean([board.outcome(team).feasible for team in drawn]) < 0.05
    found = explore(board, [], evaluations=600, seed=0)
    last = [one.feasible for one in found.values()][-100:]
    assert np.mean(last) > 0.7  # 0.83; were violations not told, 0.48


def test_steps_from_the_front_find_what_lies_between_the_starts() -> None:
    board = random_board(16, 30)
    starts = starting_teams(board)

    def front(moves: int) -> set[tuple[int, ...]]:
        found = explore(board, starts, evaluations=1000, seed=0, moves=moves)
        teams = list(found)
        return {teams[place] for place in non_dominated([found[team].objectives for team in teams])}

    assert len(front(25) - set(starts)) > 2 * len(front(0) - set(starts))


def test_what_was_played_or_asked_is_not_proposed() -> None:
    board = small_board()
    first = propose(board, played=[], count=6, evaluations=100, seed=0)
    assert len(first) == 6  # 2 x 3 teams
    played, asked = first[0], first[1].candidate
    again = propose(
        board, played=[(played.candidate, played.objectives)], asked=[asked], count=6, evaluations=100, seed=0
    )
    candidates = [one.candidate for one in again]
    assert len(again) == 4
    assert played.candidate not in candidates
    assert asked not in candidates
    # What was taken out adds to the front as before, so that the rest adds no more than it did.
    assert [one.improvement for one in again] == pytest.approx([one.improvement for one in first[2:]])


def test_played_teams_that_are_not_on_the_board_count() -> None:
    board, stranger = small_board(), {"pair": mlp("float", 64), "solo": mlp("float", 64)}
    best = propose(board, played=[(stranger, (1.0, 1.0, 1.0))], count=3, evaluations=100, seed=0)
    assert [one.improvement for one in best] == [0.0] * 3


def test_the_front_that_was_played_is_begun_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with the starting teams, each of which can be proposed even where nothing else is looked at."""
    begun: list[tuple[int, ...]] = []

    def look(board: Board, starts: Sequence[tuple[int, ...]], *, evaluations: int, seed: int) -> dict[Any, Any]:
        begun.extend(starts)
        return {team: board.outcome(team) for team in starts}

    monkeypatch.setattr(proposer, "explore", look)
    board = small_board()
    team = board.candidate((1, 1))
    proposed = propose(board, played=[(team, (0.9, 1.0, 1.0))], count=9, evaluations=1, seed=0)
    assert begun == [(1, 1), *starting_teams(board)]
    assert [one.candidate for one in proposed if one.candidate == team] == []
    assert len(proposed) == len({*starting_teams(board)} - {(1, 1)})


def test_a_group_without_options_has_no_team() -> None:
    board = Board({**OPTIONS, "solo": ()}, budget=parse_budget([]), teacher=TEACHER)
    assert propose(board, played=[], count=3, evaluations=100, seed=0) == []


def test_nothing_feasible_is_nothing_proposed() -> None:
    board = small_board("team.flops<1")
    assert propose(board, played=[], count=3, evaluations=200, seed=0) == []


def test_a_group_with_one_option_is_no_choice() -> None:
    board = Board({**OPTIONS, "pair": (option(8, 0.1, 100, 400),)}, budget=parse_budget([]), teacher=TEACHER)
    assert len(propose(board, played=[], count=9, evaluations=200, seed=0)) == 3


def test_equal_seeds_propose_equal_teams() -> None:
    board = random_board(4, 10)
    runs = [propose(board, played=[], count=10, evaluations=300, seed=seed) for seed in (0, 0)]
    assert runs[0] == runs[1]


def test_the_order_by_hand() -> None:
    points = [
        (0.5, 10.0, 10.0),  # 0.5 x 2 x 2 decades = 2.0
        (0.9, 100.0, 10.0),  # 0.9 x 1 x 2 = 1.8, of which the first leaves 0.4 x 1 x 2 = 0.8
        (0.8, 100.0, 100.0),  # the second is better
        (0.6, 10.0, 100.0),  # 0.6 x 2 x 1 = 1.2; the first leaves 0.1 x 2 x 1, of which the second takes half
        (0.85, 100.0, 10.0),  # the second is better by less
        (-0.1, 1.0, 1.0),  # retains nothing
    ]
    assert rank(points, [], DECADES, 6) == [
        (0, pytest.approx(2.0)), (1, pytest.approx(0.8)), (3, pytest.approx(0.1)), (4, 0.0), (2, 0.0), (5, 0.0)
    ]  # fmt: skip
    assert [place for place, _ in rank(points, [], DECADES, 2)] == [0, 1]
    # With the first played, the second adds most; the first, asked again, adds nothing and lacks nothing.
    assert rank(points, points[:1], DECADES, 3) == [(1, pytest.approx(0.8)), (3, pytest.approx(0.1)), (0, 0.0)]


def test_the_order_is_greedy() -> None:
    """Against the plain greedy choice, which computes every improvement in every round."""
    rng = np.random.default_rng(0)
    points: list[Objectives] = [
        (float(rng.uniform(0.2, 1)), float(rng.uniform(1, 900)), float(rng.uniform(1, 900))) for _ in range(40)
    ]
    played = points[:8]
    left, base, expected = list(range(8, 40)), list(played), []
    for _ in range(10):
        gains = {place: hypervolume([*base, points[place]], DECADES) - hypervolume(base, DECADES) for place in left}
        best = max(gains, key=lambda place: gains[place])
        if gains[best] < 1e-12:
            break
        expected.append((best - 8, pytest.approx(gains[best])))
        base.append(points[best])
        left.remove(best)
    assert len(expected) > 5
    assert rank(points[8:], played, DECADES, len(expected)) == expected


@pytest.mark.alone
def test_the_cost_grows_about_linearly_in_groups() -> None:
    """Four times the groups: less than eight times the work, where the teams are 30^12 times as many."""

    def seconds(groups: int) -> float:
        board = random_board(groups, 30)
        best = np.inf
        for _ in range(3):
            start = time.process_time()
            propose(board, played=[], count=10, evaluations=300, seed=0)
            best = min(best, time.process_time() - start)
        return best

    seconds(4)  # imports
    assert seconds(16) < 8 * seconds(4)


def test_costs_are_sums_over_seats() -> None:
    proposed = propose(small_board(), played=[], count=6, evaluations=100, seed=0)
    smallest = next(one for one in proposed if one.candidate == small_board().candidate((0, 0)))
    # 3 seats of 100 MACs and 400 bytes; 0.1 and 0.3 are lost.
    assert smallest.objectives == pytest.approx((0.6, 600, 1200))
