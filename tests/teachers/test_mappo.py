import numpy as np
import pytest
import torch
from echo import Echo
from toys import Counting

from kdnas.config.study import TrainTable
from kdnas.envs import Copies, TeamEnv, make_groups
from kdnas.teachers import Progress, train_mappo
from kdnas.teachers.mappo import advantages_by_gae, make_networks

TABLE = TrainTable(hidden=(16,), copies=64, epochs=4, minibatches=2, learning_rate=1e-2, steps_per_cycle=5 * 64 * 15)
"""An episode of `Echo` has 5 steps: 15 iterations."""


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)


def test_advantages_by_hand() -> None:
    advantages, targets = advantages_by_gae(column(1, 2, 3), column(1, 1, 1), column(1, 1, 1), 0.5, 0.5)
    # From the end: 3 - 1 = 2; (2 + .5 - 1) + .25 * 2 = 2; (1 + .5 - 1) + .25 * 2 = 1.
    assert advantages.flatten().tolist() == [1, 2, 2]
    assert targets.flatten().tolist() == [2, 3, 3]


def test_an_agent_that_leaves_has_no_future() -> None:
    advantages, targets = advantages_by_gae(column(1, 2, 0), column(1, 1, 7), column(1, 1, 0), 0.5, 0.5)
    # Its last step is the second: 2 - 1 = 1; (1 + .5 - 1) + .25 * 1 = .75. What the critic says later (7) is nothing.
    assert advantages.flatten().tolist() == [0.75, 1, 0]
    assert targets.flatten().tolist()[:2] == [1.75, 2]


def test_lambda_one_is_the_return_and_lambda_zero_one_step() -> None:
    rewards, values, alive = column(1, 2, 4), column(3, 5, 7), column(1, 1, 1)
    assert advantages_by_gae(rewards, values, alive, 1.0, 1.0)[1].flatten().tolist() == [7, 6, 4]
    # 1 + 5 - 3, 2 + 7 - 5, 4 - 7
    assert advantages_by_gae(rewards, values, alive, 1.0, 0.0)[0].flatten().tolist() == [3, 4, -3]


def test_agents_and_copies_do_not_mix() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(6, 3, 2, generator=generator) for _ in range(2))
    alive = torch.ones(6, 3, 2)
    together = advantages_by_gae(rewards, values, alive, 0.9, 0.8)[0]
    for copy in range(3):
        one = advantages_by_gae(rewards[:, [copy]], values[:, [copy]], alive[:, [copy]], 0.9, 0.8)[0]
        torch.testing.assert_close(together[:, [copy]], one)


def spec(rule: str = "per-agent", **env: bool):
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
