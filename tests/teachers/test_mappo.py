from typing import Any

import numpy as np
import pytest
import torch
from echo import Echo
from toys import Counting

from kdnas.config.study import TrainTable
from kdnas.envs import Copies, TeamEnv, make_groups, play
from kdnas.policies.actions import Box
from kdnas.teachers import GaussianActor, Progress, Teacher, train_mappo
from kdnas.teachers.mappo import make_networks

TABLE = TrainTable(hidden=(16,), copies=64, epochs=4, minibatches=2, learning_rate=1e-2, steps_per_cycle=5 * 64 * 15)
"""An episode of `Echo` has 5 steps: 15 iterations."""


def spec(rule: str = "per-agent", **env: Any) -> TeamEnv:
    echo = Echo(**env)
    return TeamEnv(echo, make_groups(rule, echo.agents))


def test_groups_with_equal_spaces_share_an_actor_if_they_may() -> None:
    shared = make_networks(spec().spec, TABLE)
    assert shared.actors["left"] is shared.actors["right"]
    assert [groups for _, groups in shared.unique_actors().values()] == [["left", "right"]]
    separate = make_networks(spec().spec, TABLE.model_copy(update={"share_actors": False}))
    assert separate.actors["left"] is not separate.actors["right"]
    kinds = make_networks(spec(kinds=True).spec, TABLE)
    assert [groups for _, groups in kinds.unique_actors().values()] == [["left"], ["right"]]
    # All observations, 3 + 4 of them, and the share of time gone; a value for each agent.
    assert (kinds.critic[0].in_features, kinds.critic[-1].out_features) == (8, 2)


@pytest.mark.parametrize(("kinds", "share"), [(False, True), (False, False), (True, True)])
def test_training_raises_the_return(kinds: bool, share: bool) -> None:
    curve: list[Progress] = []
    train_mappo(spec(kinds=kinds), TABLE.model_copy(update={"share_actors": share}), 5, curve.append)
    assert [point.env_steps for point in curve] == [320 * (index + 1) for index in range(15)]
    assert {point.total_env_steps for point in curve} == {4800}
    # Random play returns 5 / 3, and 5 / 2 in the seat with two actions; the best is 5.
    start = (5 / 3 + 5 / 2) / 2 if kinds else 5 / 3
    assert curve[0].mean_return == pytest.approx(start, abs=0.3)
    assert curve[-1].mean_return > start + 1.0


@pytest.mark.parametrize("actions", ["discrete", "box"])
def test_fresh_networks(actions: str) -> None:
    env = spec(actions=actions).spec
    actor = make_networks(env, TABLE).actors["left"]
    assert isinstance(actor, GaussianActor) == (actions == "box")
    said = actor(torch.ones(4, env.group_spec("left").observation_size))
    if actions == "box":  # means near 0, deviations e^-0.5
        assert said[:, 2:].tolist() == [[-0.5, -0.5]] * 4
        said = said[:, :2]
    assert said.abs().max() < 0.05  # nearly uniform


def test_training_raises_the_return_of_several_factors() -> None:
    curve: list[Progress] = []
    train_mappo(spec(actions="multi-discrete"), TABLE, 5, curve.append)
    # Random play returns 5 (1/2 + 1/3) / 2; the best is 5.
    assert curve[0].mean_return == pytest.approx(25 / 12, abs=0.3)
    assert curve[-1].mean_return > 25 / 12 + 1.0


@pytest.mark.parametrize("squash", [False, True])
def test_training_raises_the_return_of_continuous_actions(squash: bool) -> None:
    echo = Echo(actions="box")
    env = TeamEnv(echo, make_groups("per-agent", echo.agents), squash=squash)
    assert env.spec.actions["left"] == Box((-1.0, -1.0), (1.0, 1.0), squash)
    curve: list[Progress] = []
    networks = train_mappo(env, TABLE.model_copy(update={"entropy": (0.0,)}), 5, curve.append)
    # It begins by saying about 0, off by E[clip(x)^2] = 0.516, with a deviation of e^-0.5 = 0.61 besides, whose square
    # is 0.37 (less where it is clipped or squashed): 5 (1 - 0.516 - 0.37) = 0.57 and more. The best is 5.
    assert 0.4 < curve[0].mean_return < 1.6
    assert curve[-1].mean_return > curve[0].mean_return + 2.0
    # Without the noise it does better: always 0 would return 5 (1 - 0.516) = 2.42.
    returns = play(env, Teacher(env.spec, networks.actors), range(200), copies=200, max_steps=5)
    assert returns.mean.mean() > max(4.0, curve[-1].mean_return)
    # It has grown surer of what it says.
    assert float(networks.actors["left"].log_std.detach().mean()) < -0.6


def test_the_same_seed_gives_the_same_teacher() -> None:
    short = TABLE.model_copy(update={"steps_per_cycle": 640})
    one, two = (train_mappo(spec(), short, 5, lambda point: None) for _ in range(2))
    other = train_mappo(spec(), short.model_copy(update={"seed": 1}), 5, lambda point: None)
    assert torch.equal(one.actors["left"][0].weight, two.actors["left"][0].weight)
    assert not torch.equal(one.actors["left"][0].weight, other.actors["left"][0].weight)


def test_agents_that_leave_and_masks() -> None:
    """`early` leaves with step 2 and `late` with step 4; an illegal action is an error of the environment."""
    copies = Copies("counting", lambda: Counting(masks="info"))
    env = TeamEnv(copies, {"early": ("early",), "late": ("late",)})
    curve: list[Progress] = []
    table = TrainTable(hidden=(8,), copies=32, epochs=2, minibatches=2, steps_per_cycle=4 * 32 * 8, learning_rate=1e-2)
    networks = train_mappo(env, table, 10, curve.append)
    assert [point.env_steps for point in curve] == [128 * (index + 1) for index in range(8)]
    # The best legal actions: 10 (2 * 1 + 2 * 2) = 60 of `early`; 2 * 1 + 2 * 2 + 1 * 3 + 2 * 4 = 17 of `late`.
    assert all(point.mean_return <= (60 + 17) / 2 for point in curve)
    assert np.isfinite(networks.value_mean)
    assert networks.value_mean > 0


def test_cycles_restart_the_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def note(self: torch.optim.Adam) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", note)
    table = TABLE.model_copy(
        update={"cycles": 2, "steps_per_cycle": 640, "epochs": 1, "minibatches": 1, "learning_rate_end": 0.0}
    )
    train_mappo(spec(), table, 5, lambda point: None)
    # Two iterations of 320 steps a cycle: full at its start, half in its middle.
    assert rates == pytest.approx([0.01, 0.005, 0.01, 0.005])
