"""Both twins against mpe2, to the last bit: the same seeds and actions must show the same numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from toys import assert_same

from kdnas.envs import BatchedEnv, BatchedStep, Copies, mpe, mpe_twin
from kdnas.policies import Actions, Box, Floats
from kdnas.policies.team_policy import draw_uniformly

SEEDS = [0, 1, 2, 2**31 + 5]
Choice = Callable[[BatchedEnv, BatchedStep], Mapping[str, Actions]]


def play(env: BatchedEnv, seeds: Sequence[int], choose: Choice) -> list[BatchedStep]:
    steps = [env.reset(seeds)]
    while any(alive.any() for alive in steps[-1].alive.values()):
        steps.append(env.step(choose(env, steps[-1])))
    return steps


def at_random() -> Choice:
    generator = np.random.default_rng(4)
    return lambda env, shown: {
        agent: draw_uniformly(spec.actions, (len(shown.state),), None, generator) for agent, spec in env.agents.items()
    }


def others(seen: Floats, count: int) -> Floats:
    """Positions of the other agents (B, count - 1, 2) in an observation: after velocity, position and landmarks."""
    start = 4 + 2 * count
    return seen[:, start : start + 2 * (count - 1)].reshape(len(seen), count - 1, 2)


def together(env: BatchedEnv, shown: BatchedStep) -> Mapping[str, Actions]:
    """Every agent goes to the middle of the others, along the longer way, so that all collide."""
    actions = {}
    for agent, seen in shown.observations.items():
        way = others(seen, len(env.agents)).mean(1)
        # Actions are stay, left, right, down, up.
        actions[agent] = np.where(
            np.abs(way[:, 0]) > np.abs(way[:, 1]), np.where(way[:, 0] < 0, 1, 2), np.where(way[:, 1] < 0, 3, 4)
        )
    return actions


def spread(**kwargs: Any) -> tuple[Copies, mpe_twin.SpreadTwin]:
    return Copies("spread", lambda: mpe.simple_spread(**kwargs)), mpe.simple_spread_twin(**kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"N": 5, "max_cycles": 40},
        {"N": 2, "local_ratio": 0.3},
        {"N": 1, "max_cycles": 1},
        # From eight numbers on NumPy's sum adds in another order than mpe2.
        {"N": 9},
        {"continuous_actions": True},
        {"continuous_actions": True, "N": 5, "max_cycles": 40, "local_ratio": 0.3},
    ],
)
def test_spread_is_mpe2_to_the_last_bit(kwargs: dict[str, Any]) -> None:
    real, twin = spread(**kwargs)
    assert dict(twin.agents) == dict(real.agents)
    assert twin.state_size == real.state_size
    theirs = play(twin, SEEDS, at_random())
    assert len(theirs) == kwargs.get("max_cycles", 25) + 1
    assert_same(play(real, SEEDS, at_random()), theirs)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_collisions_are_mpe2_s_to_the_last_bit(count: int) -> None:
    real, twin = spread(N=count, max_cycles=50)
    theirs = play(twin, SEEDS, together)
    seen = [others(shown.observations["agent_0"], count) for shown in theirs[:-1]]  # the last shows zeros
    # Agents of radius 0.15 touch from a distance of 0.3 on: in every episode agent_0 is hit in some step.
    touches = np.array([(np.linalg.norm(gaps, axis=-1) < 0.3).any(1) for gaps in seen])
    assert touches.any(0).all()
    assert_same(play(real, SEEDS, together), theirs)


def strongly_together(env: BatchedEnv, shown: BatchedStep) -> Mapping[str, Actions]:
    """As `together`, both ways at once and with all strengths from 0 to 1."""
    actions = {}
    for agent, seen in shown.observations.items():
        way = others(seen, len(env.agents)).mean(1).clip(-1, 1)
        # Numbers are stay, left, right, down, up.
        pushes = [np.ones(len(way)), -way[:, 0], way[:, 0], -way[:, 1], way[:, 1]]
        actions[agent] = np.stack(pushes, 1).clip(0, 1).astype(np.float32)
    return actions


@pytest.mark.parametrize("count", [2, 3, 5])
def test_collisions_of_continuous_actions_are_mpe2_s_to_the_last_bit(count: int) -> None:
    real, twin = spread(N=count, max_cycles=50, continuous_actions=True)
    assert twin.agents["agent_0"].actions == Box((0.0,) * 5, (1.0,) * 5)
    theirs = play(twin, SEEDS, strongly_together)
    seen = [others(shown.observations["agent_0"], count) for shown in theirs[:-1]]
    touches = np.array([(np.linalg.norm(gaps, axis=-1) < 0.3).any(1) for gaps in seen])
    assert touches.any(0).all()
    assert_same(play(real, SEEDS, strongly_together), theirs)


def test_a_full_push_is_the_discrete_one() -> None:
    discrete, continuous = mpe.simple_spread_twin(), mpe.simple_spread_twin(continuous_actions=True)

    def pushes(env: BatchedEnv, shown: BatchedStep) -> Mapping[str, Actions]:
        return {agent: np.eye(5, dtype=np.float32)[rows] for agent, rows in together(env, shown).items()}

    assert_same(play(continuous, SEEDS, pushes), play(discrete, SEEDS, together))


def test_speaker_listener_is_mpe2_to_the_last_bit() -> None:
    real = Copies("speaker_listener", mpe.simple_speaker_listener)
    twin = mpe.simple_speaker_listener_twin()
    assert dict(twin.agents) == dict(real.agents)
    assert twin.state_size == real.state_size
    assert_same(play(real, range(12), at_random()), play(twin, range(12), at_random()))


@pytest.mark.parametrize("constant", ["DT_S", "DAMPING", "CONTACT_FORCE", "CONTACT_MARGIN"])
def test_a_constant_that_is_off_by_a_thousandth_is_noticed(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, twin = spread(N=3)
    expected = play(real, SEEDS, together)
    monkeypatch.setattr(mpe_twin, constant, getattr(mpe_twin, constant) * 1.001)  # a time step of 0.1001
    with pytest.raises(AssertionError):
        assert_same(expected, play(twin, SEEDS, together))


def test_speaker_listener_notices_a_longer_time_step(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = play(Copies("speaker_listener", mpe.simple_speaker_listener), SEEDS, at_random())
    monkeypatch.setattr(mpe_twin, "DT_S", 0.1001)
    with pytest.raises(AssertionError):
        assert_same(expected, play(mpe.simple_speaker_listener_twin(), SEEDS, at_random()))


@pytest.mark.parametrize("make", [mpe.simple_spread_twin, mpe.simple_speaker_listener_twin])
def test_an_episode_is_the_same_alone_and_in_a_batch(make: Callable[..., BatchedEnv]) -> None:
    first = lambda env, shown: {agent: np.full(len(shown.state), 1) for agent in env.agents}  # noqa: E731
    batch, alone = play(make(), SEEDS, first), play(make(), SEEDS[2:3], first)
    for whole, one in zip(batch, alone, strict=True):
        np.testing.assert_array_equal(whole.state[2], one.state[0])


@pytest.mark.parametrize("make", [mpe.simple_spread_twin, mpe.simple_speaker_listener_twin])
def test_a_twin_that_is_over_changes_nothing(make: Callable[..., BatchedEnv]) -> None:
    env = make(max_cycles=3)
    last = play(env, SEEDS, at_random())[-1]
    after = env.step(at_random()(env, last))
    np.testing.assert_array_equal(after.state, last.state)
    assert not any(rewards.any() for rewards in after.rewards.values())
