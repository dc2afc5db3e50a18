"""The frozen joint policies that students learn from: how one is made, kept on disk, and recorded."""

from kdnas.teachers.checkpoint import ActorCard, TeacherCard, load_teacher, read_card, save_teacher
from kdnas.teachers.demonstrations import Demonstrations, Rows, keep_demonstrations, record
from kdnas.teachers.mappo import Networks, Progress, train_mappo
from kdnas.teachers.network import make_mlp
from kdnas.teachers.teacher import Teacher

__all__ = [
    "ActorCard",
    "Demonstrations",
    "Networks",
    "Progress",
    "Rows",
    "Teacher",
    "TeacherCard",
    "keep_demonstrations",
    "load_teacher",
    "make_mlp",
    "read_card",
    "record",
    "save_teacher",
    "train_mappo",
]
