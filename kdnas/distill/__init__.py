"""The inner loop: a student learns from its teacher, once, and is kept in the bank."""

from kdnas.distill.bank import StudentBank
from kdnas.distill.classroom import Classroom, open_classroom
from kdnas.distill.lessons import Lessons, make_lessons
from kdnas.distill.losses import divergence
from kdnas.distill.memory import LessonMemory
from kdnas.distill.pool import Pool, make_pools
from kdnas.distill.recipe import make_student
from kdnas.distill.stage import Stage, last_stage, lineage
from kdnas.distill.teaching import Teaching
from kdnas.distill.trainer import Training, train

__all__ = [
    "Classroom",
    "LessonMemory",
    "Lessons",
    "Pool",
    "Stage",
    "StudentBank",
    "Teaching",
    "Training",
    "divergence",
    "last_stage",
    "lineage",
    "make_lessons",
    "make_pools",
    "make_student",
    "open_classroom",
    "train",
]
