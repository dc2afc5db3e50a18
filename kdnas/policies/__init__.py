"""What acts: joint policies, and action distributions as pure functions."""

from kdnas.policies.arrays import Bools, Floats, Ints
from kdnas.policies.categorical import ILLEGAL, entropy, greedy, log_prob, mask_logits, sample
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy

__all__ = [
    "ILLEGAL",
    "Bools",
    "Floats",
    "Ints",
    "RandomPolicy",
    "TeamPolicy",
    "entropy",
    "greedy",
    "log_prob",
    "mask_logits",
    "sample",
]
