"""`Demonstrations`: what teachers say in the situations that somebody's actions lead to, as arrays on disk."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdnas.envs.team_env import TeamEnv
from kdnas.errors import TeacherError
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
        """The decisions of a group, memory-mapped and read-only."""
        masks = self.folder / f"{group}.masks.npy"
        return Rows(
            observations=np.load(self.folder / f"{group}.observations.npy", mmap_mode="r", allow_pickle=False),
            logits=np.load(self.folder / f"{group}.logits.npy", mmap_mode="r", allow_pickle=False),
            masks=np.load(masks, mmap_mode="r", allow_pickle=False) if masks.exists() else None,
        )


def keep_demonstrations(root: Path, key: Mapping[str, object], make: Callable[[], Mapping[str, Rows]]) -> Demonstrations:
    """The demonstrations that `key` describes: found under `root` by the key's hash, or made and written there."""
    digest = hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()[:16]
    folder = root / digest
    if not folder.exists():
        part = root / f"{digest}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for group, rows in make().items():
            np.save(part / f"{group}.observations.npy", rows.observations)
            np.save(part / f"{group}.logits.npy", rows.logits)
            if rows.masks is not None:
                np.save(part / f"{group}.masks.npy", rows.masks)
        os.replace(part, folder)
    return Demonstrations(folder)
