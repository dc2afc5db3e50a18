"""Batches of environments, who shares a network in them, and whole episodes."""

from kdnas.envs.batched import BatchedEnv, BatchedStep
from kdnas.envs.copies import Copies
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.make import check_twin, choose_processes, make_env, make_twin
from kdnas.envs.rollouts import Returns, play
from kdnas.envs.spec import AgentSpec, EnvSpec, make_groups
from kdnas.envs.team_env import TeamEnv, TeamStep
from kdnas.envs.view import SeenSet, View

__all__ = [
    "AgentSpec",
    "BatchedEnv",
    "BatchedStep",
    "Copies",
    "Entities",
    "EntitySet",
    "EnvSpec",
    "Returns",
    "SeenSet",
    "TeamEnv",
    "TeamStep",
    "View",
    "check_twin",
    "choose_processes",
    "make_env",
    "make_groups",
    "make_twin",
    "play",
]
