"""`StudentBank`: every student that was ever trained for a teacher, addressed by what made it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from kdnas.config.study import DistillTable
from kdnas.distill.pool import Pool
from kdnas.distill.snapshot import Snapshot
from kdnas.distill.stage import Stage, last_stage
from kdnas.envs.spec import EnvSpec
from kdnas.errors import BundleError, ConfigError, RunError
from kdnas.spaces.spec import StudentSpec
from kdnas.students.student import Normalisation, Student
from kdnas.students.team import Team
from kdnas.students.weights import read_facts, read_tensors, rebuild_student, student_tensors, write_tensors

_SINCE = "since."
"""Begins the names of tensors that are not the student's."""

_SUFFIX = ".safetensors"

WAIT_S = 0.2
"""Between two looks at whether another process still trains a student."""


@dataclass(frozen=True, kw_only=True)
class StudentBank:
    """A folder of trained students, one safetensors file for each stage; a file is there whole or not at all.

    The address is a hash of the environment, teacher network, spaces, realised spec, rung, recipe and seed: agents that
    share a teacher network and spaces share its entries, and a changed recipe never meets old weights.
    """

    folder: Path
    environment: str
    """Name and arguments of the environment whose states the students learn on."""
    recipe: DistillTable
    seed: int

    def address(self, pool: Pool, stage: Stage) -> str:
        made_from = {
            "environment": self.environment,
            "teacher": pool.teacher_digest,
            "spaces": repr(pool.spaces),
            "view": pool.view.as_json() if pool.view else None,
            "spec": stage.spec.as_json(),
            "rung": stage.rung,
            "recipe": self.recipe.model_dump(),
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:20]

    def training_seed(self, pool: Pool, stage: Stage) -> int:
        """Seed of a stage's training, the same whenever and wherever it is trained."""
        return int(self.address(pool, stage)[:7], 16)

    def last(self, spec: StudentSpec) -> Stage:
        """A student whose training is complete."""
        return last_stage(spec, self.recipe)

    def has(self, pool: Pool, stage: Stage) -> bool:
        return self._path(pool, stage).exists()

    def stages(self, pool: Pool) -> list[Stage]:
        """All that it has of a pool; files that cannot be read, and those of others, are passed over."""
        found: list[Stage] = []
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            try:
                spec = StudentSpec.from_json(read_facts(path)["spec"])
            except (OSError, SafetensorError, ValueError, LookupError, TypeError, ConfigError):
                continue
            rungs = (Stage(spec=spec, rung=rung) for rung in range(len(self.recipe.rungs)))
            found += [stage for stage in dict.fromkeys(rungs) if self._path(pool, stage) == path]
        return found

    @contextmanager
    def claim(self, pool: Pool, stage: Stage) -> Iterator[bool]:
        """Keep every other process from training a stage; yields whether it is still to be trained.

        Who comes second waits until the first has stored it, failed or ended: the operating system lets go of the lock
        with the process. The locked file is removed once the entry is there, which whoever waits then finds.

        Raises:
            RunError: the folder cannot be written.
        """
        path = self._path(pool, stage)
        if path.exists():
            yield False
            return
        lock = FileLock(path.with_suffix(".lock"))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(poll_interval=WAIT_S)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            yield not path.exists()
        finally:
            if path.exists():
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def load(self, pool: Pool, stage: Stage) -> Student:
        """A banked student.

        Raises:
            RunError: it is not there, not readable, or its weights are not those of the spec.
        """
        return self.load_snapshot(pool, stage)[0]

    def load_snapshot(self, pool: Pool, stage: Stage) -> tuple[Student, Snapshot | None]:
        """A banked student, and from where its next rung goes on.

        Raises:
            RunError: as `load`.
        """
        path, spec = self._path(pool, stage), stage.spec
        try:
            tensors, facts = read_tensors(path)
            if facts["spec"] != spec.as_json():
                raise ValueError(f"it holds {facts['spec']}")
            stored = facts["normalisation"]
            normalisation = Normalisation(shift=tuple(stored[0]), scale=tuple(stored[1])) if stored else None
            since = {name.removeprefix(_SINCE): tensors.pop(name) for name in list(tensors) if name.startswith(_SINCE)}
            snapshot = Snapshot.from_tensors(since) if since else None
            spaces = replace(pool.spaces, pruned=tuple(facts["pruned"]))
            student = rebuild_student(spec, spaces, tensors, normalisation=normalisation, where=str(path))
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, ConfigError, BundleError) as error:
            said = str(error).removeprefix(f"{path}: ")
            raise RunError(
                f"{path}: banked student {stage} cannot be used: {said}; delete the file to train it anew"
            ) from error
        return student, snapshot

    def team(self, spec: EnvSpec, pools: Mapping[str, Pool], candidate: Mapping[str, StudentSpec]) -> Team:
        """The team of a candidate, group -> spec, whose students are all banked and completely trained.

        Raises:
            RunError: as `load`.
        """
        return Team(spec, {group: self.load(pools[group], self.last(one)) for group, one in candidate.items()})

    def store(
        self,
        pool: Pool,
        student: Student,
        stage: Stage,
        *,
        steps: int = 0,
        parent: Stage | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Write the student of a stage, how many steps it took, whom it comes of, and from where its next rung goes on.

        Raises:
            RunError: the folder cannot be written.
        """
        path = self._path(pool, stage)
        normalisation = student.normalisation
        facts = {
            "spec": student.spec.as_json(),
            "steps": steps,
            "pruned": student.spaces.pruned,
            "parent": {"spec": parent.spec.as_json(), "rung": parent.rung} if parent else None,
            "normalisation": [normalisation.shift, normalisation.scale] if normalisation else None,
        }
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            since = {f"{_SINCE}{name}": tensor for name, tensor in snapshot.tensors().items()} if snapshot else {}
            write_tensors(part, student_tensors(student) | since, facts)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise _unwritable(path, error) from error

    def copy_from(self, other: "StudentBank", pool: Pool, stage: Stage) -> None:
        """Take over the file of a stage from another bank with the same ingredients.

        Raises:
            RunError: it cannot be read, or the folder cannot be written.
        """
        path = self._path(pool, stage)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(other._path(pool, stage), part)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise _unwritable(path, error) from error

    def _path(self, pool: Pool, stage: Stage) -> Path:
        return self.folder / f"{self.address(pool, stage)}{_SUFFIX}"


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be written: {error.strerror or error}; make room or choose another --out")
