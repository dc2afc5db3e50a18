import numpy as np
import pytest

from kdnas.policies.team_policy import RandomPolicy

NO_STATE = np.zeros((1, 0), np.float32)


def observations(batch: int, agents: int) -> np.ndarray:
    return np.zeros((batch, agents, 7), np.float32)


def test_uniform_over_all_actions():
    actions = RandomPolicy({"drone": 5}, seed=0).act({"drone": observations(5000, 2)}, {"drone": None}, NO_STATE)[
        "drone"
    ]
    assert actions.shape == (5000, 2)
    assert actions.dtype == np.int64
    # Standard deviation of a frequency: sqrt(0.2 * 0.8 / 10,000) = 0.004; four of them are 0.016.
    assert np.bincount(actions.ravel(), minlength=5) / 10_000 == pytest.approx(np.full(5, 0.2), abs=0.016)


def test_uniform_over_the_legal_actions():
    mask = np.tile(np.array([True, False, True, False]), (8000, 1, 1))
    actions = RandomPolicy({"a": 4}, seed=0).act({"a": observations(8000, 1)}, {"a": mask}, NO_STATE)["a"]
    shares = np.bincount(actions.ravel(), minlength=4) / 8000
    # Two legal actions: 1/2 each, four standard deviations sqrt(1/4 / 8000) = 0.0056 are 0.022.
    assert shares == pytest.approx([0.5, 0.0, 0.5, 0.0], abs=0.022)
    assert shares[1] == shares[3] == 0


def test_each_agent_has_its_own_mask():
    mask = np.zeros((3, 2, 4), np.bool_)
    mask[:, 0, 3] = mask[:, 1, 1] = True
    actions = RandomPolicy({"a": 4}, seed=0).act({"a": observations(3, 2)}, {"a": mask}, NO_STATE)["a"]
    assert actions.tolist() == [[3, 1]] * 3


def test_groups_have_their_own_actions():
    policy = RandomPolicy({"speaker": 3, "listener": 5}, seed=0)
    rows = {"speaker": observations(400, 1), "listener": observations(400, 2)}
    actions = policy.act(rows, {}, NO_STATE)
    assert {group: (chosen.shape, chosen.max()) for group, chosen in actions.items()} == {
        "speaker": ((400, 1), 2),
        "listener": ((400, 2), 4),
    }


def test_the_seed_decides_and_no_global_generator():
    before = np.random.get_state()[1].tolist()
    first, second, other = (
        RandomPolicy({"a": 5}, seed).act({"a": observations(50, 2)}, {}, NO_STATE)["a"].tolist() for seed in (3, 3, 4)
    )
    assert first == second != other
    assert np.random.get_state()[1].tolist() == before


def test_steps_differ():
    policy = RandomPolicy({"a": 5}, seed=0)
    first, second = (policy.act({"a": observations(50, 2)}, {}, NO_STATE)["a"].tolist() for _ in range(2))
    assert first != second
