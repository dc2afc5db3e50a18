"""The frozen joint policies that students learn from: how one is made, kept on disk, and recorded."""

from kdnas.teachers.checkpoint import ActorCard, TeacherCard, load_teacher, read_card, save_teacher
from kdnas.teachers.demonstrations import Demonstrations, keep_demonstrations
from kdnas.teachers.episodes import Episodes, GroupRecord, record
from kdnas.teachers.mappo import Networks, Progress, train_mappo
from kdnas.teachers.network import GaussianActor, make_mlp
from kdnas.teachers.teacher import Reading, Teacher

__all__ = [
    "ActorCard",
    "Demonstrations",
    "Episodes",
    "GaussianActor",
    "GroupRecord",
    "Networks",
    "Progress",
    "Reading",
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
