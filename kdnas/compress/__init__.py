"""Transforms of students: fewer units, fewer bits."""

from kdnas.compress.prune import prune
from kdnas.compress.quantize import quantize, training_twin

__all__ = ["prune", "quantize", "training_twin"]
