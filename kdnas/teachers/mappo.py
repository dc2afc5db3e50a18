"""MAPPO: the centralised training that makes a teacher.

PPO with a clipped ratio for every actor and one centralised critic on the global state (Yu et al. 2022,
arXiv 2103.01955), advantages by GAE (Schulman et al. 2016, arXiv 1506.02438), values normalised by running statistics.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from kdnas.config.study import TrainTable
from kdnas.envs.spec import EnvSpec
from kdnas.envs.team_env import TeamEnv
from kdnas.policies.actions import Box
from kdnas.policies.distribution import entropy, log_prob, sample, to_actions
from kdnas.policies.masks import mask_logits
from kdnas.teachers.advantages import advantages_by_gae
from kdnas.teachers.network import GaussianActor, make_mlp


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One point of the learning curve."""

    env_steps: int
    total_env_steps: int
    mean_return: float
    """Undiscounted, mean over agents, of the sampled (not greedy) policy."""
    seconds: float


Actor: TypeAlias = nn.Sequential | GaussianActor


@dataclass(kw_only=True)
class Networks:
    """What MAPPO trains."""

    actors: dict[str, Actor]
    """Group -> actor; groups that share one point at the same module."""
    critic: nn.Sequential
    """(rows, S + 1) -> (rows, agents): normalised value of each agent; the last input is the share of time gone."""
    value_mean: float = 0.0
    value_std: float = 1.0

    def unique_actors(self) -> dict[int, tuple[Actor, list[str]]]:
        """Each distinct actor with the groups that use it."""
        owners: dict[int, tuple[Actor, list[str]]] = {}
        for group, actor in self.actors.items():
            owners.setdefault(id(actor), (actor, []))[1].append(group)
        return owners


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """One iteration's experience: T steps of B copies; P is all agents of one actor."""

    observations: dict[int, Tensor]
    """Actor -> (T, B, P, O)."""
    masks: dict[int, Tensor | None]
    actions: dict[int, Tensor]
    """Actor -> choices (T, B, P, *shape), before they are clipped or squashed."""
    log_probs: dict[int, Tensor]
    columns: dict[int, list[int]]
    """Actor -> its agents' columns in the arrays over all agents."""
    states: Tensor
    """(T, B, S + 1)."""
    rewards: Tensor
    """(T, B, agents)."""
    alive: Tensor
    """(T, B, agents): the agent acted here."""


def make_networks(spec: EnvSpec, table: TrainTable) -> Networks:
    """Fresh actors and critic."""
    generator = torch.Generator().manual_seed(table.seed)
    shared: dict[object, Actor] = {}
    actors: dict[str, Actor] = {}
    for group in spec.groups:
        spaces = spec.group_spec(group)
        key: object = spaces if table.share_actors else group
        if key not in shared:
            network = make_mlp(
                spaces.observation_size, table.hidden, spaces.actions.outputs, last_gain=0.01, generator=generator
            )
            continuous = isinstance(spaces.actions, Box)
            shared[key] = GaussianActor(network, spaces.actions.outputs) if continuous else network
        actors[group] = shared[key]
    critic = make_mlp(spec.state_size + 1, table.hidden, len(spec.agents), generator=generator)
    return Networks(actors=actors, critic=critic)


def train_mappo(env: TeamEnv, table: TrainTable, max_steps: int, report: Callable[[Progress], None]) -> Networks:
    """Train actors and critic on an environment; `report` is called once an iteration."""
    networks = make_networks(env.spec, table)
    generator = torch.Generator().manual_seed(table.seed + 1)
    started, steps, total = time.monotonic(), 0, table.cycles * table.steps_per_cycle
    episode = 0
    for cycle in range(table.cycles):
        modules = [*(actor for actor, _ in networks.unique_actors().values()), networks.critic]
        parameters = [parameter for module in modules for parameter in module.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=table.learning_rate, eps=1e-5)
        entropy_start = table.entropy[min(cycle, len(table.entropy) - 1)]
        while steps < (cycle + 1) * table.steps_per_cycle:
            left = 1.0 - (steps - cycle * table.steps_per_cycle) / table.steps_per_cycle
            for setting in optimizer.param_groups:
                setting["lr"] = table.learning_rate_end + left * (table.learning_rate - table.learning_rate_end)
            # Positive in int32, as some environments want their seeds.
            seeds = (np.random.SeedSequence([table.seed, episode]).generate_state(table.copies) >> 1).tolist()
            episode += 1
            batch = _collect(env, networks, seeds, max_steps, generator)
            _update(env.spec, networks, optimizer, batch, table, entropy_start * left, generator)
            steps += int(batch.alive.any(-1).sum())
            report(
                Progress(
                    env_steps=steps,
                    total_env_steps=total,
                    mean_return=float((batch.rewards * batch.alive).sum(0).mean()),
                    seconds=time.monotonic() - started,
                )
            )
    return networks


@torch.no_grad()
def _collect(
    env: TeamEnv, networks: Networks, seeds: list[int], max_steps: int, generator: torch.Generator
) -> _Batch:
    """Play one episode of each seed with sampled actions."""
    groups = env.spec.groups
    owners = networks.unique_actors()
    agents = [agent for members in groups.values() for agent in members]
    columns = {
        key: [agents.index(agent) for group in owned for agent in groups[group]] for key, (_, owned) in owners.items()
    }
    rows: dict[str, dict[int, list[Tensor]]] = {name: {key: [] for key in owners} for name in ("o", "m", "a", "p")}
    states: list[Tensor] = []
    rewards: list[Tensor] = []
    alive: list[Tensor] = []
    step = env.reset(seeds)
    for time_index in range(max_steps):
        if step.over:
            break
        actions = {}
        for key, (actor, owned) in owners.items():
            seen = torch.from_numpy(np.concatenate([step.observations[group] for group in owned], axis=1))
            legal = [sent for group in owned if (sent := step.masks[group]) is not None]
            mask = torch.from_numpy(np.concatenate(legal, axis=1)) if legal else None
            logits = mask_logits(actor(seen), mask)
            space = env.spec.group_spec(owned[0]).actions
            chosen = sample(space, logits, generator)
            rows["o"][key].append(seen)
            rows["a"][key].append(chosen)
            rows["p"][key].append(log_prob(space, logits, chosen))
            if mask is not None:
                rows["m"][key].append(mask)
            taken, seat = to_actions(space, chosen), 0
            for group in owned:
                actions[group] = taken[:, seat : seat + len(groups[group])].numpy()
                seat += len(groups[group])
        gone = np.full((len(seeds), 1), time_index / max_steps, np.float32)
        states.append(torch.from_numpy(np.concatenate([step.state, gone], axis=1)))
        alive.append(torch.from_numpy(np.concatenate([step.alive[group] for group in groups], axis=1)))
        step = env.step(actions)
        rewards.append(torch.from_numpy(np.concatenate([step.rewards[group] for group in groups], axis=1)))
    return _Batch(
        observations={key: torch.stack(rows["o"][key]) for key in owners},
        masks={key: torch.stack(rows["m"][key]) if rows["m"][key] else None for key in owners},
        actions={key: torch.stack(rows["a"][key]) for key in owners},
        log_probs={key: torch.stack(rows["p"][key]) for key in owners},
        columns=columns,
        states=torch.stack(states),
        rewards=torch.stack(rewards),
        alive=torch.stack(alive),
    )


def _update(
    spec: EnvSpec,
    networks: Networks,
    optimizer: torch.optim.Optimizer,
    batch: _Batch,
    table: TrainTable,
    entropy_weight: float,
    generator: torch.Generator,
) -> None:
    """Some epochs of PPO on one batch of experience."""
    with torch.no_grad():
        values = networks.critic(batch.states) * networks.value_std + networks.value_mean
        advantages, targets = advantages_by_gae(batch.rewards, values, batch.alive, table.gamma, table.gae_lambda)
        acted = batch.alive.bool()
        networks.value_mean = 0.95 * networks.value_mean + 0.05 * float(targets[acted].mean())
        networks.value_std = max(0.95 * networks.value_std + 0.05 * float(targets[acted].std()), 1e-3)
        targets = ((targets - networks.value_mean) / networks.value_std).flatten(0, 1)
        weights = batch.alive.float().flatten(0, 1)
        advantages = ((advantages - advantages[acted].mean()) / (advantages[acted].std() + 1e-8)).flatten(0, 1)
        states = batch.states.flatten(0, 1)
    owners = networks.unique_actors()
    flat = {
        key: tuple(t.flatten(0, 1) for t in (batch.observations[key], batch.actions[key], batch.log_probs[key]))
        for key in owners
    }
    masks = {key: mask.flatten(0, 1) if mask is not None else None for key, mask in batch.masks.items()}
    for rows in _minibatches(len(states), table, generator):
        loss = ((networks.critic(states[rows]) - targets[rows]).square() * weights[rows]).sum() / weights[rows].sum()
        for key, (actor, owned) in owners.items():
            space = spec.group_spec(owned[0]).actions
            seen, chosen, old = (tensor[rows] for tensor in flat[key])
            mask = masks[key]
            logits = mask_logits(actor(seen), None if mask is None else mask[rows])
            weight, advantage = weights[rows][:, batch.columns[key]], advantages[rows][:, batch.columns[key]]
            ratio = (log_prob(space, logits, chosen) - old).exp()
            clipped = ratio.clamp(1 - table.clip, 1 + table.clip)
            gain = torch.min(ratio * advantage, clipped * advantage) + entropy_weight * entropy(space, logits)
            loss = loss - (gain * weight).sum() / weight.sum().clamp_min(1)
        optimizer.zero_grad()
        loss.backward()
        for module in (*(actor for actor, _ in owners.values()), networks.critic):
            nn.utils.clip_grad_norm_(module.parameters(), table.max_grad_norm)
        optimizer.step()


def _minibatches(rows: int, table: TrainTable, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(table.epochs):
        yield from torch.randperm(rows, generator=generator).chunk(table.minibatches)
