"""The inner loop: a student learns from its teacher, once, and is kept in the bank."""

from kdnas.distill.bank import StudentBank
from kdnas.distill.losses import kl_with_temperature
from kdnas.distill.memory import RowMemory
from kdnas.distill.pool import Pool, make_pools
from kdnas.distill.recipe import lineage, make_student
from kdnas.distill.trainer import Classroom, train

__all__ = [
    "Classroom",
    "Pool",
    "RowMemory",
    "StudentBank",
    "kl_with_temperature",
    "lineage",
    "make_pools",
    "make_student",
    "train",
]
