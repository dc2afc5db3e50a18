import pytest

from kdnas.study.field import Field
from kdnas.study.race import Standing


def field_of(*retentions: float, reduction: int = 3, margin: float = 0.0) -> Field:
    """Trials 0, 1, ... of one price at rung 0: each is dominated by every better one."""
    field = Field(reduction=reduction, margin=margin)
    for trial, retention in enumerate(retentions):
        field.enter(0, Standing(trial=trial, objectives=(retention, 100.0, 100.0)))
    return field


def test_one_of_so_many_goes_on_rounded_up() -> None:
    assert field_of(0.5).may_go_on(0) == [0]
    assert field_of(0.5, 0.6, 0.4).may_go_on(0) == [1]
    assert field_of(0.5, 0.6, 0.4, 0.3).may_go_on(0) == [1, 0]  # ceil(4 / 3) = 2
    assert field_of(0.5, 0.6, 0.4, 0.3, reduction=4).may_go_on(0) == [1]


def test_who_has_gone_on_keeps_the_place() -> None:
    field = field_of(0.5, 0.6, 0.4)
    field.go_on(0, 1)
    assert field.may_go_on(0) == []
    assert field.promoted == {0: {1}}


def test_a_margin_widens_the_race() -> None:
    assert field_of(0.5, 0.6, 0.4, margin=0.15).may_go_on(0) == [1, 0]
    assert field_of(0.5, 0.6, 0.4, margin=1.0).may_go_on(0) == [1, 0, 2]


def test_who_stands_far_behind_is_out() -> None:
    # Of six two go on, and patience is twice as many: the fifth and the sixth.
    field = field_of(0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    assert field.hopeless(0) == [4, 5]
    # Of two one goes on, and both are within patience.
    assert field_of(0.9, 0.8).hopeless(0) == []
    assert field_of(0.9, 0.8, 0.7).hopeless(0) == [2]


def test_who_has_gone_on_or_may_is_not_out() -> None:
    field = field_of(0.9, 0.8, 0.7)
    field.go_on(0, 2)
    assert field.hopeless(0) == []
    assert field_of(0.9, 0.8, 0.7, margin=0.3).hopeless(0) == []


def test_a_trial_is_compared_with_those_of_its_price_alone() -> None:
    field = field_of(0.9, 0.8, 0.7)
    field.enter(0, Standing(trial=3, objectives=(0.1, 1000.0, 1000.0)))  # a decade dearer: another band
    assert field.hopeless(0) == [2]
    assert field.may_go_on(0) == [0, 3]


def test_rungs_are_apart() -> None:
    field = field_of(0.9, 0.8, 0.7)
    assert field.may_go_on(1) == field.hopeless(1) == []
    field.enter(1, Standing(trial=2, objectives=(0.2, 100.0, 100.0)))
    assert field.may_go_on(1) == [2]
    assert field.hopeless(1) == []


def test_a_trial_stands_once_at_a_rung() -> None:
    field = field_of(0.9, 0.8)
    field.enter(0, Standing(trial=1, objectives=(0.95, 100.0, 100.0)))
    assert field.may_go_on(0) == [1]
    assert field.standings[0][1].objectives[0] == pytest.approx(0.95)
