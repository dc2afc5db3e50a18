from typing import Any

import numpy as np
import pytest
import torch
from echo import perfect
from torch import Tensor, nn

from kdnas.config.study import DistillTable
from kdnas.distill import Classroom, make_pools, open_classroom
from kdnas.distill.classroom import other_spaces
from kdnas.envs import AgentSpec, BatchedStep, TeamEnv
from kdnas.errors import ConfigError
from kdnas.policies.actions import Box, Discrete, MultiDiscrete
from kdnas.teachers import Episodes, GroupRecord, Reading, Teacher

from .conftest import Half, MakeRoom, demonstrate

TWO, BOX = Discrete(2), Box((-1.0,), (1.0,))


class Nowhere:
    """An environment of which only the spaces are asked."""

    name = "nowhere"
    state_size = 1

    def __init__(self, agents: dict[str, AgentSpec]) -> None:
        self.agents = agents

    def reset(self, seeds: Any) -> BatchedStep:
        raise NotImplementedError

    step = reset

    def close(self) -> None:
        pass


def says(value: float) -> np.ndarray:
    """Logits or means and deviations (1 episode, 1 step, 1 agent, 2), all recognisable."""
    return np.array([[[[value, -value]]]], np.float32)


def lived(parameters: np.ndarray, mask: list[bool] | None = None) -> GroupRecord:
    shape = parameters.shape[:3]
    return GroupRecord(
        observations=np.zeros((*shape, 1), np.float32),
        parameters=parameters,
        alive=np.ones(shape, np.bool_),
        rewards=np.zeros(shape, np.float32),
        masks=None if mask is None else np.broadcast_to(mask, (*shape, len(mask))).copy(),
    )


def room_of(env: TeamEnv, teacher: Teacher, pool: str, **loss: float) -> Classroom:
    recipe = DistillTable(loss=loss)  # type: ignore[arg-type]
    return Classroom(
        env=env, teacher=teacher, pool=make_pools(env.spec, teacher)[pool], recipe=recipe, copies=1, max_steps=1
    )


def test_the_others_stand_in_the_teams_order_after_the_agent_itself() -> None:
    """Two seats of `pair`, one of `solo`, and one continuous agent, whose numbers come in the order of spaces."""
    two, box = AgentSpec(observation_size=1, actions=TWO), AgentSpec(observation_size=1, actions=BOX)
    groups = {"pair": ("a", "b"), "move": ("m",), "solo": ("c",)}
    env = TeamEnv(Nowhere({"a": two, "b": two, "m": box, "c": two}), groups)
    shared, other = nn.Linear(1, 2), nn.Linear(1, 2)
    room = room_of(env, Teacher(env.spec, {"pair": shared, "solo": shared, "move": other}), "pair", relation=1.0)
    assert room.pool.groups == ("pair", "solo")
    records = {
        "pair": lived(np.concatenate([says(1.0), says(2.0)], 2)),
        "move": lived(says(3.0)),
        "solo": lived(says(4.0)),
    }
    lessons = room.lessons(Episodes(groups=records, state=np.zeros((1, 1, 1), np.float32)))
    # Around a: b, m, c; around b: m, c, a; around c: a, b, m. The continuous one says its mean, 3; Box stands before
    # Discrete. Logits are centred: (v, -v) has mean 0.
    assert lessons.others is not None
    assert lessons.others.tolist() == [[3, 2, -2, 4, -4], [3, 4, -4, 1, -1], [3, 1, -1, 2, -2]]
    assert other_spaces(room.pool, env.spec) == [BOX, TWO, TWO]
    assert lessons.parameters[:, 0].tolist() == [1, 2, 4]


def test_the_others_are_centred_on_what_they_may_do() -> None:
    spaces = AgentSpec(observation_size=1, actions=MultiDiscrete((3, 2)), masked=True)
    env = TeamEnv(Nowhere({"a": spaces, "b": spaces}), {"x": ("a",), "y": ("b",)})
    room = room_of(env, Teacher(env.spec, dict.fromkeys("xy", nn.Linear(1, 5))), "x", relation=1.0)
    said = np.array([[[[1, 2, 9, 3, 7]]]], np.float32)
    records = {"x": lived(0 * said, [True] * 5), "y": lived(said, [True, True, False, True, True])}
    lessons = room.lessons(Episodes(groups=records, state=np.zeros((1, 1, 1), np.float32)))
    assert lessons.others is not None
    # (1, 2) less 1.5 and an illegal action, which counts for nothing; (3, 7) less 5. The second track is y's.
    assert lessons.others.tolist() == [[-0.5, 0.5, 0, -2, 2], [0, 0, 0, 0, 0]]


def test_columns_are_there_when_they_are_asked_for(make_room: MakeRoom) -> None:
    columns = {}
    for name, loss in {
        "plain": {},
        "advantages": {"advantage_beta": 1.0},
        "others": {"relation": 1.0},
        "roles": {"role": 1.0, "role_size": 2},
    }.items():
        room = make_room(loss=loss)
        columns[name] = room.lessons(demonstrate(room.env, room.teacher)).columns
    base = {"views", "parameters", "position"}
    assert {name: set(found) - base for name, found in columns.items()} == {
        "plain": set(),
        "advantages": {"advantages"},
        "others": {"others"},
        "roles": {"roles"},
    }
    # One other agent, whose 3 logits are centred, and what it says is not what this one says.
    others = columns["others"]["others"]
    assert others.shape == (640, 3)
    torch.testing.assert_close(others.sum(1), torch.zeros(640), atol=1e-5, rtol=0)
    # Rows of left are rows 0 to 319, of right the rest, in the same order: each is the other's other.
    said = columns["others"]["parameters"]
    torch.testing.assert_close(others[:320], said[320:] - said[320:].mean(1, keepdim=True))
    torch.testing.assert_close(others[320:], said[:320] - said[:320].mean(1, keepdim=True))


def test_advantages_are_those_of_the_teachers_own_critic(make_room: MakeRoom) -> None:
    """Half of the demonstrations are sampled from a teacher that errs."""
    room = make_room(
        make_teacher=lambda spec: Teacher(spec, dict.fromkeys(spec.groups, perfect(3, 3, 0.5)), Half()),
        loss={"advantage_beta": 1.0, "gamma": 0.0},
    )
    assert isinstance(room.value, Half)
    episodes = demonstrate(room.env, room.teacher)
    lessons = room.lessons(episodes)
    assert lessons.advantages is not None
    paid = [episodes.groups[group].rewards.swapaxes(1, 2).reshape(-1) for group in ("left", "right")]
    rewards = torch.from_numpy(np.concatenate(paid))
    assert set(rewards.tolist()) == {0.0, 1.0}
    # With gamma = 0 the advantage is the reward less what was expected.
    assert torch.equal(lessons.advantages, rewards - 0.5)


@pytest.mark.parametrize("loss", [{}, {"relation": 1.0}, {"role": 1.0}])
def test_no_critic_is_fitted_for_nothing(make_room: MakeRoom, loss: dict[str, float]) -> None:
    assert make_room(loss=loss).value is None
    assert make_room(loss=loss, polish={"rounds": 1}).value is not None


class Pass(nn.Module):
    """Its last layer reads what it sees: the hidden layer is known."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(inputs, outputs)

    def forward(self, observations: Tensor) -> Tensor:
        answer: Tensor = self.last(observations)
        return answer


def test_groups_of_a_pool_have_the_same_roles(make_room: MakeRoom) -> None:
    """They share students, and equal hidden layers must be equal roles, whoever sees them."""
    room = make_room(
        make_teacher=lambda spec: Teacher(spec, dict.fromkeys(spec.groups, Pass(3, 3))), loss={"role": 1.0}
    )
    lessons = room.lessons(demonstrate(room.env, room.teacher))
    assert lessons.roles is not None
    assert lessons.roles.shape == (640, 3)  # of 16 wanted there are as many as the layer is wide
    # Principal components of variance 1, without a mean, over both agents together.
    torch.testing.assert_close(lessons.roles.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(lessons.roles.T @ lessons.roles / 640, torch.eye(3), atol=1e-3, rtol=0)
    # One affine map leads from what is seen to the role, for both groups.
    seen = torch.cat([lessons.views, torch.ones(640, 1)], 1)
    mapped = seen @ torch.linalg.lstsq(seen[:320], lessons.roles[:320]).solution
    torch.testing.assert_close(mapped, lessons.roles, atol=1e-3, rtol=0)


class Sum(nn.Module):
    """Remembers the sum of what it has seen: the input of its last layer is the sum with the present."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 3)

    def forward(self, observations: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        following = hidden + observations
        return self.last(following), following


def test_roles_of_a_recurrent_teacher_are_those_of_its_whole_past(make_room: MakeRoom) -> None:
    reading = {"left": Reading(hidden_size=3), "right": Reading(hidden_size=3)}
    room = make_room(
        make_teacher=lambda spec: Teacher(spec, dict.fromkeys(spec.groups, Sum()), reading=reading), loss={"role": 1.0}
    )
    lessons = room.lessons(demonstrate(room.env, room.teacher))
    assert lessons.roles is not None
    sums = lessons.views.reshape(128, 5, 3).cumsum(1).reshape(640, 3)
    assert room.roles is not None
    torch.testing.assert_close(lessons.roles, room.roles.transform(sums))


def test_roles_of_a_teacher_that_reads_the_state(make_room: MakeRoom) -> None:
    reading = {"left": Reading(state=True), "right": Reading(state=True)}
    # It sees 3 numbers of its own and the 6 of the state.
    room = make_room(
        make_teacher=lambda spec: Teacher(spec, dict.fromkeys(spec.groups, Pass(9, 3)), reading=reading),
        loss={"role": 1.0},
    )
    episodes = demonstrate(room.env, room.teacher)
    lessons = room.lessons(episodes)
    assert lessons.roles is not None
    assert room.roles is not None
    state = torch.from_numpy(episodes.state).flatten(0, 1)  # the same order as of one agent's rows
    want = room.roles.transform(torch.cat([lessons.views, torch.cat([state, state])], 1))
    torch.testing.assert_close(lessons.roles, want)


def test_steps_of_agents_that_have_left_make_no_roles() -> None:
    """Their observations are zeros, which no teacher was asked about."""
    spaces = AgentSpec(observation_size=2, actions=TWO)
    env = TeamEnv(Nowhere({"a": spaces}), {"x": ("a",)})
    teacher = Teacher(env.spec, {"x": Pass(2, 2)})
    seen = np.array([[[[5, 1]], [[7, 1]], [[0, 0]], [[0, 0]]]], np.float32)
    record = GroupRecord(
        observations=seen,
        parameters=np.zeros_like(seen),
        alive=np.array([[[True], [True], [False], [False]]]),
        rewards=np.zeros((1, 4, 1), np.float32),
    )
    episodes = Episodes(groups={"x": record}, state=np.zeros((1, 4, 1), np.float32))
    room = open_classroom(
        env,
        teacher,
        make_pools(env.spec, teacher)["x"],
        DistillTable(loss={"role": 1.0}),  # type: ignore[arg-type]
        episodes,
        copies=1,
        max_steps=4,
        seed=0,
    )
    lessons = room.lessons(episodes)
    assert lessons.roles is not None
    # One direction: 5 and 7 have mean 6 and deviation 1.
    torch.testing.assert_close(lessons.roles, torch.tensor([[-1.0], [1.0]]))


@pytest.mark.parametrize(
    ("env", "loss", "said"),
    [
        ({"actions": "box"}, {"cross_entropy": 1.0}, "cross_entropy = 1.0: the students of group 'left' have contin"),
        ({}, {"q": 1.0}, "q = 1.0: the teacher of group 'left' says no action values"),
        ({}, {"kl": 0.0}, "every weight is 0"),
    ],
)
def test_terms_that_cannot_be_computed_are_refused_at_the_door(
    make_room: MakeRoom, env: dict[str, Any], loss: dict[str, float], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_room(env, loss=loss)
