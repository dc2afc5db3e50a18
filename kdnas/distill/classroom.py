"""`Classroom`: where students of one pool learn, and what their loss needs to know of the teacher."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdnas.config.study import DistillTable
from kdnas.distill.lessons import Lessons, make_lessons
from kdnas.distill.losses import representation
from kdnas.distill.pool import Pool
from kdnas.distill.terms import check_terms
from kdnas.envs.spec import EnvSpec
from kdnas.envs.team_env import TeamEnv
from kdnas.policies.actions import ActionSpace
from kdnas.teachers.advantages import advantages, fit_value
from kdnas.teachers.episodes import Episodes, GroupRecord
from kdnas.teachers.roles import Roles, has_roles, role_features
from kdnas.teachers.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class Classroom:
    """Environment, teacher and recipe, and how on-policy episodes are played; made by `open_classroom`."""

    env: TeamEnv
    teacher: Teacher
    pool: Pool
    recipe: DistillTable
    copies: int
    max_steps: int
    value: nn.Module | None = None
    """The critic whose advantages weigh rows, or are polished by, where the recipe asks for either."""
    roles: Roles | None = None
    """The roles of the pool's one teacher network, where the recipe asks for them."""

    def lessons(self, episodes: Episodes, seats: Mapping[str, Tensor] | None = None) -> Lessons:
        """The pool's rows of recorded episodes, with every column that the recipe's loss asks for.

        Of some `seats` only, group -> (copies, A), if they are given; episodes were played so many together.
        """
        loss, spec = self.recipe.loss, self.env.spec
        extras: dict[str, Mapping[str, NDArray[np.float32]]] = {}
        if loss.advantage_beta and self.value is not None:
            extras["advantages"] = advantages(episodes, self.value, loss.gamma, loss.gae_lambda, spec, self.max_steps)
        if loss.relation:
            extras["others"] = _others(episodes, self.pool, spec)
        if self.roles is not None:
            extras["roles"] = {
                group: _roles(self.teacher, group, self.roles, episodes.groups[group], episodes.state)
                for group in self.pool.groups
            }
        return make_lessons(episodes, self.pool, extras=extras, seats=seats)


def open_classroom(
    env: TeamEnv,
    teacher: Teacher,
    pool: Pool,
    recipe: DistillTable,
    demonstrations: Episodes,
    *,
    copies: int,
    max_steps: int,
    seed: int,
) -> Classroom:
    """Check the terms of a recipe's loss, and fit what they need to demonstrations of all groups.

    A teacher without a value gets one that is refitted on its rollouts (`fit_value`).

    Raises:
        ConfigError: a term that this teacher or these agents cannot have.
    """
    loss, group = recipe.loss, pool.groups[0]
    check_terms(
        loss,
        group,
        actions=pool.spaces.actions,
        other_agents=len(env.spec.agents) - 1,
        hidden_layer=bool(loss.role) and has_roles(teacher, group),
        q_temperature=teacher.reading[group].q_temperature,
    )
    value = teacher.value
    if value is None and (loss.advantage_beta or recipe.polish.rounds):
        generator = torch.Generator().manual_seed(seed)
        value = fit_value(demonstrations, env.spec, loss.gamma, loss.gae_lambda, max_steps, generator)
    roles = None
    if loss.role:
        seen = [
            _features(teacher, name, record, demonstrations.state)[torch.from_numpy(np.asarray(record.alive))]
            for name, record in demonstrations.groups.items()
            if name in pool.groups
        ]
        roles = Roles.fit(torch.cat(seen), loss.role_size)
    return Classroom(
        env=env,
        teacher=teacher,
        pool=pool,
        recipe=recipe,
        copies=copies,
        max_steps=max_steps,
        value=value,
        roles=roles,
    )


def other_spaces(pool: Pool, spec: EnvSpec) -> list[ActionSpace]:
    """Action spaces of the agents beside one of a pool's, in the order of the column `others`."""
    spaces = [agent.actions for agent in spec.agents.values()]
    spaces.remove(pool.spaces.actions)
    return sorted(spaces, key=repr)


def _others(episodes: Episodes, pool: Pool, spec: EnvSpec) -> dict[str, NDArray[np.float32]]:
    """Group -> `representation` of what the teachers of the agents beside each agent say: (E, T, A, sum of their N).

    Others follow each other in the team's order, beginning after the agent itself, so that equal places mean equal
    relations where agents share a student; those of one action space stand together.
    """
    said: list[tuple[str, ActionSpace, NDArray[np.float32]]] = []
    for group in spec.groups:
        record, actions = episodes.groups[group], spec.group_spec(group).actions
        mask = None if record.masks is None else torch.from_numpy(np.asarray(record.masks))
        shown = representation(actions, torch.from_numpy(np.asarray(record.parameters)), mask).numpy()
        said += [(group, actions, shown[:, :, seat]) for seat in range(shown.shape[2])]
    found: dict[str, list[NDArray[np.float32]]] = {group: [] for group in pool.groups}
    for place, (group, _, _) in enumerate(said):
        if group in found:
            around = [said[(place + step) % len(said)] for step in range(1, len(said))]
            around.sort(key=lambda other: repr(other[1]))
            found[group].append(np.concatenate([shown for _, _, shown in around], -1))
    return {group: np.stack(arrays, 2) for group, arrays in found.items()}


def _features(teacher: Teacher, group: str, record: GroupRecord, state: NDArray[np.float32]) -> Tensor:
    """The teacher's last hidden layer (E, T, A, H); a recurrent one lives through the episodes again."""
    reading, actor = teacher.reading[group], teacher.actors[group]
    seen = torch.from_numpy(np.asarray(record.observations))
    episodes, steps, seats = seen.shape[:3]
    if reading.state:
        shown = torch.from_numpy(np.asarray(state))[:, :, None].expand(-1, -1, seats, -1)
        seen = torch.cat([seen, shown], -1)
    if not reading.hidden_size:
        return role_features(teacher, group, seen.flatten(0, 2)).reshape(episodes, steps, seats, -1)
    hidden, features = torch.zeros(episodes * seats, reading.hidden_size), []
    for index in range(steps):
        rows = seen[:, index].flatten(0, 1)
        features.append(role_features(teacher, group, rows, hidden).reshape(episodes, seats, -1))
        with torch.no_grad():
            hidden = actor(rows, hidden)[1]
    return torch.stack(features, 1)


def _roles(
    teacher: Teacher, group: str, roles: Roles, record: GroupRecord, state: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Roles (E, T, A, D)."""
    found: NDArray[np.float32] = roles.transform(_features(teacher, group, record, state)).numpy()
    return found
