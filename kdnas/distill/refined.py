"""`RefinedTeams`: teams of the front that were trained on together, addressed by what made them."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from kdnas.config.refine import JointTable, RefineTable, TeamPolishTable
from kdnas.config.toml import validate
from kdnas.distill.bank import StudentBank
from kdnas.distill.classroom import Classroom
from kdnas.distill.joint import recover_jointly
from kdnas.distill.polish import polish_team
from kdnas.distill.pool import Pool
from kdnas.envs.spec import EnvSpec
from kdnas.errors import BundleError, ConfigError, RunError
from kdnas.spaces.spec import StudentSpec
from kdnas.students.refinement import Refinement
from kdnas.students.student import Student
from kdnas.students.team import Team
from kdnas.students.weights import read_tensors, rebuild_student, team_tensors, weights_digest, write_tensors

Students = Mapping[str, Student]
"""Group -> student."""


@dataclass(frozen=True, kw_only=True)
class RefineStage:
    """One thing that is done to a whole team."""

    name: str
    table: JointTable | TeamPolishTable
    train: Callable[..., None]
    """(students, rooms, table, seed=...): in place, as `recover_jointly` says."""

    def run(self, students: Students, rooms: Mapping[str, Classroom], *, seed: int) -> None:
        """Train students in place, group by group in the classroom of its pool."""
        self.train(students, rooms, self.table, seed=seed)


def stages_of(table: RefineTable) -> list[RefineStage]:
    """The stages that a study asks for, in their order."""
    stages = []
    if table.joint.steps:
        stages.append(RefineStage(name="joint recovery", table=table.joint, train=recover_jointly))
    if table.polish.rounds:
        stages.append(RefineStage(name="polish", table=table.polish, train=polish_team))
    return stages


@dataclass(frozen=True, kw_only=True)
class RefinedTeams:
    """A folder with one safetensors file for each stage that a team went through, there whole or not at all.

    Its address is a hash of the weights that the stage began with and of all that made those it ended with. A file
    holds the record of the stage and, where it was kept, the weights; so a search that was interrupted goes on at the
    stage that it lacks. The bank is not touched: its students are valid in any team, these in their own alone.
    """

    folder: Path
    bank: StudentBank
    spec: EnvSpec
    pools: Mapping[str, Pool]
    table: RefineTable

    @property
    def stages(self) -> list[RefineStage]:
        """Those that every team goes through."""
        return stages_of(self.table)

    def address(self, stage: RefineStage, team: Team) -> str:
        """Where what a stage makes of a team is kept."""
        made_from = {
            "environment": self.bank.environment,
            "teacher": {group: self.pools[group].teacher_digest for group in self.spec.groups},
            "spaces": {group: repr(self.pools[group].spaces) for group in self.spec.groups},
            "views": {group: view.as_json() for group, view in self.spec.views.items()},
            "specs": _specs(team.students),
            "weights": {group: weights_digest(student) for group, student in team.students.items()},
            "recipe": self.bank.recipe.model_dump(),
            "stage": [stage.name, stage.table.model_dump(), self.table.validation_episodes],
            "seed": self.bank.seed,
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:20]

    def seed(self, stage: RefineStage, team: Team) -> int:
        """Seed of a stage, the same whenever and wherever it is run."""
        return int(self.address(stage, team)[:7], 16)

    def follow(self, candidate: Mapping[str, StudentSpec]) -> tuple[Team, tuple[Refinement, ...]]:
        """The team of a candidate after the stages that are there, and what each of them did; at first the bank's.

        Raises:
            RunError: a file is missing in the bank, damaged, or not one of this team.
        """
        team = self.bank.team(self.spec, self.pools, candidate)
        done: list[Refinement] = []
        for stage in self.stages:
            path = self._path(stage, team)
            if not path.exists():
                break
            team, refinement = self._load(path, team)
            done.append(refinement)
        return team, tuple(done)

    def store(self, stage: RefineStage, team: Team, refinement: Refinement, students: Students) -> None:
        """Write down what a stage did to a team, and, where that is kept, its students afterwards.

        Raises:
            RunError: the folder cannot be written.
        """
        path = self._path(stage, team)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        facts = {"refinement": refinement.model_dump(), "specs": _specs(team.students)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_tensors(part, team_tensors(students) if refinement.kept else {}, facts)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise RunError(f"{path}: cannot be written: {error.strerror or error}; make room") from error

    def _load(self, path: Path, team: Team) -> tuple[Team, Refinement]:
        try:
            tensors, facts = read_tensors(path)
            refinement = validate(facts["refinement"], Refinement, where=str(path))
            if facts["specs"] != _specs(team.students):
                raise ValueError(f"it holds {facts['specs']}")
            if not refinement.kept:
                return team, refinement
            own: dict[str, dict[str, Tensor]] = {group: {} for group in team.students}
            for key, tensor in tensors.items():
                group, _, name = key.rpartition("/")
                own[group][name] = tensor
            students = {
                group: rebuild_student(
                    student.spec, student.spaces, own[group], normalisation=student.normalisation, where=str(path)
                )
                for group, student in team.students.items()
            }
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, BundleError, ConfigError) as error:
            said = str(error).partition("\n")[0].removeprefix(f"{path}: ")
            raise RunError(
                f"{path}: this refined team cannot be used: {said}; delete the file to refine the team anew"
            ) from error
        return Team(self.spec, students), refinement

    def _path(self, stage: RefineStage, team: Team) -> Path:
        return self.folder / f"{self.address(stage, team)}.safetensors"


def _specs(students: Students) -> dict[str, Any]:
    return {group: student.spec.as_json() for group, student in students.items()}
