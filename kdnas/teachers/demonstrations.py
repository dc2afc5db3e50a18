"""`Demonstrations`: what teachers say in the situations that somebody's actions lead to, as arrays on disk."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdnas.envs.team_env import TeamEnv
from kdnas.errors import RunError, TeacherError
from kdnas.policies.arrays import Bools, Floats
from kdnas.policies.categorical import greedy, mask_logits, sample
from kdnas.teachers.teacher import Teacher

Chooser = Callable[[str, Tensor, Tensor], Tensor]
"""Group, observations (B, A, O), masked teacher logits (B, A, N) -> actions (B, A)."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """R decisions of one group's agents: what they saw, and what the teacher says to it."""

    observations: Floats
    """(R, O)."""
    logits: Floats
    """(R, N) of the teacher, unmasked."""
    masks: Bools | None
    """(R, N) legal actions, or None."""


def join_rows(parts: Sequence[Rows]) -> Rows:
    """One Rows after the other."""
    masks = [part.masks for part in parts if part.masks is not None]
    return Rows(
        observations=np.concatenate([part.observations for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
        masks=np.concatenate(masks) if masks else None,
    )


def teacher_chooser(generator: torch.Generator) -> Chooser:
    """The teacher acts: greedily in the first half of the copies, sampled in the other, which shows more states."""

    def choose(group: str, observations: Tensor, logits: Tensor) -> Tensor:
        half = len(logits) // 2
        return torch.cat([greedy(logits[:half]), sample(logits[half:], generator)])

    return choose


@torch.inference_mode()
def record(
    env: TeamEnv, teacher: Teacher, choose: Chooser, seeds: Sequence[int], *, copies: int, max_steps: int
) -> dict[str, Rows]:
    """Play one episode of each seed with the actions of `choose`, and keep every decision of every living agent.

    Raises:
        TeacherError: the teacher returns NaN or infinity.
    """
    kept: dict[str, list[Rows]] = {group: [] for group in env.spec.groups}
    for start in range(0, len(seeds), copies):
        step = env.reset(seeds[start : start + copies])
        for _ in range(max_steps):
            if step.over:
                break
            actions = {}
            for group, seen in step.observations.items():
                logits = teacher.logits(group, torch.from_numpy(seen))
                if not logits.isfinite().all():
                    raise TeacherError(f"the teacher of group {group!r} returns NaN or infinity in {env.spec.name}")
                mask, alive = step.masks[group], step.alive[group]
                legal = None if mask is None else torch.from_numpy(mask)
                actions[group] = choose(group, torch.from_numpy(seen), mask_logits(logits, legal)).numpy()
                kept[group].append(
                    Rows(
                        observations=seen[alive],
                        logits=logits.numpy()[alive],
                        masks=None if mask is None else mask[alive],
                    )
                )
            step = env.step(actions)
    return {group: join_rows(rows) for group, rows in kept.items()}


@dataclass(frozen=True)
class Demonstrations:
    """Recorded rows of every group, in a folder of `.npy` files that all processes map into memory."""

    folder: Path

    def rows(self, group: str) -> Rows:
        """The decisions of a group, memory-mapped and read-only.

        Raises:
            RunError: a file is missing or damaged.
        """
        return Rows(
            observations=self._map(_file(self.folder, group, "observations")),
            logits=self._map(_file(self.folder, group, "logits")),
            masks=self._map(masks) if (masks := _file(self.folder, group, "masks")).exists() else None,
        )

    def _map(self, path: Path) -> NDArray[Any]:
        try:
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(
                f"{path}: cannot be read ({error}); delete {self.folder} to record the teacher anew"
            ) from error
        return mapped


def keep_demonstrations(
    root: Path, key: Mapping[str, object], make: Callable[[], Mapping[str, Rows]]
) -> Demonstrations:
    """The demonstrations that `key` describes: found under `root` by the key's hash, or made and written there.

    Raises:
        RunError: they cannot be written.
    """
    digest = hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()[:16]
    folder = root / digest
    if not folder.exists():
        made = make()
        part = root / f"{digest}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for group, rows in made.items():
                np.save(_file(part, group, "observations"), rows.observations)
                np.save(_file(part, group, "logits"), rows.logits)
                if rows.masks is not None:
                    np.save(_file(part, group, "masks"), rows.masks)
            part.replace(folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise RunError(
                f"{folder}: cannot be written: {error.strerror or error}; make room or choose another --out"
            ) from error
    return Demonstrations(folder)


def _file(folder: Path, group: str, what: str) -> Path:
    """A group may be called anything, also what no file can be called."""
    return folder / f"{quote(group, safe='')}.{what}.npy"
