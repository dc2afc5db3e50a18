"""Making and playing a study's teacher."""

import csv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from kdnas.config.study import TrainTable
from kdnas.config.toml import validate
from kdnas.envs.make import check_twin, make_env, make_twin
from kdnas.errors import ConfigError, TeacherError
from kdnas.evaluation.score import Interval, bootstrap
from kdnas.evaluation.seeds import SeedSets
from kdnas.policies.team_policy import TeamPolicy
from kdnas.study.evaluate import played, random_policy
from kdnas.study.setup import open_study, read_study
from kdnas.teachers.checkpoint import save_teacher
from kdnas.teachers.mappo import Progress, train_mappo


def train_teacher(
    study: str | Path,
    *,
    out: Path | None,
    seed: int | None,
    steps: int | None,
    force: bool,
    report: Callable[[Progress], None],
) -> Path:
    """Train the teacher of a study and write its folder.

    Raises:
        ConfigError: the study has no [teacher.train].
        TeacherError: a teacher is there already, or the folder cannot be written.
    """
    file = read_study(study)
    table = file.config.teacher.train
    checkpoint = file.config.teacher.checkpoint
    if table is None or (checkpoint is None and out is None):
        raise ConfigError(
            f"study {file.config.name!r}: [teacher.train] and [teacher] checkpoint are needed to train one"
        )
    folder = out if out is not None else file.folder / str(checkpoint)
    if (folder / "teacher.json").exists() and not force:
        raise TeacherError(f"{folder}: holds a teacher; choose another --out, or --force to replace it")
    _check_writable(folder)
    changes = {"seed": seed, "steps_per_cycle": steps}
    given = {name: value for name, value in changes.items() if value is not None}
    table = validate(table.model_dump() | given, TrainTable, where="command line")
    real = make_env(file.config.env, file.modules)
    twin = make_twin(file.config.env, file.modules)
    if twin is not None:
        check_twin(real, twin, seed=table.seed, max_steps=file.config.env.max_steps)
    curve: list[Progress] = []

    def note(progress: Progress) -> None:
        curve.append(progress)
        report(progress)

    networks = train_mappo(twin or real, table, file.config.env.max_steps, note)
    save_teacher(folder, networks, real.spec, table, curve[-1].env_steps, version("kdnas"))
    try:
        with (folder / "learning_curve.csv").open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            writer.writerow(["env_steps", "mean_return_per_agent", "seconds"])
            writer.writerows([row.env_steps, f"{row.mean_return:.4f}", f"{row.seconds:.1f}"] for row in curve)
    except OSError as error:
        raise TeacherError(f"{folder}: the learning curve cannot be written: {error.strerror or error}") from error
    return folder


def _check_writable(folder: Path) -> None:
    """Notice before hours of training what would be noticed after them."""
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TeacherError(f"{folder}: cannot be written: {error.strerror or error}; choose another --out") from error


def evaluate_teacher(study: str | Path, *, episodes: int, seed: int) -> dict[str, Interval]:
    """Returns of a study's teacher and of random play in the real environment, mean over agents.

    Raises:
        KdnasError: the study's environment or teacher cannot be used.
    """
    setup = open_study(read_study(study))
    policies: dict[str, TeamPolicy] = {"teacher": setup.teacher, "random": random_policy(setup, seed)}
    with played(setup, SeedSets(seed).final(episodes)) as returns:
        return {name: bootstrap(np.asarray(returns(policy))) for name, policy in policies.items()}
