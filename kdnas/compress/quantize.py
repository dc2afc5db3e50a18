"""From a float student to a quantized one with the same weights, and what stands in for that one while it learns."""

import torch
from torch import Tensor

from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import Family, TwinMaker
from kdnas.students.student import Student

CALIBRATION_BATCHES = 40
"""More than the batches over which the activation quantizers of the families collect statistics."""


def quantize(student: Student, spec: StudentSpec, family: Family, batches: list[Tensor]) -> Student:
    """A quantized copy of a float student, its activation ranges set from batches of views.

    They are (B, V), or (B, T, V) of whole episodes for a recurrent student.
    """
    quantized = Student(spec, student.spaces, family.quantize(student.network, spec), student.normalisation)
    quantized.train()
    with torch.no_grad():
        for index in range(CALIBRATION_BATCHES):
            quantized(batches[index % len(batches)])
    return quantized


def training_twin(student: Student, family: Family) -> Student:
    """What to train so that a student learns: the cheaper twin of a calibrated quantized one, or the student itself.

    A twin has the student's parameters and, in evaluation mode, its answers.
    """
    if not student.spec.bits.quantized or not isinstance(family, TwinMaker):
        return student
    return Student(student.spec, student.spaces, family.training_twin(student.network), student.normalisation)
