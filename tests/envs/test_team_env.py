"""What a `TeamEnv` adds to the environment it wraps: groups, views, noise and squashed actions."""

import math
import tomllib
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from toys import Continuous, Counting

from kdnas.config.observe import ObserveTable
from kdnas.config.study import EnvTable
from kdnas.config.toml import validate
from kdnas.envs import AgentSpec, BatchedStep, Copies, TeamEnv, TeamStep, check_twin, make_env, make_twin
from kdnas.envs.view import SeenSet, View
from kdnas.errors import ConfigError, EnvError
from kdnas.policies.actions import ActionSpace, Box, Discrete

SPREAD = EnvTable(name="mpe/simple_spread", twin="mpe/simple_spread_twin", kwargs={"max_cycles": 5}, groups="by-kind")
OBSERVE = """
nearest = { landmarks = 1, others = 1 }
radius = 0.8
noise = 0.1
[entities]
own = "0-3"
[entities.landmarks]
members = ["4-5", "6-7", "8-9"]
position = [0, 1]
[entities.others]
members = ["10-11", "12-13"]
position = [0, 1]
"""


def observe(text: str = OBSERVE) -> dict[str, ObserveTable]:
    return {"default": validate(tomllib.loads(text), ObserveTable, where="f")}


class Line:
    """Agents `a` and `b` see (step + 1, 10, x): x is -2 for `a` and 1 for `b`; copy 0 loses `a` with step 1."""

    def __init__(self, actions: ActionSpace | None = None) -> None:
        self.name = "line"
        self.agents: Mapping[str, AgentSpec] = dict.fromkeys(
            "ab", AgentSpec(observation_size=3, actions=actions or Discrete(2))
        )
        self.state_size = 1

    def reset(self, seeds: Sequence[int]) -> BatchedStep:
        self._step, self._batch = 0, len(seeds)
        return self._shown()

    def step(self, actions: Mapping[str, np.ndarray]) -> BatchedStep:
        self._step += 1
        return self._shown()

    def close(self) -> None:
        pass

    def _shown(self) -> BatchedStep:
        alive = {agent: np.ones(self._batch, np.bool_) for agent in self.agents}
        alive["a"][0] = self._step < 1
        rows = {
            agent: np.where(alive[agent][:, None], np.float32([self._step + 1, 10, x]), np.float32(0))
            for agent, x in (("a", -2.0), ("b", 1.0))
        }
        nothing = np.zeros(self._batch, np.float32)
        return BatchedStep(
            observations=rows, masks={}, alive=alive, rewards=dict.fromkeys("ab", nothing), state=nothing[:, None]
        )


def stay(env: TeamEnv, batch: int) -> TeamStep:
    return env.step({group: np.zeros((batch, seats), np.int64) for group, seats in env.spec.seats.items()})


BOTH = {"both": ("late", "early")}


def test_agents_stand_in_the_seats_of_their_groups() -> None:
    env = TeamEnv(Copies("counting", lambda: Counting(masks="info")), BOTH)
    shown = env.reset([1, 2, 3])
    assert shown.observations["both"].shape == (3, 2, 3)
    assert shown.masks["both"].tolist() == [[[False, True, True]] * 2] * 3
    shown = env.step({"both": np.array([[1, 2], [2, 2], [1, 1]])})
    # late's reward is its action, early's ten times that.
    assert shown.rewards["both"].tolist() == [[1, 20], [2, 20], [1, 10]]
    assert shown.observations["both"][0, :, 1].tolist() == [1, 2]


def test_continuous_actions_reach_their_agents() -> None:
    env = TeamEnv(Copies("continuous", Continuous), BOTH)
    env.reset([1])
    # late 0.5 + 10 * 1, early ten times (-1 + 10 * 2).
    assert env.step({"both": np.array([[[0.5, 1], [-1, 2]]], np.float32)}).rewards["both"].tolist() == [[10.5, 190]]


def test_episodes_begin_with_a_reset_and_end_when_all_have_left() -> None:
    env = TeamEnv(Copies("counting", Counting), BOTH)
    ones = {"both": np.ones((2, 2), np.int64)}
    steps = [env.reset([1, 2]), *(env.step(ones) for _ in range(4)), env.reset([1, 2])]
    assert [step.first for step in steps] == [True, False, False, False, False, True]
    # late leaves with step 4, early with step 2.
    assert [step.over for step in steps] == [False, False, False, False, True, False]
    assert [step.alive["both"][0].tolist() for step in steps[1:4]] == [[True, True], [True, False], [True, False]]
    assert steps[0].masks == {"both": None}


def test_whatever_an_environment_raises_is_one_sentence() -> None:
    class Broken(Copies):
        def step(self, actions: object) -> BatchedStep:
            raise RuntimeError("out of\nfuel")

    env = TeamEnv(Broken("broken", Counting), BOTH)
    env.reset([1])
    with pytest.raises(EnvError, match=r"^environment 'broken' failed in step\(\): RuntimeError: out of fuel \(.*\)$"):
        env.step({"both": np.ones((1, 2), np.int64)})


def test_without_views_students_see_the_same_arrays() -> None:
    env = TeamEnv(Line(), {"all": ("a", "b")})
    shown = env.reset([1, 2])
    assert shown.views["all"] is shown.observations["all"]
    assert env.spec.student_spec("all") == env.spec.group_spec("all")


def test_each_group_has_its_own_view_and_teachers_see_everything() -> None:
    thing = SeenSet(name="thing", members=((1,),), positions=((2,),), radius=1.5)
    env = TeamEnv(Line(), {"one": ("a",), "two": ("b",)}, {"one": View(observation_size=3, own=(0,), sets=(thing,))})
    shown = env.reset([1])
    np.testing.assert_array_equal(shown.observations["one"], [[[1, 10, -2]]])
    np.testing.assert_array_equal(shown.views["one"], [[[1, 0, 0]]])  # at distance 2, beyond 1.5
    np.testing.assert_array_equal(shown.views["two"], [[[1, 10, 1]]])
    assert env.spec.group_spec("one").observation_size == 3
    assert env.spec.student_spec("one").observation_size == 3
    assert env.spec.student_spec("one").entities == env.spec.views["one"].entities
    assert env.spec.student_spec("two").entities is None


def test_who_has_left_sees_zeros_without_flags_and_noise() -> None:
    thing = SeenSet(name="thing", members=((1,),), positions=((2,),), radius=1.5)
    view = View(observation_size=3, own=(0,), sets=(thing,), noise=1.0)
    env = TeamEnv(Line(), {"all": ("a", "b")}, {"all": view})
    first = env.reset([1, 2]).views["all"]
    assert (first[:, :, 0] != 1).all()  # noise
    np.testing.assert_array_equal(first[:, :, 2], [[0, 1], [0, 1]])
    shown = stay(env, 2).views["all"]
    np.testing.assert_array_equal(shown[0, 0], [0, 0, 0])
    assert (shown[[0, 1, 1], [1, 0, 1], 0] != 0).all()


def played(env: TeamEnv, seeds: list[int]) -> np.ndarray:
    """(steps, B, A, V) of an episode in which nobody does anything."""
    views = [env.reset(seeds).views["agent"]]
    views.extend(stay(env, len(seeds)).views["agent"] for _ in range(4))
    return np.stack(views)


def test_an_episode_is_seen_the_same_in_every_batch_and_every_time() -> None:
    twin = make_twin(SPREAD, None, observe=observe())
    assert twin is not None
    together = played(twin, [3, 4, 5])
    # 4 + (2 + flag) + (2 + flag).
    assert together.shape == (5, 3, 3, 10)
    np.testing.assert_array_equal(played(twin, [3, 4, 5]), together)
    np.testing.assert_array_equal(played(twin, [5]), together[:, 2:])
    np.testing.assert_array_equal(played(twin, [4, 9, 3])[:, [2, 0]], together[:, :2])


def test_the_noise_has_its_deviation() -> None:
    noisy = make_twin(SPREAD, None, observe=observe("noise = 0.1"))
    clear = make_twin(SPREAD, None)
    assert noisy is not None
    assert clear is not None
    seeds = list(range(100))
    noise = played(noisy, seeds) - played(clear, seeds)
    # 100 x 5 x 3 x 18 = 27,000 numbers, of which the deviation is off by 0.1 / sqrt(54,000) = 0.0004.
    assert abs(noise.std() - 0.1) < 0.002
    assert abs(noise.mean()) < 0.003


def test_the_real_environment_is_seen_as_its_twin_is() -> None:
    real, twin = make_env(SPREAD, None, observe=observe()), make_twin(SPREAD, None, observe=observe())
    assert twin is not None
    assert twin.spec == real.spec
    check_twin(real, twin, seed=3, max_steps=9)
    np.testing.assert_allclose(played(real, [1, 2]), played(twin, [1, 2]), atol=1e-5)
    real.close()


def test_a_view_that_does_not_fit_closes_what_was_made() -> None:
    with pytest.raises(ConfigError, match=r"observe\.default: group 'agent': keep names feature 18, .* 18 features"):
        make_env(SPREAD, None, observe=observe("keep = [18]"))


def test_squashed_actions_are_the_spec_s_and_the_twin_s() -> None:
    table = SPREAD.model_copy(update={"kwargs": {"continuous_actions": True}, "squash": True})
    real, twin = make_env(table, None), make_twin(table, None)
    assert twin is not None
    assert real.spec == twin.spec
    assert real.spec.actions == {"agent": Box((0.0,) * 5, (1.0,) * 5, squashed=True)}
    check_twin(real, twin, seed=1, max_steps=4)
    real.close()


@pytest.mark.parametrize(
    ("actions", "sentence"),
    [
        (Discrete(2), r"env.squash = true is for continuous actions \(Box\), but the agents have Discrete ones"),
        (Box((0.0,), (math.inf,)), "squashed actions need finite bounds"),
    ],
)
def test_what_cannot_be_squashed_is_refused(actions: ActionSpace, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TeamEnv(Line(actions), {"all": ("a", "b")}, squash=True)
