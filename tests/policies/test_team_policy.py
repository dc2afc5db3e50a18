import math

import numpy as np
import pytest
from scenes import scene_of

from kdnas.policies import Box, Discrete, MultiDiscrete, RandomPolicy


def observations(batch: int, agents: int) -> np.ndarray:
    return np.zeros((batch, agents, 7), np.float32)


def test_uniform_over_all_actions():
    actions = RandomPolicy({"drone": Discrete(5)}, seed=0).act(scene_of({"drone": observations(5000, 2)}))["drone"]
    assert actions.shape == (5000, 2)
    assert actions.dtype == np.int64
    # Standard deviation of a frequency: sqrt(0.2 * 0.8 / 10,000) = 0.004; four of them are 0.016.
    assert np.bincount(actions.ravel(), minlength=5) / 10_000 == pytest.approx(np.full(5, 0.2), abs=0.016)


def test_uniform_over_the_legal_actions():
    mask = np.tile(np.array([True, False, True, False]), (8000, 1, 1))
    actions = RandomPolicy({"a": Discrete(4)}, seed=0).act(scene_of({"a": observations(8000, 1)}, {"a": mask}))["a"]
    shares = np.bincount(actions.ravel(), minlength=4) / 8000
    # Two legal actions: 1/2 each, four standard deviations sqrt(1/4 / 8000) = 0.0056 are 0.022.
    assert shares == pytest.approx([0.5, 0.0, 0.5, 0.0], abs=0.022)
    assert shares[1] == shares[3] == 0


def test_each_agent_has_its_own_mask():
    mask = np.zeros((3, 2, 4), np.bool_)
    mask[:, 0, 3] = mask[:, 1, 1] = True
    actions = RandomPolicy({"a": Discrete(4)}, seed=0).act(scene_of({"a": observations(3, 2)}, {"a": mask}))["a"]
    assert actions.tolist() == [[3, 1]] * 3


def test_groups_have_their_own_actions():
    policy = RandomPolicy({"speaker": Discrete(3), "listener": Discrete(5)}, seed=0)
    actions = policy.act(scene_of({"speaker": observations(400, 1), "listener": observations(400, 2)}))
    assert {group: (chosen.shape, chosen.max()) for group, chosen in actions.items()} == {
        "speaker": ((400, 1), 2),
        "listener": ((400, 2), 4),
    }


def test_factors_are_uniform_and_independent():
    space = MultiDiscrete((2, 3))
    actions = RandomPolicy({"a": space}, seed=0).act(scene_of({"a": observations(6000, 2)}))["a"]
    assert (actions.shape, actions.dtype) == ((6000, 2, 2), np.int64)
    together = np.bincount((3 * actions[..., 0] + actions[..., 1]).ravel(), minlength=6) / 12_000
    # 1/6 each, four standard deviations sqrt(1/6 5/6 / 12,000) = 0.0034 are 0.014.
    assert together == pytest.approx(np.full(6, 1 / 6), abs=0.014)


def test_each_factor_has_its_own_part_of_the_mask():
    # Legal: 1 of the first factor; 0 and 2 of the second.
    mask = np.tile(np.array([False, True, True, False, True]), (4000, 1, 1))
    space = MultiDiscrete((2, 3))
    actions = RandomPolicy({"a": space}, seed=0).act(scene_of({"a": observations(4000, 1)}, {"a": mask}))["a"][:, 0]
    assert set(actions[:, 0]) == {1}
    # 1/2 each, four standard deviations sqrt(1/4 / 4000) = 0.0079 are 0.032.
    shares = np.bincount(actions[:, 1], minlength=3) / 4000
    assert shares == pytest.approx([0.5, 0.0, 0.5], abs=0.032)
    assert shares[1] == 0


def test_continuous_actions_are_uniform_within_the_bounds():
    space = Box((-1.0, 10.0), (3.0, 11.0))
    actions = RandomPolicy({"a": space}, seed=0).act(scene_of({"a": observations(5000, 2)}))["a"]
    assert (actions.shape, actions.dtype) == ((5000, 2, 2), np.float32)
    flat = actions.reshape(-1, 2)
    # Mean (low + high) / 2, deviation (high - low) / sqrt(12) = 1.155 and 0.289; four hundredths of it for the mean.
    assert flat.mean(0) == pytest.approx([1.0, 10.5], abs=0.047)
    assert flat.std(0) == pytest.approx([1.155, 0.289], rel=0.03)
    # Of 10,000 numbers the extremes come within a thousandth of the bounds, and never beyond.
    assert (flat.min(0) >= [-1, 10]).all()
    assert (flat.max(0) <= [3, 11]).all()
    assert (np.ptp(flat, axis=0) > [4 * 0.998, 0.998]).all()


def test_without_a_bound_to_a_side_they_are_normal_and_clipped():
    space = Box((-math.inf, 0.0, -math.inf), (math.inf, math.inf, 1.0))
    flat = RandomPolicy({"a": space}, seed=0).act(scene_of({"a": observations(10_000, 1)}))["a"].reshape(-1, 3)
    # Four standard deviations of a mean are 0.04, of a deviation 0.028.
    assert flat[:, 0].mean() == pytest.approx(0.0, abs=0.04)
    assert flat[:, 0].std() == pytest.approx(1.0, abs=0.03)
    # A half is below 0; 0.1587 are above 1, four standard deviations 0.0037 are 0.015.
    assert (flat[:, 1] == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert (flat[:, 2] == 1).mean() == pytest.approx(0.1587, abs=0.015)
    assert flat[:, 1].min() == 0
    assert flat[:, 2].max() == 1


@pytest.mark.parametrize("space", [Discrete(5), MultiDiscrete((5, 2)), Box((-1.0,), (1.0,))])
def test_the_seed_decides_and_no_global_generator(space):
    before = np.random.get_state()[1].tolist()
    first, second, other = (
        RandomPolicy({"a": space}, seed).act(scene_of({"a": observations(50, 2)}))["a"].tolist() for seed in (3, 3, 4)
    )
    assert first == second != other
    assert np.random.get_state()[1].tolist() == before


def test_steps_differ():
    policy = RandomPolicy({"a": Discrete(5)}, seed=0)
    first, second = (policy.act(scene_of({"a": observations(50, 2)}))["a"].tolist() for _ in range(2))
    assert first != second
