from dataclasses import replace

import pytest

from kdnas.report.limits import describe_limit
from kdnas.study.limits import Limit

BINDING = Limit(
    text="flops<5%", used=0.98, trial=7, tried=0.98, reached=True, rejected=60, broke=55, broke_only=41
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "flops<5% binds: the front's most expensive student (trial 7) uses 98 % of it; 41 of 60 rejected "
            "candidates broke only it",
        ),
        (
            {"broke_only": 0},
            "flops<5% binds together with others: the front's most expensive student (trial 7) uses 98 % of it; 55 of "
            "60 rejected candidates broke it, all of them others too",
        ),
        (
            {"used": 0.4321, "tried": 0.9, "reached": False},
            "flops<5% leaves room: the front's most expensive student (trial 7) uses 43.2 % of it, and others that "
            "were tried up to 90 %; 41 of 60 rejected candidates broke only it",
        ),
        (
            {"used": 0.0034, "broke": 0, "broke_only": 0},
            "flops<5% leaves room: the front's most expensive student (trial 7) uses 0.34 % of it; none of 60 rejected "
            "candidates broke it",
        ),
        (
            {"rejected": 0, "broke": 0, "broke_only": 0},
            "flops<5% leaves room: the front's most expensive student (trial 7) uses 98 % of it; no candidate was "
            "rejected",
        ),
    ],
)
def test_one_sentence(changes: dict[str, float], said: str) -> None:
    assert describe_limit(replace(BINDING, **changes)) == said
