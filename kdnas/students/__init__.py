"""Students: the families that they are built of, teams of them, and the folder in which a team is deployed."""

from kdnas.students.bundle import load_student, read_student_card
from kdnas.students.card import StudentCard
from kdnas.students.card_page import render_card
from kdnas.students.family import Family, LayerShape, load_family
from kdnas.students.mlp import Mlp, MlpFamily, QuantMlp
from kdnas.students.student import Normalisation, Seats, Student, Team
from kdnas.students.student_team import StudentTeam
from kdnas.students.weights import rebuild_student

__all__ = [
    "Family",
    "LayerShape",
    "Mlp",
    "MlpFamily",
    "Normalisation",
    "QuantMlp",
    "Seats",
    "Student",
    "StudentCard",
    "StudentTeam",
    "Team",
    "load_family",
    "load_student",
    "read_student_card",
    "rebuild_student",
    "render_card",
]
