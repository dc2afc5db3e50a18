import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.policies.actions import Discrete
from kdnas.teachers.advantages import advantage_weights, advantages, advantages_by_gae, episode_values, fit_value
from kdnas.teachers.episodes import Episodes, GroupRecord

AGENT = AgentSpec(observation_size=1, actions=Discrete(2))
SPEC = EnvSpec(
    name="toy",
    agents={"a": AGENT, "b": AGENT, "c": AGENT},
    groups={"pair": ("c", "a"), "one": ("b",)},
    state_size=2,
)
STEPS = 3


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)


def test_advantages_by_hand() -> None:
    found, targets = advantages_by_gae(column(1, 2, 3), column(1, 1, 1), column(1, 1, 1), 0.5, 0.5)
    # From the end: 3 - 1 = 2; (2 + .5 - 1) + .25 * 2 = 2; (1 + .5 - 1) + .25 * 2 = 1.
    assert found.flatten().tolist() == [1, 2, 2]
    assert targets.flatten().tolist() == [2, 3, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_an_agent_that_leaves_has_no_future(dtype: torch.dtype) -> None:
    alive = column(1, 1, 0).to(dtype)
    found, targets = advantages_by_gae(column(1, 2, 0), column(1, 1, 7), alive, 0.5, 0.5)
    # Its last step is the second: 2 - 1 = 1; (1 + .5 - 1) + .25 * 1 = .75. What the critic says later (7) is nothing.
    assert found.flatten().tolist() == [0.75, 1, 0]
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


class Known(nn.Module):
    """10 x the first state feature, 100 x the share gone, and their sum."""

    def forward(self, state: Tensor, gone: Tensor) -> Tensor:
        return torch.stack([10 * state[:, 0], 100 * gone, 10 * state[:, 0] + 100 * gone], -1)


def episodes(rewards: dict[str, np.ndarray], alive: dict[str, np.ndarray], state: np.ndarray) -> Episodes:
    return Episodes(
        groups={
            group: GroupRecord(
                observations=np.zeros((*paid.shape, 1), np.float32),
                parameters=np.zeros((*paid.shape, 2), np.float32),
                alive=alive[group],
                rewards=paid.astype(np.float32),
            )
            for group, paid in rewards.items()
        },
        state=state.astype(np.float32),
    )


def test_values_by_hand() -> None:
    state = np.zeros((2, STEPS, 2), np.float32)
    state[:, :, 0] = [[1, 2, 3], [4, 5, 6]]
    values = episode_values(Known(), state, 4)  # the recording is shorter than the longest episode
    assert values.shape == (2, STEPS, 3)
    assert values[0].tolist() == [[10, 0, 10], [20, 25, 45], [30, 50, 80]]
    assert values[1, :, 0].tolist() == [40, 50, 60]


def test_advantages_of_groups_by_hand() -> None:
    # c is paid 1, 2, 3, a is paid nothing, b 5 at once and then it leaves.
    paid = {"pair": np.array([[[1, 0], [2, 0], [3, 0]]]), "one": np.array([[[5], [0], [0]]])}
    alive = {"pair": np.ones((1, STEPS, 2), bool), "one": np.array([[[True], [False], [False]]])}
    state = np.zeros((1, STEPS, 2))
    state[:, :, 0] = 0.1  # values of c: 1, always; of a: 0, 25, 50 (see `Known`); of b: 1 where it still is
    found = advantages(episodes(paid, alive, state), Known(), 0.5, 0.5, SPEC, 4)
    assert {group: array.dtype for group, array in found.items()} == {"pair": np.float32, "one": np.float32}
    # c as in `test_advantages_by_hand`.
    assert found["pair"][0, :, 0].tolist() == pytest.approx([1, 2, 2])
    # a: 0 - 50 = -50; (.5 * 50 - 25) + .25 * -50 = -12.5; (.5 * 25 - 0) + .25 * -12.5 = 9.375
    assert found["pair"][0, :, 1].tolist() == pytest.approx([9.375, -12.5, -50])
    # b: 5 - 1
    assert found["one"][0, :, 0].tolist() == pytest.approx([4, 0, 0])


def lottery(episode_count: int, luck: float, seed: int = 0) -> Episodes:
    """Each step pays c the first state feature x, -1 or 1 for the whole episode, give or take `luck`; a gets twice
    that; b is there in every other episode, gets as much once and leaves. The second feature never changes."""
    generator = np.random.default_rng(seed)
    x = generator.choice([-1.0, 1.0], (episode_count, 1))
    paid = x + luck * generator.choice([-1.0, 1.0], (episode_count, STEPS))
    first = np.zeros((episode_count, STEPS, 1), bool)
    first[::2, 0] = True
    return episodes(
        {"pair": np.stack([paid, 2 * paid], -1), "one": paid[:, :, None] * first},
        {"pair": np.ones((episode_count, STEPS, 2), bool), "one": first},
        np.stack([np.broadcast_to(x, (episode_count, STEPS)), np.full((episode_count, STEPS), 7.0)], -1),
    )


STATE = torch.tensor([[x, 7.0] for x in (-1.0, 1.0) for _ in range(STEPS)])
GONE = torch.tensor([0.0, 0.25, 0.5] * 2)  # of 4 steps at most


@pytest.mark.parametrize(("luck", "error"), [(0.0, 0.01), (1.0, 0.1)])
def test_a_fitted_value_is_the_known_one(luck: float, error: float) -> None:
    # Luck gives a return the deviation sqrt(1 + 1/4 + 1/16) = 1.15, and its mean over 1000 episodes of each x 0.036;
    # that of b, of 500 and deviation 1, 0.045.
    generator = torch.Generator().manual_seed(0)
    value = fit_value(lottery(2000, luck), SPEC, 0.5, 0.9, 4, generator)
    found = value(STATE, GONE)
    # To the end, with a discount of 1/2: x (1 + 1/2 + 1/4), x (1 + 1/2), x.
    known = torch.tensor([-1.75, -1.5, -1.0, 1.75, 1.5, 1.0])
    torch.testing.assert_close(found[:, 0], known, atol=error, rtol=0)
    torch.testing.assert_close(found[:, 1], 2 * known, atol=2 * error, rtol=0)
    # b is only there at the first step: x.
    torch.testing.assert_close(found[[0, 3], 2], torch.tensor([-1.0, 1.0]), atol=error, rtol=0)
    assert not any(parameter.requires_grad for parameter in value.parameters())


def test_the_same_generator_fits_the_same_value() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (
        fit_value(lottery(50, 1.0), SPEC, 0.5, 0.9, 4, torch.Generator().manual_seed(seed), steps=20)(STATE, GONE)
        for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_feature_that_never_varied_is_not_read() -> None:
    value = fit_value(lottery(50, 0.0), SPEC, 0.5, 0.9, 4, torch.Generator().manual_seed(0), steps=20)
    assert torch.equal(value(STATE, GONE), value(STATE + torch.tensor([0.0, 100.0]), GONE))


def test_weights_by_hand() -> None:
    # Mean 2, deviation sqrt((4 + 0 + 4 + 0) / 4) = sqrt 2: -sqrt 2, 0, sqrt 2, 0; exp(sqrt 2 / 2) = 2.028115.
    weights = advantage_weights(torch.tensor([0.0, 2.0, 4.0, 2.0]), 2.0, 0.1, 5.0)
    assert weights.tolist() == pytest.approx([1 / 2.028115, 1, 2.028115, 1])
    # Where they stand, and in what unit, does not matter.
    assert advantage_weights(torch.tensor([-7.0, 13.0, 33.0, 13.0]), 2.0, 0.1, 5.0).tolist() == pytest.approx(
        weights.tolist()
    )
    # exp(+-sqrt 2) = 4.11325 and 0.243117 lie outside the bounds.
    weights = advantage_weights(torch.tensor([0.0, 2.0, 4.0, 2.0]), 1.0, 0.5, 2.0)
    assert weights.tolist() == pytest.approx([0.5, 1, 2, 1])


def test_a_small_beta_gives_the_bounds_and_no_infinity() -> None:
    assert advantage_weights(torch.tensor([0.0, 1.0]), 1e-6, 0.1, 5.0).tolist() == pytest.approx([0.1, 5.0])


@pytest.mark.parametrize("values", [[3.0, 3.0, 3.0], [0.1]])
def test_equal_advantages_weigh_one(values: list[float]) -> None:
    assert advantage_weights(torch.tensor(values), 1.0, 0.1, 5.0).tolist() == [1.0] * len(values)
