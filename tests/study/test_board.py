from collections.abc import Callable

import numpy as np
import pytest

from kdnas.budgets import TeamCost, parse_budget
from kdnas.errors import BudgetError
from kdnas.study.board import Board, Option, price_options
from kdnas.study.prediction import Correction

from .conftest import Home, mlp
from .test_selector import cost

TEACHER = TeamCost(agents={"pair": cost(10_000, 40_000), "solo": cost(10_000, 40_000)}, seats={"pair": 2, "solo": 1})
"""60,000 FLOPs and 120,000 bytes."""


def option(units: int, loss: float, macs: int, memory: int) -> Option:
    return Option(spec=mlp("float", units), loss=loss, cost=cost(macs, memory))


OPTIONS = {
    "pair": (option(8, 0.1, 100, 400), option(16, 0.04, 200, 800)),
    "solo": (option(8, 0.3, 100, 400), option(16, 0.02, 200, 800), option(32, 0.01, 400, 1600)),
}


def board(*budget: str, correction: Correction | None = None) -> Board:
    return Board(OPTIONS, budget=parse_budget(budget), teacher=TEACHER, correction=correction)


def test_a_team_by_hand() -> None:
    outcome = board("team.flops<=1k", "team.memory<1%", "flops<1").outcome((1, 2))
    # Lost are 0.04 and 0.01; two seats of 200 MACs and one of 400 are 1,600 FLOPs, and 2 x 800 + 1,600 bytes.
    assert outcome.objectives == pytest.approx((0.95, 1600, 3200))
    # 1,600 of 1,000; 3,200 of 1,200. What is said of single agents is not looked at.
    assert outcome.violations == pytest.approx({"team.flops<=1000": 0.6, "team.memory<1%": 3200 / 1200 - 1})
    assert not outcome.feasible
    assert board("team.flops<=1600").outcome((1, 2)).feasible
    assert not board("team.flops<1600").outcome((1, 2)).feasible
    assert board().outcome((1, 2)).violations == {}


def test_it_agrees_with_the_gate(make_home: Callable[..., Home]) -> None:
    """Sums of the board and the gate's verdict on the same candidates, of every kind of limit on teams."""
    home = make_home()
    texts = ("team.flops<=60%", "team.memory<6KiB", "team.latency<150us", "team.bops<1M")
    gate = home.gate(*texts)
    losses = {group: dict.fromkeys(own.parameters, 0.0) for group, own in home.space.groups.items()}
    # Larger is better, so that no option is beaten.
    for own in losses.values():
        own.update({spec: 1 / sum(spec.hidden) / spec.bits.weight for spec in own})
    made = Board(price_options(gate, losses), budget=gate.budget, teacher=gate.pricer.teacher_cost())
    assert [len(own) for own in made.options.values()] == [6, 6]
    seen = set()
    for team in [(one, other) for one in range(6) for other in range(6)]:
        verdict, outcome = gate.judge(made.candidate(team), measure_all=True), made.outcome(team)
        assert outcome.violations == pytest.approx(dict(verdict.violations))
        assert outcome.objectives[1:] == (verdict.cost.team.flops, verdict.cost.team.memory_bytes)
        seen.add(outcome.feasible)
    assert seen == {True, False}


def test_the_correction_is_applied_to_the_sum() -> None:
    correction = Correction(shift=0.01, steeper=1.0, error=0.0, teams=8)
    # 0.95 + 0.01 - 1.0 x 0.05.
    assert board(correction=correction).outcome((1, 2)).objectives[0] == pytest.approx(0.91)


def test_candidates_and_places() -> None:
    made = board()
    assert made.candidate((1, 2)) == {"pair": mlp("float", 16), "solo": mlp("float", 32)}
    assert made.team({"solo": mlp("float", 32), "pair": mlp("float", 16)}) == (1, 2)
    assert made.team({"pair": mlp("float", 64), "solo": mlp("float", 32)}) is None


def test_options_that_another_beats_are_left_out() -> None:
    beaten = option(24, 0.05, 200, 800)  # loses more than 16 units at the same price
    equal = option(12, 0.04, 200, 800)
    less_memory = option(28, 0.05, 200, 799)
    options = {**OPTIONS, "pair": (*OPTIONS["pair"], beaten, equal, less_memory)}
    made = Board(options, budget=parse_budget([]), teacher=TEACHER)
    assert made.options["pair"] == (*OPTIONS["pair"], less_memory)
    # What a limit speaks of counts as a price too: here of latency, of which the beaten one takes less.
    quick = Option(spec=mlp("float", 24), loss=0.05, cost=cost(200, 800, latency_us=9))
    options = {**OPTIONS, "pair": (*OPTIONS["pair"], quick)}
    kept = [
        len(Board(options, budget=parse_budget(budget), teacher=TEACHER).options["pair"])
        for budget in ([], ["latency<1ms"], ["team.latency<1ms"])
    ]
    assert kept == [2, 2, 3]


def test_shares_are_of_the_teacher_and_of_limits() -> None:
    pair, solo = board("team.latency<40us").shares()
    # Latency, FLOPs, memory: 2 x 10 us of 40; 2 x 200 and 2 x 400 of 60,000; 2 x 400 and 2 x 800 of 120,000.
    assert np.sort(pair, 0) == pytest.approx(np.sort([[0.5, 0.5], [1 / 150, 1 / 75], [1 / 150, 1 / 75]], 0))
    assert solo.shape == (3, 3)


def test_options_are_priced_and_held_against_the_limits_on_agents(make_home: Callable[..., Home]) -> None:
    gate = make_home().gate("flops<1k", "pair.memory<1kB", "team.flops<1")
    own = {mlp("float", 16): 0.1, mlp("w4a8i8", 64): 0.0, mlp("w4a8i8", 16): 0.2}
    options = price_options(gate, {"pair": own, "solo": own})
    # 16 units take 736 FLOPs, 64 four times as many; 16 float ones 1,692 bytes, of 4 bits 460 (`test_gate`).
    assert [each.spec for each in options["pair"]] == [mlp("w4a8i8", 16)]
    assert [(each.spec, each.loss, each.cost.flops) for each in options["solo"]] == [
        (mlp("w4a8i8", 16), 0.2, 736),
        (mlp("float", 16), 0.1, 736),
    ]


@pytest.mark.parametrize(("limit", "measured"), [("team.memory<1MB", False), ("team.latency<1ms", True)])
def test_latency_is_measured_only_where_a_limit_speaks_of_it(
    make_home: Callable[..., Home], limit: str, measured: bool
) -> None:
    home = make_home()
    options = price_options(home.gate(limit), {"pair": {mlp("float", 16): 0.1}})
    assert ("mlp 16 float" in home.target.asked) is measured
    assert (options["pair"][0].cost.latency_p95_s > 0) is measured


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(BudgetError, match="the teacher's flash of 'team' is 0"):
        board("team.flash<10%")
