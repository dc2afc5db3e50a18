import json
from dataclasses import replace

import numpy as np
import pytest

from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.view import SeenSet, View
from kdnas.errors import ConfigError

THINGS = SeenSet(name="things", members=((1, 2), (3, 4), (5, 6)), positions=((1, 2), (3, 4), (5, 6)))
ROW = np.array([9, 3, 4, 0, 1, 0, -1], np.float32)
"""Own 9; things at (3, 4), (0, 1) and (0, -1): at distances 5, 1 and 1."""


def view(**changes: object) -> View:
    return View(observation_size=7, own=(0,), sets=(replace(THINGS, **changes),))


def seen(view: View, row: np.ndarray = ROW, noise: np.ndarray | None = None) -> list[float]:
    """One agent of one copy."""
    shown = view(row[None, None], noise)
    assert shown.shape == (1, 1, view.size)
    assert shown.dtype == np.float32
    return shown[0, 0].tolist()


def test_without_sets_it_is_a_choice_of_features() -> None:
    assert seen(View(observation_size=7, own=(1, 4))) == [3, 1]


def test_all_members_are_shown_in_their_order() -> None:
    assert seen(view()) == [9, 3, 4, 0, 1, 0, -1]


@pytest.mark.parametrize(
    ("k", "row"),
    [
        # Of the two at distance 1, the one declared first.
        (1, [9, 0, 1]),
        (2, [9, 0, 1, 0, -1]),
        (3, [9, 0, 1, 0, -1, 3, 4]),
    ],
)
def test_the_nearest_come_first(k: int, row: list[float]) -> None:
    assert seen(view(nearest=k)) == row


def test_beyond_the_radius_are_zeros_and_a_flag_tells_them_from_here() -> None:
    assert seen(view(radius=2.0)) == [9, 0, 0, 0, 0, 1, 1, 0, -1, 1]
    # 5 is within 5; what is exactly where the agent is is seen.
    assert seen(view(radius=5.0)) == [9, 3, 4, 1, 0, 1, 1, 0, -1, 1]
    assert seen(view(radius=2.0), np.zeros(7, np.float32)) == [0, 0, 0, 1, 0, 0, 1, 0, 0, 1]


def test_the_nearest_may_be_out_of_sight() -> None:
    # Distances 1, 1 and 5; the third nearest is beyond 2.
    assert seen(view(nearest=3, radius=2.0)) == [9, 0, 1, 1, 0, -1, 1, 0, 0, 0]


def test_the_position_need_not_be_shown() -> None:
    # Two members of (kind, x): only the kind is shown, of the nearer one. Distances 2 and 1.
    kinds = SeenSet(name="kinds", members=((0,), (2,)), positions=((1,), (3,)), nearest=1)
    row = np.array([7, -2, 8, 1], np.float32)
    assert seen(View(observation_size=4, own=(), sets=(kinds,)), row) == [8]


def test_noise_is_scaled_and_spares_flags_and_what_is_not_seen() -> None:
    limited = replace(view(nearest=3, radius=2.0), noise=0.5)
    noise = np.arange(1, 11, dtype=np.float32)[None, None]
    # The numbers are 1 to 10, halved; flags stand at places 3, 6 and 9, counted from 0, and member 2 is not seen.
    assert seen(limited, noise=noise) == [9.5, 1, 2.5, 1, 2.5, 2, 1, 0, 0, 0]
    assert seen(replace(view(), noise=0.5), noise=np.full((1, 1, 7), 2, np.float32)) == [10, 4, 5, 1, 2, 1, 0]
    assert seen(limited) == [9, 0, 1, 1, 0, -1, 1, 0, 0, 0]  # without numbers, without noise


def test_rows_do_not_see_each_other() -> None:
    rows = np.random.default_rng(3).normal(size=(5, 4, 7)).astype(np.float32)
    limited = view(nearest=2, radius=1.0)
    together = limited(rows)
    for batch in range(5):
        for agent in range(4):
            assert seen(limited, rows[batch, agent]) == together[batch, agent].tolist()


def test_entities_are_declared_over_what_is_left() -> None:
    others = SeenSet(name="others", members=((7,), (8,)))
    limited = View(observation_size=9, own=(0,), sets=(replace(THINGS, nearest=2, radius=2.0), others))
    # Own 0; two things of x, y and flag; two others of one feature.
    assert limited.size == 9
    assert limited.entities == Entities(
        own=(0,),
        sets=(EntitySet(name="things", members=((1, 2, 3), (4, 5, 6))), EntitySet(name="others", members=((7,), (8,)))),
    )
    assert View(observation_size=7, own=(1, 4)).entities is None


@pytest.mark.parametrize("limited", [View(observation_size=7, own=(2,)), view(nearest=2, radius=0.25)])
def test_json_brings_it_back(limited: View) -> None:
    assert View.from_json(json.loads(json.dumps(limited.as_json()))) == limited


@pytest.mark.parametrize(
    "change",
    [
        {"own": [7]},
        {"own": "0"},
        {"own": [True]},
        {"noise": -1.0},
        {"noise": "0"},
        {"observation_size": 7.0},
        {"sets": [{}]},
        {"size": 7},
        {"own": [], "sets": []},
    ],
)
def test_json_that_is_no_view_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        View.from_json(view().as_json() | change)
    with pytest.raises(ConfigError, match="is not a view"):
        View.from_json({})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"nearest": 4}, "entities 'things': the 4 nearest are to be seen, but there are 3"),
        ({"nearest": 1, "positions": ()}, "entities 'things': nearest and radius need to know where each member is"),
        ({"radius": 1.0, "positions": ()}, "entities 'things': nearest and radius need to know where each member is"),
        ({"radius": -1.0}, "a radius is a finite number above 0, but got -1.0"),
        ({"positions": ((1,), (2,))}, "each of 3 members needs a position"),
        ({"positions": ((1,), (2,), (7,))}, "a position is outside the 7 features"),
        ({"members": ((1, 2), (3, 4), (5,))}, "'things' has members of 1 and 2 features"),
        ({"members": ((1, 2), (3, 4), (5, 7))}, "feature 7 is declared, but the observation has 7 features, 0 to 6"),
    ],
)
def test_sets_that_cannot_be_seen_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        view(**changes)
