from fronts import cost, member

from kdnas.study.finish import thin_members

from .conftest import Notes

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
