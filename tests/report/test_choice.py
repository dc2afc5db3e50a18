from dataclasses import replace
from pathlib import Path

from fronts import cost, member

from kdnas.report.choice import describe_choice
from kdnas.study.front import ParetoFront, make_front


def front(*, episodes: bool) -> ParetoFront:
    """The second is 0.02 below, with an error of 0.01; the third 0.01 below, with one of 0.02 (see test_one_se)."""
    parts = [[1.2, 0.7], [1.17, 0.69], [1.17, 0.71]] if episodes else [None] * 3
    members = [
        member(trial, retention, parts=own, error=0.25, pair=cost(macs, macs))
        for trial, retention, own, macs in zip((1, 2, 3), (0.95, 0.93, 0.94), parts, (300, 100, 200), strict=True)
    ]
    return make_front([replace(one, path=Path(f"run/students/{one.trial:04d}")) for one in members], final=True)


def test_the_student_and_its_folder() -> None:
    assert describe_choice(front(episodes=True), "min flops") == "min flops: trial 2, run/students/0002"


def test_among_how_many_the_cheapest_was_taken() -> None:
    assert describe_choice(front(episodes=True), "one-se") == (
        "one-se: trial 3, run/students/0003; 2 of 3 are within one standard error of trial 1, paired over 10 episodes"
    )
    assert describe_choice(front(episodes=False), "one-se") == (
        "one-se: trial 2, run/students/0002; 3 of 3 are within one standard error of trial 1, by the interval of the "
        "best"
    )
