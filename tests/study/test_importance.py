from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fronts import new_study, tell

from kdnas.spaces import BaseTable, GroupTable, SearchSpace, SpaceConfig, make_space
from kdnas.study.front import ParetoFront
from kdnas.study.importance import ENOUGH, Importance, read_importance, weigh_parameters

from .conftest import Notes

BITS = ["float", "w8a8i8", "w6a8i8", "w4a8i8", "w2a8i8"]
RATIOS = [0.25, 0.5]
LIMITS = ["flops<2000"]


def space(*groups: str) -> SearchSpace:
    """Two bases, one of which has a ratio to choose, and five number formats."""
    bases = (BaseTable(hidden=(8, 4), prune=(0.0,)), BaseTable(hidden=(16,), prune=tuple(RATIOS)))
    table = GroupTable(bases=bases, bits=tuple(BITS))
    return make_space(SpaceConfig(name="home", groups={"default": table}), list(groups))


def chosen(base: int, bits: str, ratio: float | None = None, group: str = "pair") -> dict[str, tuple[list[Any], Any]]:
    own: dict[str, tuple[list[Any], Any]] = {f"{group}.base": ([0, 1], base), f"{group}.bits": (BITS, bits)}
    if base == 0:
        return own | {f"{group}.0.prune.{layer}": ([0.0], 0.0) for layer in (0, 1)}
    return own | {f"{group}.1.prune.0": (RATIOS, ratio)}


def weigh(rows: list[tuple[dict[str, tuple[list[Any], Any]], float]], *groups: str, **more: Any) -> Importance:
    study = new_study()
    for parameters, retention in rows:
        tell(study, {LIMITS[0]: -0.1}, retention, parameters)
    return weigh_parameters(study.get_trials(), space(*groups), LIMITS, **more)


HALVES = [
    *((chosen(1, bits, 0.25), 0.9 + place / 100) for place, bits in enumerate(BITS)),
    *((chosen(1, bits, 0.5), 0.8 + place / 100) for place, bits in enumerate(BITS)),
]
"""Ten candidates of base 1: the best five are those of ratio 0.25, one of each format."""


def test_importance_by_hand() -> None:
    """Ten more candidates are of base 0 and retain little; `solo` is of base 0 throughout, with any format.

    The best five of twenty (a quarter) are of base 1 and ratio 0.25, with each format once.
    """
    formats = zip(HALVES, BITS * 2, strict=True)
    rows = [(parameters | chosen(0, other, group="solo"), retention) for (parameters, retention), other in formats]
    for other in (BITS, [*BITS[1:], BITS[0]]):
        pairs = zip(BITS, other, strict=True)
        rows += [(chosen(0, first) | chosen(0, second, group="solo"), 0.1) for first, second in pairs]
    weighed = weigh(rows, "pair", "solo")
    assert weighed.candidates == 20
    ratio, base, bits = weighed.groups["pair"]
    # A Parzen estimate of two choices with one prior: of five times base 1 it is 5/6 x 0.75 + 1/6 x 0.5 = 0.7083, of
    # ten and ten 0.5. The divergence is 2 x 0.5 x (0.7083 / 0.5 - 1)^2 = 0.1736. It is the same for the ratio within
    # base 1, and counts 1^2 / 0.5: all of the best have one, and half of all. Formats are as even as among all.
    assert (ratio.label, base.label, bits.label) == ("16: pruned from layer 1", "base", "bits")
    assert (ratio.share, base.share, bits.share) == pytest.approx((2 / 3, 1 / 3, 0.0), abs=1e-6)
    # All five best of one base by chance: 2 x (10 over 5) / (20 over 5) = 2 x 252 / 15504 = 3.3 %.
    assert base.chance == pytest.approx(0.033, abs=0.03)
    assert bits.chance == 1.0
    assert [(one.label, one.candidates, one.retention) for one in ratio.choices] == [
        ("0.25", 5, pytest.approx(0.92)),
        ("0.5", 5, pytest.approx(0.82)),
    ]
    assert [(one.label, one.candidates) for one in base.choices] == [("mlp 8x4", 10), ("mlp 16", 10)]
    assert [one.label for one in weighed.groups["solo"]] == ["bits"]  # its base was always the same


def test_what_is_alike_everywhere_decides_nothing() -> None:
    rows = [(chosen(0, bits) | chosen(0, other, group="solo"), 0.5) for bits in BITS for other in BITS]
    weighed = weigh(rows, "pair", "solo", shuffles=9)
    assert {(one.share, one.chance) for own in weighed.groups.values() for one in own} == {(0.0, 1.0)}


def test_the_same_candidate_counts_once() -> None:
    weighed = weigh(HALVES * 2, "pair")
    assert weighed == Importance(candidates=10, groups={})
    assert ENOUGH == 20


@pytest.mark.parametrize("told", [{LIMITS[0]: 0.1}, {}])
def test_who_did_not_meet_the_limits_does_not_count(told: dict[str, float]) -> None:
    study = new_study()
    for bits in BITS:
        for other in BITS:
            tell(study, told, 0.5, chosen(0, bits) | chosen(0, other, group="solo"))
    assert weigh_parameters(study.get_trials(), space("pair", "solo"), LIMITS).candidates == 0


def test_a_group_whose_name_begins_anothers() -> None:
    generator = np.random.default_rng(0)
    rows = [
        (chosen(0, bits, group="a") | chosen(0, other, group="a.b"), float(generator.uniform()))
        for bits in BITS
        for other in BITS
    ]
    weighed = weigh(rows, "a", "a.b", shuffles=9)
    assert {group: sorted(one.label for one in own) for group, own in weighed.groups.items()} == {
        "a": ["bits"],
        "a.b": ["bits"],
    }


def test_a_short_search_says_how_many_it_has(finished: tuple[Path, ParetoFront, Notes]) -> None:
    """Widths 8, 6 and 4 for two agents are nine candidates at most."""
    weighed = read_importance(finished[0])
    assert weighed.groups == {}
    assert 0 < weighed.candidates <= 6
