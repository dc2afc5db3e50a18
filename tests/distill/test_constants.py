import numpy as np
import pytest
from numpy.typing import ArrayLike

from kdnas.distill import Pool
from kdnas.distill.constants import constant_features
from kdnas.envs import AgentSpec, Entities, EntitySet
from kdnas.policies.actions import Discrete
from kdnas.teachers.episodes import Episodes, GroupRecord


def pool(features: int, entities: Entities | None = None) -> Pool:
    spaces = AgentSpec(observation_size=features, actions=Discrete(2), entities=entities)
    return Pool(name="a", groups=("a", "b"), spaces=spaces, teacher_digest="")


def seen(views: ArrayLike, alive: ArrayLike | None = None) -> GroupRecord:
    """One agent in one episode of views (T, V)."""
    rows = np.array(views, np.float32)[None, :, None]
    lived = np.ones(rows.shape[:3], np.bool_) if alive is None else np.array(alive, np.bool_)[None, :, None]
    nothing = np.zeros((*rows.shape[:3], 2), np.float32)
    return GroupRecord(observations=rows, parameters=nothing, alive=lived, rewards=nothing[..., 0])


def found(a: GroupRecord, b: GroupRecord, entities: Entities | None = None) -> tuple[int, ...]:
    episodes = Episodes(groups={"a": a, "b": b}, state=np.zeros((1, 1, 1), np.float32))
    return constant_features(episodes, pool(a.views.shape[-1], entities))


def test_constant_is_what_is_equal_in_all_groups_of_a_pool() -> None:
    # 0 changes; 1 changes in the second group alone; 2 is constant in each group, and tells one from the other; 3 and 5
    # never change; 4 changes in its last bit.
    last = np.nextafter(np.float32(0.5), np.float32(1))
    first = seen([[1, 7, 0, -2, 0.5, 0], [2, 7, 0, -2, 0.5, 0]])
    second = seen([[1, 7, 1, -2, 0.5, 0], [2, 8, 1, -2, last, 0]])
    assert found(first, second) == (3, 5)
    assert found(first, first) == (1, 2, 3, 4, 5)


def test_nothing_constant() -> None:
    record = seen([[1, 2], [2, 1]])
    assert found(record, record) == ()
    # NaN is equal to nothing.
    record = seen([[1, np.nan], [2, np.nan]])
    assert found(record, record) == ()


def test_what_nobody_lived_to_see_does_not_count() -> None:
    record = seen([[1, 5], [2, 5], [0, 0]], alive=[True, True, False])
    assert found(record, record) == (1,)


def test_one_feature_is_left_where_all_are_constant() -> None:
    record = seen([[3, 4, 5], [3, 4, 5]])
    assert found(record, record) == (1, 2)


@pytest.mark.parametrize("own", [(0, 1), ()])
def test_members_of_entities_stay_whole(own: tuple[int, ...]) -> None:
    entities = Entities(own=own, sets=(EntitySet(name="walls", members=((2,), (3,))),))
    record = seen([[1, 5, 6, 1, 8], [2, 5, 6, 2, 8]])
    assert found(record, record, entities) == (1, 4)
