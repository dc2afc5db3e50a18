"""Transforms of students: fewer units, fewer bits."""

from kdnas.compress.prune import prune
from kdnas.compress.quantize import quantize

__all__ = ["prune", "quantize"]
