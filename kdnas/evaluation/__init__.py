"""How well a team plays: seed sets, and scores with their intervals."""

from kdnas.evaluation.paired import retention_parts, standard_error
from kdnas.evaluation.score import Interval, Score, bootstrap, make_gain, make_score
from kdnas.evaluation.seeds import SeedSets

__all__ = [
    "Interval",
    "Score",
    "SeedSets",
    "bootstrap",
    "make_gain",
    "make_score",
    "retention_parts",
    "standard_error",
]
