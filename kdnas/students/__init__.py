"""Students: the families that they are built of, teams of them, and the folder in which a team is deployed."""

from kdnas.students.bundle import StudentCard, StudentTeam, load_student, read_student_card
from kdnas.students.card import render_card
from kdnas.students.fake_quant import FakeQuantMlp
from kdnas.students.family import Family, LayerShape, Settling, TwinMaker, load_family
from kdnas.students.mlp import Mlp, MlpFamily, QuantMlp
from kdnas.students.student import Normalisation, Student, Team
from kdnas.students.weights import rebuild_student

__all__ = [
    "FakeQuantMlp",
    "Family",
    "LayerShape",
    "Mlp",
    "MlpFamily",
    "Normalisation",
    "QuantMlp",
    "Settling",
    "Student",
    "StudentCard",
    "StudentTeam",
    "Team",
    "TwinMaker",
    "load_family",
    "load_student",
    "read_student_card",
    "rebuild_student",
    "render_card",
]
