"""Advantages: how much better than usual a recorded decision turned out, by the teacher's critic.

E episodes, T steps, A agents of a group, S state; "agents" are those of all groups, in the order of `spec.groups`.
MAPPO learns from advantages; distillation weighs by them, because a student has no critic of its own.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdnas.envs.spec import EnvSpec
from kdnas.policies.arrays import Floats
from kdnas.teachers.episodes import Episodes
from kdnas.teachers.network import make_mlp

CHUNK = 65536
"""Rows that a critic reads at once: hidden layers of a long recording would fill the memory."""


def advantages_by_gae(
    rewards: Tensor, values: Tensor, alive: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and value targets, both (T, B, agents).

    A_t = sum_l (gamma lambda)^l delta_{t+l},  delta_t = r_t + gamma V(s_{t+1}) - V(s_t); V after an agent's last step
    is 0 (equation 16 of arXiv 1506.02438).
    """
    advantages = torch.zeros_like(rewards)
    carried = torch.zeros_like(rewards[0])
    next_value = torch.zeros_like(rewards[0])
    for index in reversed(range(len(rewards))):
        delta = rewards[index] + gamma * next_value - values[index]
        carried = (delta + gamma * gae_lambda * carried) * alive[index]
        advantages[index] = carried
        next_value = values[index] * alive[index]
    return advantages, advantages + values


@torch.no_grad()
def episode_values(value: nn.Module, state: Floats, max_steps: int) -> Floats:
    """What a critic (rows, S), (rows,) -> (rows, agents) says to states (E, T, S): (E, T, agents).

    Its second input is the share of the episode that is gone, t / max_steps: an episode that is cut after `max_steps`
    is worth less and less, and the state alone does not show it.
    """
    episodes, steps = state.shape[:2]
    rows = torch.tensor(state).flatten(0, 1)
    gone = torch.from_numpy(_gone(episodes, steps, max_steps)).flatten()
    said = [value(*chunk) for chunk in zip(torch.split(rows, CHUNK), torch.split(gone, CHUNK), strict=True)]
    values: Floats = torch.cat(said).reshape(episodes, steps, -1).numpy()
    return values


def advantages(
    episodes: Episodes, value: nn.Module, gamma: float, gae_lambda: float, spec: EnvSpec, max_steps: int
) -> dict[str, Floats]:
    """Group -> advantages (E, T, A) of what its agents did; 0 where an agent is not alive.

    They are of the team's recorded behaviour, whoever acted in it: `advantages_by_gae` with the critic's values.
    """
    rewards, alive = _by_agent(episodes, spec)
    values = torch.from_numpy(episode_values(value, episodes.state, max_steps)).transpose(0, 1)
    found = advantages_by_gae(rewards, values, alive, gamma, gae_lambda)[0].transpose(0, 1)
    parts = torch.split(found, list(spec.seats.values()), -1)
    return {group: part.contiguous().numpy() for group, part in zip(spec.groups, parts, strict=True)}


def advantage_weights(advantages: Tensor, beta: float, low: float, high: float) -> Tensor:
    """w = clip(exp(A' / beta), low, high), of the shape of `advantages`; A' is A with mean 0 and deviation 1.

    Exponential weights of advantage-weighted regression (Peng et al. 2019, arXiv 1910.00177). Mean and deviation are
    those of the whole tensor: pass decisions of living agents only. Equal advantages weigh 1. `beta` > 0; the smaller
    it is, the more the best decisions outweigh.
    """
    deviation = advantages.std(correction=0).clamp_min(1e-8)
    return ((advantages - advantages.mean()) / deviation / beta).exp().clamp(low, high)


class FittedValue(nn.Module):
    """A critic with its normalisations: state (rows, S), share of the episode gone (rows,) -> (rows, agents)."""

    shift: Tensor
    scale: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, inputs: tuple[Tensor, Tensor], outputs: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.network = network
        for name, tensor in zip(("shift", "scale", "mean", "std"), (*inputs, *outputs), strict=True):
            self.register_buffer(name, tensor)

    def forward(self, state: Tensor, gone: Tensor) -> Tensor:
        seen = torch.cat([state, gone.unsqueeze(-1)], -1)
        normalised: Tensor = self.network((seen - self.shift) * self.scale)
        return normalised * self.std + self.mean


def fit_value(
    episodes: Episodes,
    spec: EnvSpec,
    gamma: float,
    gae_lambda: float,
    max_steps: int,
    generator: torch.Generator,
    *,
    hidden: Sequence[int] = (64, 64),
    steps: int = 600,
    batch: int = 1024,
    learning_rate: float = 3e-3,
) -> nn.Module:
    """A critic (rows, S), (rows,) -> (rows, agents) of recorded episodes, for a teacher that came without one.

    It is fitted by squared error: in the first half of `steps` to the discounted returns, in the second to the
    lambda-returns A_t + V(s_t) that the first fit gives, which vary less. Steps of agents that have left count for
    nothing. Adam, with a learning rate that falls to 0 by a cosine; the same generator state gives the same critic.
    """
    rewards, alive = _by_agent(episodes, spec)
    state = torch.tensor(episodes.state)  # a copy, for recordings are read-only
    gone = torch.from_numpy(_gone(state.shape[0], state.shape[1], max_steps)).unsqueeze(-1)
    seen = torch.cat([state, gone], -1).transpose(0, 1).flatten(0, 1)  # rows in the order of (T, E), as the targets
    weights = alive.flatten(0, 1)
    somebody = weights.any(-1)
    returns = advantages_by_gae(rewards, torch.zeros_like(rewards), alive, gamma, 1.0)[0]

    inputs = _moments(seen[somebody], torch.ones_like(seen[somebody]))
    outputs = _moments(returns.flatten(0, 1), weights.float())
    network = make_mlp(seen.shape[-1], hidden, len(spec.agents), generator=generator)
    # A feature that never varied in the recording says nothing, and must not be blown up when it does.
    scale = torch.where(inputs[1] > 1e-6, 1 / inputs[1].clamp_min(1e-6), 0.0)
    value = FittedValue(network, (inputs[0], scale), (outputs[0], outputs[1].clamp_min(1e-6)))

    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    seen, weights = seen[somebody], weights[somebody].float()
    targets = returns.flatten(0, 1)[somebody]
    for step in range(steps):
        if step == steps // 2:
            values = torch.from_numpy(episode_values(value, episodes.state, max_steps)).transpose(0, 1)
            targets = advantages_by_gae(rewards, values, alive, gamma, gae_lambda)[1].flatten(0, 1)[somebody]
        rows = torch.randint(len(seen), (batch,), generator=generator)
        error = (value(seen[rows, :-1], seen[rows, -1]) - targets[rows]) / value.std
        loss = (error.square() * weights[rows]).sum() / weights[rows].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return value.eval().requires_grad_(False)


def _by_agent(episodes: Episodes, spec: EnvSpec) -> tuple[Tensor, Tensor]:
    """Rewards, and who was alive, of the agents of all groups side by side, time first: both (T, E, agents)."""

    def join(arrays: Sequence[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays, -1)).transpose(0, 1)

    records = [episodes.groups[group] for group in spec.groups]
    return join([record.rewards for record in records]), join([record.alive for record in records])


def _gone(episodes: int, steps: int, max_steps: int) -> Floats:
    """Share of the episode that is gone at each step, (E, T)."""
    return np.tile(np.arange(steps, dtype=np.float32) / np.float32(max_steps), (episodes, 1))


def _moments(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and deviation (columns,) of rows (R, columns); a column of weight 0 has 0 and 0."""
    total = weights.sum(0).clamp_min(1e-8)
    mean = (rows * weights).sum(0) / total
    return mean, (((rows - mean).square() * weights).sum(0) / total).sqrt()
