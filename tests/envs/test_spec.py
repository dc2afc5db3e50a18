import pytest

from kdnas.envs import AgentSpec, Entities, EntitySet, EnvSpec, View, make_groups
from kdnas.errors import ConfigError
from kdnas.policies.actions import Box, Discrete, MultiDiscrete

SMALL = AgentSpec(observation_size=3, actions=Discrete(3))
LARGE = AgentSpec(observation_size=11, actions=Discrete(5))


def test_per_agent_gives_each_agent_its_own_network() -> None:
    assert make_groups("per-agent", {"a": SMALL, "b": SMALL}) == {"a": ("a",), "b": ("b",)}


@pytest.mark.parametrize(
    ("agents", "groups"),
    [
        # Named after what the names have in common, without the number.
        ({"agent_0": SMALL, "agent_1": SMALL}, {"agent": ("agent_0", "agent_1")}),
        ({"agent_10": SMALL, "agent_11": SMALL}, {"agent": ("agent_10", "agent_11")}),
        ({"speaker_0": SMALL, "listener_0": LARGE}, {"speaker_0": ("speaker_0",), "listener_0": ("listener_0",)}),
        # Nothing in common: the first agent's name.
        ({"cat": SMALL, "dog": SMALL}, {"cat": ("cat", "dog")}),
        # Two kinds with one stem: the second is named after its first agent.
        ({"a_0": SMALL, "a_1": SMALL, "a_2": LARGE, "a_3": LARGE}, {"a": ("a_0", "a_1"), "a_2": ("a_2", "a_3")}),
        # The stem is the name of an agent of another kind, which keeps it wherever it stands.
        ({"a_0": SMALL, "a_1": SMALL, "a": LARGE}, {"a_0": ("a_0", "a_1"), "a": ("a",)}),
        ({"a": LARGE, "a_0": SMALL, "a_1": SMALL}, {"a": ("a",), "a_0": ("a_0", "a_1")}),
        # The stem is the word by which budgets sum over agents.
        ({"team_0": SMALL, "team_1": SMALL}, {"team_0": ("team_0", "team_1")}),
    ],
)
def test_by_kind_groups_equal_spaces(agents: dict[str, AgentSpec], groups: dict[str, tuple[str, ...]]) -> None:
    assert make_groups("by-kind", agents) == groups


def test_masks_are_part_of_the_kind() -> None:
    masked = AgentSpec(observation_size=3, actions=Discrete(3), masked=True)
    assert make_groups("by-kind", {"a": SMALL, "b": masked}) == {"a": ("a",), "b": ("b",)}


def test_a_table_is_taken_as_it_is() -> None:
    agents = {"a": SMALL, "b": LARGE, "c": SMALL}
    assert make_groups({"ends": ["c", "a"], "middle": ["b"]}, agents) == {"ends": ("c", "a"), "middle": ("b",)}


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("by-kin", "env.groups = 'by-kin': did you mean 'by-kind'? (known: by-kind, per-agent), or a table"),
        ({"team": ["a", "b", "c"]}, "env.groups: 'team' is a reserved name"),
        ({"one": []}, "env.groups.one: a group needs at least one agent"),
        ({"one": ["a", "bb"]}, "env.groups.one: no agent 'bb': did you mean 'b'?"),
        ({"one": ["a"], "two": ["c", "a"]}, "env.groups: 'a' is in two groups, 'one' and 'two'"),
        ({"one": ["a", "b"]}, "env.groups.one: 'a' and 'b' have different spaces"),
        ({"one": ["a"]}, "env.groups: b, c in no group; every agent needs exactly one"),
    ],
)
def test_a_wrong_group_map_is_refused(rule: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_groups(rule, {"a": SMALL, "b": LARGE, "c": SMALL})
    assert str(caught.value).startswith(sentence)


def test_an_agent_called_team_needs_a_table() -> None:
    with pytest.raises(ConfigError, match="reserved name"):
        make_groups("per-agent", {"team": SMALL})


def test_a_spec_knows_seats_and_spaces_of_its_groups() -> None:
    spec = EnvSpec(
        name="toy",
        agents={"a": SMALL, "b": LARGE, "c": SMALL},
        groups={"ends": ("a", "c"), "middle": ("b",)},
        state_size=17,
    )
    assert spec.seats == {"ends": 2, "middle": 1}
    assert spec.group_spec("middle") == LARGE
    assert spec.actions == {"ends": Discrete(3), "middle": Discrete(5)}
    assert {group: spec.student_spec(group) for group in spec.groups} == {"ends": SMALL, "middle": LARGE}


def test_students_of_a_group_may_see_less() -> None:
    spec = EnvSpec(
        name="toy",
        agents={"a": SMALL, "b": LARGE},
        groups={"small": ("a",), "large": ("b",)},
        state_size=14,
        views={"large": View(observation_size=11, own=(0, 2, 5, 10))},
    )
    assert spec.student_spec("large") == AgentSpec(observation_size=4, actions=Discrete(5))
    assert spec.group_spec("large") == LARGE
    assert spec.student_spec("small") == SMALL


def test_actions_are_part_of_the_kind() -> None:
    kinds = [Discrete(3), MultiDiscrete((3,)), Box((0.0,), (1.0,)), Box((0.0,), (2.0,)), Discrete(3)]
    agents = {name: AgentSpec(observation_size=3, actions=kind) for name, kind in zip("abcde", kinds, strict=True)}
    assert make_groups("by-kind", agents) == {"a": ("a", "e"), "b": ("b",), "c": ("c",), "d": ("d",)}


WALLS = Entities(own=(0, 2), sets=(EntitySet(name="walls", members=((3,), (5,))),))


def test_constant_features_are_seen_and_not_read() -> None:
    spread = AgentSpec(observation_size=18, actions=Discrete(5), masked=True, constant=(14, 15, 16, 17))
    assert spread.kept == tuple(range(14))
    assert spread.inputs == AgentSpec(observation_size=14, actions=Discrete(5), masked=True)
    assert (SMALL.kept, SMALL.inputs) == ((0, 1, 2), SMALL)
    # Of 0 to 5 are left 2, 3, 4 and 5, in these places.
    spaces = AgentSpec(observation_size=6, actions=Discrete(3), entities=WALLS, constant=(0, 1))
    assert spaces.inputs.entities == Entities(own=(0,), sets=(EntitySet(name="walls", members=((1,), (3,))),))


@pytest.mark.parametrize(
    ("constant", "said"),
    [
        ((6,), r"constant: features are counted from 0 to 5, each once and in ascending order, but got \[6\]"),
        ((-1, 0), r"from 0 to 5, .* but got \[-1, 0\]"),
        ((1, 0), r"in ascending order, but got \[1, 0\]"),
        ((1, 1), r"each once and in ascending order, but got \[1, 1\]"),
        (tuple(range(6)), r"constant: all 6 features; a student reads at least one"),
        ((1, 5), r"constant: feature 5 is one of the entities 'walls', which are read alike; keep it"),
    ],
)
def test_constant_features_that_cannot_be_left_out(constant: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AgentSpec(observation_size=6, actions=Discrete(3), entities=WALLS, constant=constant)


def test_pruned_features_are_seen_and_not_read() -> None:
    spaces = AgentSpec(observation_size=6, actions=Discrete(3), entities=WALLS, constant=(1,))
    fewer = spaces.reading((0, 3, 4))
    assert (fewer.constant, fewer.pruned, fewer.kept) == ((1,), (2, 5), (0, 3, 4))
    # What is left of the walls is no entity.
    assert fewer.inputs == AgentSpec(observation_size=3, actions=Discrete(3))
    assert (fewer.reads_all, spaces.reads_all, SMALL.reads_all) == (False, False, True)
    assert spaces.reading(spaces.kept) == spaces
    assert fewer.reading((3,)).pruned == (0, 2, 4, 5)


@pytest.mark.parametrize(
    ("pruned", "said"),
    [
        ((6,), r"pruned: features are counted from 0 to 5, .* but got \[6\]"),
        ((3, 2), r"in ascending order, none of them constant, but got \[3, 2\]"),
        ((2, 2), r"each once .* but got \[2, 2\]"),
        ((1,), r"none of them constant, but got \[1\]"),
        ((0, 2, 3, 4, 5), "pruned: all 5 features that change; a student reads at least one"),
    ],
)
def test_features_that_nobody_can_be_pruned_of(pruned: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AgentSpec(observation_size=6, actions=Discrete(3), constant=(1,), pruned=pruned)


def test_constant_features_are_counted_in_what_students_see() -> None:
    spec = EnvSpec(
        name="toy",
        agents={"a": SMALL, "b": LARGE},
        groups={"small": ("a",), "large": ("b",)},
        state_size=14,
        views={"large": View(observation_size=11, own=(0, 2, 5, 10))},
        constant={"large": (3,)},
    )
    assert spec.student_spec("large") == AgentSpec(observation_size=4, actions=Discrete(5), constant=(3,))
    assert spec.student_spec("large").inputs.observation_size == 3
    assert (spec.group_spec("large"), spec.student_spec("small")) == (LARGE, SMALL)
