import tomllib

import numpy as np
import pytest

from kdnas.config.observe import ObserveTable
from kdnas.config.toml import validate
from kdnas.envs import AgentSpec, Entities, EntitySet
from kdnas.envs.mpe_twin import SpreadTwin
from kdnas.envs.observe import make_view, make_views
from kdnas.errors import ConfigError
from kdnas.policies.actions import Discrete

SPREAD = AgentSpec(observation_size=18, actions=Discrete(5))
ENTITIES = """
[entities]
own = "0-3"
[entities.landmarks]
members = ["4-5", "6-7", "8-9"]
position = [0, 1]
[entities.others]
members = ["10-11", "12-13"]
position = [0, 1]
"""


def table(text: str, entities: str = ENTITIES) -> ObserveTable:
    return validate(tomllib.loads(f"{text}\n{entities}"), ObserveTable, where="f")


def test_simple_spread_with_the_nearest_of_each_kind() -> None:
    view = make_view(table("nearest = { landmarks = 1, others = 1 }"), SPREAD)
    assert view.size == 4 + 2 + 2
    assert view.entities == Entities(
        own=(0, 1, 2, 3),
        sets=(EntitySet(name="landmarks", members=((4, 5),)), EntitySet(name="others", members=((6, 7),))),
    )
    shown = SpreadTwin().reset([3, 4, 5])
    for rows in shown.observations.values():
        for row, seen in zip(rows, view(rows[:, None])[:, 0], strict=True):
            landmarks, others = row[4:10].reshape(3, 2), row[10:14].reshape(2, 2)
            np.testing.assert_array_equal(seen[:4], row[:4])
            np.testing.assert_array_equal(seen[4:6], landmarks[np.hypot(*landmarks.T).argmin()])
            np.testing.assert_array_equal(seen[6:], others[np.hypot(*others.T).argmin()])


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("", tuple(range(18))),
        ("keep = ['2-4', 0]", (0, 2, 3, 4)),
        ("drop = ['2-16']", (0, 1, 17)),
    ],
)
def test_features_are_kept_and_dropped_in_the_environment_s_order(text: str, own: tuple[int, ...]) -> None:
    view = make_view(table(text, entities=""), SPREAD)
    assert (view.own, view.sets) == (own, ())


def test_features_of_no_entity_are_not_seen() -> None:
    # 18 without the four of the others' silence.
    assert make_view(table(""), SPREAD).size == 14


def test_members_are_dropped_whole_or_by_the_same_features() -> None:
    # Without the third landmark, without x of the others, and without the agent's velocity.
    view = make_view(table("drop = [0, 1, 8, 9, 10, 12]\nnearest = { others = 1 }"), SPREAD)
    assert view.own == (2, 3)
    assert [each.members for each in view.sets] == [((4, 5), (6, 7)), ((11,), (13,))]
    # What is near is judged by both coordinates all the same.
    assert view.sets[1].positions == ((10, 11), (12, 13))
    assert make_view(table("keep = ['0-9']"), SPREAD).sets[0].name == "landmarks"
    assert len(make_view(table("keep = ['0-9']"), SPREAD).sets) == 1


def test_a_radius_is_for_all_sets_or_for_one() -> None:
    # Three landmarks and two others, each with a flag; then the landmarks' only.
    assert make_view(table("radius = 0.5"), SPREAD).size == 14 + 5
    assert make_view(table("radius = { landmarks = 0.5 }"), SPREAD).size == 14 + 3


def test_the_environment_may_have_declared_its_entities() -> None:
    declared = Entities(own=(0,), sets=(EntitySet(name="things", members=((1,), (2,))),))
    spaces = AgentSpec(observation_size=4, actions=Discrete(2), entities=declared)
    assert make_view(table("drop = [0]", entities=""), spaces).entities == Entities(
        own=(), sets=(EntitySet(name="things", members=((0,), (1,))),)
    )


@pytest.mark.parametrize(
    ("text", "entities", "sentence"),
    [
        ("keep = ['16-18']", "", "keep names feature 18, but the observation has 18 features, 0 to 17"),
        ("drop = [18]", "", "drop names feature 18, but the observation has 18 features, 0 to 17"),
        ("drop = ['0-17']", "", "nothing is left to be seen"),
        ("nearest = { a = 1 }", "", "nearest and radius need entities: declare them in"),
        ("radius = 1.0", "", "nearest and radius need entities: declare them in"),
        ("nearest = { landmark = 1 }", ENTITIES, "nearest: no set of entities 'landmark': did you mean 'landmarks'?"),
        ("radius = { other = 1 }", ENTITIES, "radius: no set of entities 'other': did you mean 'others'?"),
        (
            "nearest = { landmarks = 4 }",
            ENTITIES,
            "entities 'landmarks': the 4 nearest are to be seen, but there are 3",
        ),
        ("keep = [14]", ENTITIES, "keep names feature 14, which belongs to no entity"),
        ("drop = [4]", ENTITIES, "entities 'landmarks': keep and drop must leave the same features of each member"),
        ("keep = ['0-9']\nnearest = { others = 1 }", ENTITIES, "nearest: keep and drop leave nothing of .*'others'"),
        ("radius = 1.0", "[entities.a]\nmembers = [[1], [2]]", "entities 'a': nearest and radius need .*position ="),
        ("", "[entities.a]\nmembers = [[1], ['2-3']]", "'a' has members of 1 and 2 features"),
        ("", "[entities.a]\nmembers = [[1], [18]]", "feature 18 is declared, but the observation has 18 features"),
        ("", "[entities.a]\nmembers = [[1], [1]]", "feature 1 stands twice"),
        ("", "[entities.a]\nmembers = [[1]]\nposition = [1]", "entities.a.position names feature 1 .* 0 to 0"),
    ],
)
def test_what_does_not_fit_is_one_sentence(text: str, entities: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        make_views({"default": table(text, entities)}, {"a": SPREAD}, {"ones": ("a",)})
    assert str(caught.value).startswith("observe.default: group 'ones': ")
    assert "\n" not in str(caught.value)


def test_a_group_s_own_table_wins() -> None:
    agents, groups = dict.fromkeys("abc", SPREAD), {"left": ("a", "b"), "right": ("c",)}
    own, default = table("keep = [0]", ""), table("keep = [1]", "")
    views = make_views({"default": default, "left": own}, agents, groups)
    assert {group: view.own for group, view in views.items()} == {"left": (0,), "right": (1,)}
    assert list(make_views({"left": own}, agents, groups)) == ["left"]
    with pytest.raises(ConfigError, match=r"observe\.rigt: no group 'rigt': did you mean 'right'"):
        make_views({"rigt": own}, agents, groups)
