from collections.abc import Callable

import pytest

from kdnas.errors import BudgetError
from kdnas.study.preflight import RANDOM_CANDIDATES, Preflight, check_budget

from .conftest import TEACHER_MACS, Home, mlp

MakeHome = Callable[..., Home]


def check(home: Home, *budget: str) -> Preflight:
    return check_budget(home.space, home.gate(*budget), seed=0)


def test_corners_and_teacher(make_home: MakeHome) -> None:
    report = check(make_home(), "flops<1k", "team.latency<=96us")
    assert [team.name for team in report.teams] == ["smallest", "median", "largest", "teacher"]
    smallest, _, largest, teacher = report.teams
    assert smallest.candidate == {"pair": mlp("w4a8i8", 16), "solo": mlp("w4a8i8", 16)}
    assert (smallest.cost.team.macs, largest.cost.team.macs) == (3 * 368, 3 * TEACHER_MACS)
    assert (teacher.candidate, teacher.cost.team.macs) == (None, 3 * TEACHER_MACS)
    flops, latency = report.constraints
    assert report.violation(flops, smallest) == pytest.approx(-0.264)
    assert report.violation(flops, teacher) == pytest.approx(2944 / 1000 - 1)
    # The smallest by FLOPs is quantized and takes 52 us a seat, 156 us over 96.
    assert report.violation(latency, smallest) == pytest.approx(0.625)
    assert report.specs_per_group == {"pair": 6, "solo": 6}
    assert report.largest_feasible == {"pair": mlp("float", 16), "solo": mlp("float", 16)}


def test_the_share_of_feasible_candidates(make_home: MakeHome) -> None:
    assert check(make_home()).feasible_share == 1.0
    # 2 of 6 specs in each of two groups: 1 / 9 of the candidates, give or take three deviations of 0.01.
    assert check(make_home(), "flops<1k").feasible_share == pytest.approx(1 / 9, abs=0.03)
    assert check(make_home(), "flops<1k").feasible_share == check(make_home(), "flops<1k").feasible_share
    assert RANDOM_CANDIDATES == 1000


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        # 736 FLOPs of 16 units, whichever group is looked at first.
        (
            ["flops<500"],
            r"no candidate meets 'flops<500': the least that 'pair' can do is 736 \(mlp 16 w4a8i8\), 1.47 times the "
            r"limit of 500; raise the limit or offer smaller students in the search space",
        ),
        (["flops<1k", "solo.flops<=5%"], r"'solo.flops<=5%': the least that 'solo' can do is 736 .*, 5.00 times"),
        # Three agents of 18-16-5 at w4a8i8, 460 bytes each (see test_memory): 1,380.
        (["team.memory<900B"], r"'team.memory<900B': the least that 'team' can do is 1.348 KiB, 1.53 times the limit"),
        (["latency<10us"], r"'latency<1e-05s': .* is 32 us \(mlp 16 float\), 3.20 times the limit of 10 us"),
        (["flops<=736", "team.latency<50us"], r"'team.latency<5e-05s': .* 'team' can do is 96 us, 1.92 times"),
        # Each is met by some student, but fast ones are float and light ones are quantized.
        (
            ["memory<1kB", "latency<40us"],
            r"no candidate was found that meets all of memory<1000B, latency<4e-05s, though each can be met alone: "
            r"mlp 16 w4a8i8 of 'pair', which comes nearest, breaks 'latency<4e-05s' by 30 %; relax one of them",
        ),
        (
            ["team.memory<3kB", "team.latency<100us"],
            r"meets all of team.memory<3000B, team.latency<0.0001s, though .*: the team pair: mlp 16 w4a8i8, solo: "
            r"mlp 16 w4a8i8, which comes nearest, breaks 'team.latency<0.0001s' by 56 %",
        ),
    ],
)
def test_a_budget_that_nothing_meets(make_home: MakeHome, budget: list[str], said: str) -> None:
    with pytest.raises(BudgetError, match=said):
        check(make_home(), *budget)
