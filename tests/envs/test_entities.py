import pytest

from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import ConfigError
from kdnas.policies.actions import Discrete

LANDMARKS = EntitySet(name="landmarks", members=((4, 5), (6, 7), (8, 9)))
OTHERS = EntitySet(name="others", members=((10, 11), (12, 13)))
SPREAD = Entities(own=(0, 1, 2, 3), sets=(LANDMARKS, OTHERS))


def test_features_stand_in_the_order_of_the_declaration() -> None:
    assert SPREAD.features == tuple(range(14))
    assert Entities(own=(), sets=(OTHERS, LANDMARKS)).features == (10, 11, 12, 13, 4, 5, 6, 7, 8, 9)
    assert (LANDMARKS.width, EntitySet(name="walls", members=((0,), (1,))).width) == (2, 1)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ((), "'walls' has no member; leave out an empty set"),
        (((),), "'walls' has members of 0 features"),
        (((0, 1), (2,)), "'walls' has members of 1 and 2 features"),
    ],
)
def test_members_of_a_set_are_equally_long(members: tuple[tuple[int, ...], ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EntitySet(name="walls", members=members)


def test_a_feature_belongs_to_one_entity() -> None:
    with pytest.raises(ConfigError, match=r"entities: feature 3 stands twice; each belongs to one entity"):
        Entities(own=(3,), sets=(EntitySet(name="walls", members=((2, 3),)),))
    with pytest.raises(ConfigError, match=r"entities: a set named 'walls' stands twice"):
        Entities(own=(), sets=tuple(EntitySet(name="walls", members=((index,),)) for index in (0, 1)))
    with pytest.raises(ConfigError, match=r"entities: features are counted from 0, but got -1"):
        Entities(own=(-1,), sets=())


def test_a_declaration_fits_its_observation() -> None:
    assert AgentSpec(observation_size=14, actions=Discrete(5), entities=SPREAD).entities is SPREAD
    with pytest.raises(ConfigError, match=r"feature 13 is declared, but the observation has 13 features, 0 to 12"):
        AgentSpec(observation_size=13, actions=Discrete(5), entities=SPREAD)


def test_agents_of_one_declaration_can_share_a_network_and_keep_it() -> None:
    spaces = [AgentSpec(observation_size=14, actions=Discrete(5), entities=each) for each in (SPREAD, SPREAD, None)]
    assert len({*spaces}) == 2
    env = EnvSpec(name="test", agents={"a": spaces[0]}, groups={"g": ("a",)}, state_size=1)
    assert env.student_spec("g").entities is SPREAD


def test_what_is_left_is_counted_anew() -> None:
    kept = (1, 3, *range(4, 14))  # without the velocity's x and the position's x
    left = SPREAD.keep(kept)
    assert left.own == (0, 1)
    assert left.sets == (
        EntitySet(name="landmarks", members=((2, 3), (4, 5), (6, 7))),
        EntitySet(name="others", members=((8, 9), (10, 11))),
    )
    assert SPREAD.keep(range(14)) == SPREAD
