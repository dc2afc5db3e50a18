"""Study files: their tables as strict data, and how they are found and read."""

from kdnas.config.observe import EntitiesTable, EntitySetTable, ObserveTable
from kdnas.config.refine import JointTable, RefineTable, TeamPolishTable
from kdnas.config.shipped import find_space, find_study
from kdnas.config.strict import Strict
from kdnas.config.study import (
    DistillTable,
    EnvTable,
    EvaluationTable,
    SearchTable,
    StudyConfig,
    TargetTable,
    TeacherTable,
    TrainTable,
)
from kdnas.config.toml import read_toml, validate, validate_json

__all__ = [
    "DistillTable",
    "EntitiesTable",
    "EntitySetTable",
    "EnvTable",
    "EvaluationTable",
    "JointTable",
    "ObserveTable",
    "RefineTable",
    "SearchTable",
    "Strict",
    "StudyConfig",
    "TargetTable",
    "TeacherTable",
    "TeamPolishTable",
    "TrainTable",
    "find_space",
    "find_study",
    "read_toml",
    "validate",
    "validate_json",
]
