"""`StudentBank`: every student that was ever trained for a teacher, addressed by what made it."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError

from kdnas.config.study import DistillTable
from kdnas.distill.pool import Pool
from kdnas.envs.spec import EnvSpec
from kdnas.errors import BundleError, ConfigError, RunError
from kdnas.spaces.spec import StudentSpec
from kdnas.students.student import Normalisation, Student
from kdnas.students.team import Team
from kdnas.students.weights import read_tensors, rebuild_student, student_tensors, write_tensors


@dataclass(frozen=True, kw_only=True)
class StudentBank:
    """A folder of trained students, one safetensors file each; a file is there whole or not at all.

    The address is a hash of the environment, teacher network, spaces, realised spec, recipe and seed: agents that share
    a teacher network and spaces share its entries, and a changed recipe never meets old weights.
    """

    folder: Path
    environment: str
    """Name and arguments of the environment whose states the students learn on."""
    recipe: DistillTable
    seed: int

    def address(self, pool: Pool, spec: StudentSpec) -> str:
        made_from = {
            "environment": self.environment,
            "teacher": pool.teacher_digest,
            "spaces": repr(pool.spaces),
            "view": pool.view.as_json() if pool.view else None,
            "spec": spec.as_json(),
            "recipe": self.recipe.model_dump(),
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:20]

    def training_seed(self, pool: Pool, spec: StudentSpec) -> int:
        """Seed of a student's training, the same whenever and wherever it is trained."""
        return int(self.address(pool, spec)[:7], 16)

    def has(self, pool: Pool, spec: StudentSpec) -> bool:
        return self._path(pool, spec).exists()

    def load(self, pool: Pool, spec: StudentSpec) -> Student:
        """A banked student.

        Raises:
            RunError: it is not there, not readable, or its weights are not those of the spec.
        """
        path = self._path(pool, spec)
        try:
            tensors, facts = read_tensors(path)
            if facts["spec"] != spec.as_json():
                raise ValueError(f"it holds {facts['spec']}")
            stored = facts["normalisation"]
            normalisation = Normalisation(shift=tuple(stored[0]), scale=tuple(stored[1])) if stored else None
            spaces = replace(pool.spaces, pruned=tuple(facts["pruned"]))
            return rebuild_student(spec, spaces, tensors, normalisation=normalisation, where=str(path))
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, ConfigError, BundleError) as error:
            said = str(error).removeprefix(f"{path}: ")
            raise RunError(
                f"{path}: banked student {spec} cannot be used: {said}; delete the file to train it anew"
            ) from error

    def team(self, spec: EnvSpec, pools: Mapping[str, Pool], candidate: Mapping[str, StudentSpec]) -> Team:
        """The team of a candidate, group -> spec, whose students are all banked.

        Raises:
            RunError: as `load`.
        """
        return Team(spec, {group: self.load(pools[group], one) for group, one in candidate.items()})

    def store(self, pool: Pool, student: Student, *, steps: int = 0) -> None:
        """Write a student, and how many steps its last training took.

        Raises:
            RunError: the folder cannot be written.
        """
        path = self._path(pool, student.spec)
        normalisation = student.normalisation
        facts = {
            "spec": student.spec.as_json(),
            "steps": steps,
            "pruned": student.spaces.pruned,
            "normalisation": [normalisation.shift, normalisation.scale] if normalisation else None,
        }
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_tensors(part, student_tensors(student), facts)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise RunError(
                f"{path}: cannot be written: {error.strerror or error}; make room or choose another --out"
            ) from error

    def _path(self, pool: Pool, spec: StudentSpec) -> Path:
        return self.folder / f"{self.address(pool, spec)}.safetensors"
