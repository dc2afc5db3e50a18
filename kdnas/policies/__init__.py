"""What acts: action spaces, distributions over them as pure functions, and joint policies."""

from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.policies.arrays import Actions, Bools, Floats
from kdnas.policies.distribution import entropy, greedy, log_prob, mode, sample, to_actions
from kdnas.policies.masks import ILLEGAL, mask_logits
from kdnas.policies.scene import Scene
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy

__all__ = [
    "ILLEGAL",
    "ActionSpace",
    "Actions",
    "Bools",
    "Box",
    "Discrete",
    "Floats",
    "MultiDiscrete",
    "RandomPolicy",
    "Scene",
    "TeamPolicy",
    "entropy",
    "greedy",
    "log_prob",
    "mask_logits",
    "mode",
    "sample",
    "to_actions",
]
