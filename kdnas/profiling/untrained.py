"""A student with random weights: what is exported and timed before anything is trained."""

import torch

from kdnas.compress.quantize import quantize
from kdnas.envs.spec import AgentSpec
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import Family
from kdnas.students.student import Normalisation, Student

ROWS = 64
"""Random views that a fresh quantizer sees, so that it has a scale; how long a decision takes does not depend on it."""


def make_untrained(family: Family, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool) -> Student:
    """A student of a spec in evaluation mode, quantized as its bits say.

    Raises:
        StudentError: no network of this family has such widths, or reads such observations.
    """
    generator = torch.Generator().manual_seed(0)
    network = family.build(spec.floating, spaces.inputs, generator)
    features = spaces.inputs.observation_size
    normalisation = Normalisation(shift=(0.0,) * features, scale=(1.0,) * features) if normalised else None
    floating = Student(spec.floating, spaces, network, normalisation).eval()
    if not spec.bits.quantized:
        return floating
    views = torch.randn(ROWS, spaces.observation_size, generator=generator)
    return quantize(floating, spec, family, [views.unsqueeze(1) if floating.hidden_size else views]).eval()
