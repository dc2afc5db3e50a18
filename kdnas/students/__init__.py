"""Students: the families that they are built of, teams of them, and the folder in which a team is deployed."""

from kdnas.students.activation import RELU, SOFTSIGN, Activation
from kdnas.students.bundle import load_student, read_student_card
from kdnas.students.card import StudentCard
from kdnas.students.card_page import render_card
from kdnas.students.deepset import DeepSet, DeepSetFamily, QuantDeepSet
from kdnas.students.fake_quant import FakeQuantMlp
from kdnas.students.family import (
    PLACE_BYTES,
    Family,
    Gathering,
    IntegerForm,
    IntegerMaker,
    LayerShape,
    Place,
    Selective,
    Settling,
    TwinMaker,
    Units,
    common_bits,
    load_family,
)
from kdnas.students.gru import Gru, GruFamily, QuantGru
from kdnas.students.mlp import Mlp, MlpFamily, QuantMlp
from kdnas.students.student import Normalisation, Seats, Student
from kdnas.students.student_team import StudentTeam
from kdnas.students.team import Actor, Team
from kdnas.students.weights import rebuild_student

__all__ = [
    "PLACE_BYTES",
    "RELU",
    "SOFTSIGN",
    "Activation",
    "Actor",
    "DeepSet",
    "DeepSetFamily",
    "FakeQuantMlp",
    "Family",
    "Gathering",
    "Gru",
    "GruFamily",
    "IntegerForm",
    "IntegerMaker",
    "LayerShape",
    "Mlp",
    "MlpFamily",
    "Normalisation",
    "Place",
    "QuantDeepSet",
    "QuantGru",
    "QuantMlp",
    "Seats",
    "Selective",
    "Settling",
    "Student",
    "StudentCard",
    "StudentTeam",
    "Team",
    "TwinMaker",
    "Units",
    "common_bits",
    "load_family",
    "load_student",
    "read_student_card",
    "rebuild_student",
    "render_card",
]
