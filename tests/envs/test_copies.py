from collections.abc import Mapping

import numpy as np
import pytest
from gymnasium import spaces
from toys import Acts, Continuous, Counting, HalfStrangled, Paired, Shrinking, Strangled, assert_same, play_random

from kdnas.envs import AgentSpec, BatchedEnv, BatchedStep, Copies
from kdnas.errors import EnvError
from kdnas.policies.actions import Box, Discrete, MultiDiscrete

COUNTING = {name: AgentSpec(observation_size=3, actions=Discrete(3)) for name in ("early", "late")}


def both(early: list[int], late: list[int]) -> dict[str, np.ndarray]:
    return {"early": np.array(early), "late": np.array(late)}


def luck(seed: int) -> np.float32:
    return np.float32(np.random.default_rng(seed).random())


def test_agents_that_leave_are_paid_for_their_last_step_and_then_blank() -> None:
    env: BatchedEnv = Copies("counting", Counting)
    assert env.agents == COUNTING
    assert env.state_size == 6
    shown = env.reset([7, 8])
    assert shown.masks == {}
    np.testing.assert_array_equal(shown.observations["late"], np.array([[0, 0, luck(7)], [0, 0, luck(8)]], np.float32))
    np.testing.assert_array_equal(shown.rewards["early"], [0, 0])
    env.step(both([1, 2], [2, 0]))
    shown = env.step(both([2, 1], [1, 1]))
    # Step 2: early is paid 10 x 2 x (2, 1), late 2 x (1, 1); early leaves.
    np.testing.assert_array_equal(shown.rewards["early"], [40, 20])
    np.testing.assert_array_equal(shown.rewards["late"], [2, 2])
    np.testing.assert_array_equal(shown.alive["early"], [False, False])
    np.testing.assert_array_equal(shown.alive["late"], [True, True])
    np.testing.assert_array_equal(shown.observations["early"], np.zeros((2, 3)))
    # The state is the observations in a row; early's last one (step 2, sum 1 + 2 = 3) still stands in it.
    np.testing.assert_array_equal(shown.state[0], np.array([2, 3, luck(7), 2, 3, luck(7)], np.float32))
    shown = env.step(both([2, 2], [1, 2]))
    np.testing.assert_array_equal(shown.rewards["early"], [0, 0])
    np.testing.assert_array_equal(shown.rewards["late"], [3, 6])
    np.testing.assert_array_equal(shown.state[0], np.array([0, 0, 0, 3, 4, luck(7)], np.float32))


def test_a_copy_that_is_over_is_stepped_on_and_changes_nothing() -> None:
    env = Copies("counting", Counting)
    env.reset([1])
    for _ in range(4):
        last = env.step(both([1], [1]))
    # Step 4 pays late 4 x 1 and ends the episode.
    assert last.rewards["late"] == [4]
    assert not last.alive["late"].any()
    after = env.step(both([1], [1]))
    assert after.rewards["late"] == [0]
    np.testing.assert_array_equal(after.state, last.state)


@pytest.mark.parametrize("where", ["observation", "info"])
def test_masks_are_found_in_observations_and_in_infos(where: str) -> None:
    env = Copies("counting", lambda: Counting(masks=where))
    assert env.agents["early"] == AgentSpec(observation_size=3, actions=Discrete(3), masked=True)
    shown = env.reset([3])
    # Action step % 3 is illegal.
    np.testing.assert_array_equal(shown.masks["late"], [[False, True, True]])
    shown = env.step(both([1], [2]))
    np.testing.assert_array_equal(shown.masks["late"], [[True, False, True]])
    shown = env.step(both([0], [2]))
    np.testing.assert_array_equal(shown.masks["late"], [[True, True, False]])
    np.testing.assert_array_equal(shown.masks["early"], [[True, True, True]])  # it has left


def test_continuous_actions_by_hand() -> None:
    env = Copies("continuous", Continuous)
    assert env.agents["late"] == AgentSpec(observation_size=3, actions=Box((-1.0, 0.0), (1.0, np.inf)))
    env.reset([7, 8])
    actions = np.array([[0.5, 2.0], [-1.0, 0.25]], np.float32)
    shown = env.step({"early": actions, "late": actions[::-1]})
    # Values 0.5 + 20 and -1 + 2.5; early's are paid tenfold.
    np.testing.assert_array_equal(shown.rewards["early"], [205, 15])
    np.testing.assert_array_equal(shown.rewards["late"], [1.5, 20.5])
    np.testing.assert_array_equal(shown.observations["late"][:, 1], [1.5, 20.5])


def test_choices_of_several_factors_by_hand() -> None:
    env = Copies("paired", lambda: Paired(masks="info"))
    assert env.agents["late"] == AgentSpec(observation_size=3, actions=MultiDiscrete((3, 2)), masked=True)
    shown = env.reset([7, 8])
    # 3 entries of the first factor, of which step % 3 is illegal, and 2 of the second.
    np.testing.assert_array_equal(shown.masks["late"], [[False, True, True, True, True]] * 2)
    actions = np.array([[2, 0], [1, 1]])
    shown = env.step({"early": actions, "late": actions[::-1]})
    np.testing.assert_array_equal(shown.rewards["early"], [20, 110])
    np.testing.assert_array_equal(shown.rewards["late"], [11, 2])


@pytest.mark.parametrize("make", [Continuous, Paired, lambda: Paired(masks="observation")])
def test_random_actions_are_taken_whatever_their_kind(make: object) -> None:
    env = Copies("toy", make)
    assert_same(play_random(env, [1, 2, 3]), play_random(env, [1, 2, 3]))


def test_an_environment_may_keep_and_change_its_actions() -> None:
    class Keeping(Continuous):
        def step(self, actions: Mapping[str, np.ndarray]) -> object:
            told = super().step(actions)
            for action in actions.values():
                action[:] = 0.0
            return told

    env = Copies("keeping", Keeping)
    env.reset([1])
    mine = {agent: np.ones((1, 2), np.float32) for agent in env.agents}
    env.step(mine)
    assert all(rows.all() for rows in mine.values())


def test_state_of_the_environment_is_used_where_it_has_one() -> None:
    env = Copies("counting", lambda: Counting(state=True))
    assert env.state_size == 2
    np.testing.assert_array_equal(env.reset([5]).state, np.array([[100, luck(5)]], np.float32))
    np.testing.assert_array_equal(env.step(both([0], [0])).state, np.array([[101, luck(5)]], np.float32))


def test_agents_that_are_done_but_stay_in_the_list_have_left() -> None:
    lingering, plain = Copies("counting", lambda: Counting(lingers=True)), Copies("counting", Counting)
    assert_same(play_random(lingering, [4, 5]), play_random(plain, [4, 5]))


def test_an_episode_is_the_same_alone_and_anywhere_in_a_batch() -> None:
    env = Copies("counting", lambda: Counting(masks="info"))
    # The actions of a copy depend only on what it sees: the smallest legal one, or the largest from luck 1/2 on.
    batch = play_by_sight(env, [11, 12, 13, 14])
    for copy, seed in enumerate([11, 12, 13, 14]):
        alone = play_by_sight(env, [seed])
        for one, all_of_them in zip(alone, batch, strict=True):
            for agent in env.agents:
                np.testing.assert_array_equal(one.observations[agent][0], all_of_them.observations[agent][copy])
                np.testing.assert_array_equal(one.rewards[agent][0], all_of_them.rewards[agent][copy])
            np.testing.assert_array_equal(one.state[0], all_of_them.state[copy])


def test_batches_may_shrink_and_grow_between_resets() -> None:
    env = Copies("counting", Counting)
    assert [len(env.reset(range(size)).state) for size in (3, 1, 4)] == [3, 1, 4]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Acts(spaces.MultiBinary(2)), "agent 'early' has the actions MultiBinary(2); kdnas distills Discrete"),
        (lambda: Acts(spaces.MultiDiscrete([[3, 2]])), "vectors of real numbers (Box). Wrap the environment so that"),
        (lambda: Acts(spaces.Box(-1, 1, (2, 2))), "agent 'early' has the actions Box(-1.0, 1.0, (2, 2), float32)"),
        (lambda: Acts(spaces.Box(0, 9, (2,), np.int64)), "agent 'early' has the actions Box(0, 9, (2,), int64)"),
        (
            lambda: Acts(spaces.Box(np.zeros(2, np.float32), np.arange(2, dtype=np.float32))),
            "agent 'early' has actions that are none: Box: low < high must hold in each dimension",
        ),
        (lambda: Acts(spaces.Discrete(3, start=1)), "agent 'early' has actions that start at [1], not at 0"),
        (
            lambda: Acts(spaces.MultiDiscrete([3, 2], start=[0, 4])),
            "agent 'early' has actions that start at [0, 4], not at 0",
        ),
        (
            lambda: Continuous(masks="info"),
            "agent 'early' sends an action mask for continuous actions; masks are for discrete ones",
        ),
        (lambda: None, "is no PettingZoo parallel environment: NoneType has no 'possible_agents'"),
        (lambda: 1 / 0, "cannot be made: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_used_is_refused(make: object, sentence: str) -> None:
    with pytest.raises(EnvError, match=r"environment 'toy'") as caught:
        Copies("toy", make)
    assert sentence in str(caught.value)


def test_environments_in_turns_are_refused_with_the_way_out() -> None:
    from pettingzoo.utils import parallel_to_aec

    with pytest.raises(EnvError, match="aec_to_parallel"):
        Copies("toy", lambda: parallel_to_aec(Counting()))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Counting(raises_at=1), r"failed in step\(\): ValueError: out of fuel \(.*toys\.py, line \d+\)$"),
        (Shrinking, r"agent 'early' shows 2 features; after reset\(seed=0\) it showed 3"),
        (Strangled, "agent 'early' sends an action mask without a legal action"),
        (lambda: HalfStrangled(masks="info"), "agent 'early' sends an action mask without a legal action"),
    ],
)
def test_what_goes_wrong_in_a_step_is_one_sentence(make: object, sentence: str) -> None:
    env = Copies("toy", make)
    env.reset([0])
    one = np.ones((1, *env.agents["early"].actions.shape), np.int64)
    with pytest.raises(EnvError, match=f"^environment 'toy'.*{sentence}") as caught:
        env.step({"early": one, "late": one})
    assert "\n" not in str(caught.value)


def test_close_may_be_called_twice() -> None:
    env = Copies("counting", Counting)
    env.close()
    env.close()


def play_by_sight(env: BatchedEnv, seeds: list[int]) -> list[BatchedStep]:
    steps = [env.reset(seeds)]
    for _ in range(4):
        actions = {}
        for agent, rows in steps[-1].observations.items():
            legal = steps[-1].masks[agent]
            actions[agent] = np.where(rows[:, 2] < 0.5, legal.argmax(1), 2 - legal[:, ::-1].argmax(1))
        steps.append(env.step(actions))
    return steps
