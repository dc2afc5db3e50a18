import numpy as np
import pytest
from toys import Batched, Continuous, Counting

from kdnas.envs import Copies, Returns, TeamEnv, play
from kdnas.errors import EnvError
from kdnas.policies import Actions, Scene


class Lucky:
    """Plays 2 in the episodes whose random number is at least a half, and else 1."""

    def act(self, scene: Scene) -> dict[str, Actions]:
        return {group: np.where(rows[..., 2] < 0.5, 1, 2) for group, rows in scene.observations.items()}


class Always:
    def __init__(self, action: int) -> None:
        self._action = action

    def act(self, scene: Scene) -> dict[str, Actions]:
        return {group: np.full(alive.shape, self._action) for group, alive in scene.alive.items()}


def counting(*, together: bool = False) -> TeamEnv:
    groups = {"all": ("late", "early")} if together else {"early": ("early",), "late": ("late",)}
    return TeamEnv(Copies("counting", Counting), groups)


def factors(seeds: list[int]) -> np.ndarray:
    """The action that `Lucky` plays; an agent that has left sees zeros, but is not paid."""
    return np.array([1 if np.random.default_rng(seed).random() < 0.5 else 2 for seed in seeds])


@pytest.mark.parametrize("copies", [1, 2, 5, 9])
def test_returns_by_hand_in_the_order_of_the_seeds(copies: int) -> None:
    seeds = [5, 6, 7, 8, 9]
    assert set(factors(seeds)) == {1, 2}
    returns = play(counting(), Lucky(), seeds, copies=copies, max_steps=100)
    # Action 1: early is paid 10 x (1 + 2) = 30 and leaves; late 1 + 2 + 3 + 4 = 10. Action 2 doubles both.
    np.testing.assert_array_equal(returns.per_agent["early"], 30 * factors(seeds)[:, None])
    np.testing.assert_array_equal(returns.per_agent["late"], 10 * factors(seeds)[:, None])
    np.testing.assert_array_equal(returns.per_group["late"], 10 * factors(seeds))
    np.testing.assert_array_equal(returns.mean, 20 * factors(seeds))


def test_agents_of_a_group_keep_their_seats() -> None:
    returns = play(counting(together=True), Always(1), [1, 2], copies=2, max_steps=100)
    np.testing.assert_array_equal(returns.per_agent["all"], [[10, 30], [10, 30]])
    np.testing.assert_array_equal(returns.per_group["all"], [20, 20])


def test_every_agent_weighs_the_same_in_the_mean() -> None:
    per_agent = {"drone": np.array([[1.0, 3.0], [0.0, 2.0]]), "base": np.array([[5.0], [4.0]])}
    returns = Returns(per_agent=per_agent)
    # (1 + 3 + 5) / 3 and (0 + 2 + 4) / 3; the mean of the groups' means would be 3.5 and 2.5.
    np.testing.assert_array_equal(returns.mean, [3, 2])
    np.testing.assert_array_equal(returns.per_group["drone"], [2, 1])


def test_an_episode_is_cut_after_max_steps() -> None:
    returns = play(counting(), Always(1), [1], copies=1, max_steps=3)
    assert returns.per_agent["late"] == [[6]]  # 1 + 2 + 3


def test_rewards_after_leaving_do_not_count() -> None:
    class Generous(Batched):
        """Goes on paying, by mistake, after its agent has left in some copies."""

        def _shown(self, rewards: np.ndarray) -> object:
            shown = super()._shown(rewards)
            shown.alive["solo"][0] = self._step < 1
            return shown

    env = TeamEnv(Generous(), {"solo": ("solo",)})
    # Copy 0 is paid for its first step only, copy 1 for all three.
    np.testing.assert_array_equal(play(env, Always(1), [1, 2], copies=2, max_steps=9).mean, [1, 3])


def test_a_policy_is_told_where_episodes_begin() -> None:
    class Watching(Always):
        told: list[tuple[bool, int]] = []  # noqa: RUF012

        def act(self, scene: Scene) -> dict[str, Actions]:
            self.told.append((scene.first, len(scene.state)))
            return super().act(scene)

    policy = Watching(1)
    play(counting(), policy, [1, 2, 3], copies=2, max_steps=3)
    # Two batches of three steps, of two copies and of one; each begins anew.
    assert policy.told == [(True, 2), (False, 2), (False, 2), (True, 1), (False, 1), (False, 1)]


def test_continuous_actions_by_hand() -> None:
    class Halves:
        def act(self, scene: Scene) -> dict[str, Actions]:
            return {group: np.full((*alive.shape, 2), 0.5, np.float32) for group, alive in scene.alive.items()}

    env = TeamEnv(Copies("continuous", Continuous), {"early": ("early",), "late": ("late",)})
    returns = play(env, Halves(), [1, 2], copies=2, max_steps=9)
    # An action is 0.5 + 10 * 0.5 = 5.5: early's 10 (1 + 2) and late's 1 + 2 + 3 + 4 times that.
    np.testing.assert_array_equal(returns.per_agent["early"], [[165], [165]])
    np.testing.assert_array_equal(returns.per_agent["late"], [[55], [55]])


def test_no_episodes_are_no_returns() -> None:
    returns = play(counting(), Always(1), [], copies=4, max_steps=9)
    assert returns.mean.shape == (0,)


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_rewards_must_be_finite(reward: float) -> None:
    env = TeamEnv(Batched(reward=reward), {"solo": ("solo",)})
    with pytest.raises(EnvError, match="environment 'batched': a reward of group 'solo' at step 1 is NaN or infinite"):
        play(env, Always(1), [1], copies=1, max_steps=9)
