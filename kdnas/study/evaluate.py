"""Playing finished students again, in the real environment, on episodes of the caller's choice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdnas.envs.make import choose_processes
from kdnas.envs.rollouts import play
from kdnas.envs.spec import EnvSpec
from kdnas.errors import RunError
from kdnas.evaluation.score import Score, make_score
from kdnas.evaluation.seeds import SeedSets
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy
from kdnas.students.bundle import CARD, load_student
from kdnas.students.team import Team
from kdnas.study.front import read_front
from kdnas.study.run_folder import reopen_study
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.workers import default_workers


def evaluate(path: Path, *, episodes: int, seed: int | None = None, study: str | None = None) -> dict[str, Score]:
    """Score a student folder, or every member of a run's front, on other episodes than the final ones.

    Without `seed` it is the one after the study's; the study's own plays its final episodes again.

    A student folder inside a run is played in the run's environment; one that was moved needs `study`, because a
    folder from elsewhere does not decide what code is run.

    Returns:
        Name of the team -> its score; all are played on the same episodes, which derive from `seed`.

    Raises:
        KdnasError: folders that cannot be read or do not fit the environment.
    """
    if (path / CARD).is_file():
        folders, setup = [path], study_of(path, study)
    else:
        members = read_front(path / "front.json")
        folders = [member.path for member in members if member.path is not None]
        setup = open_study(read_study(study) if study is not None else reopen_study(path))
    teams = {str(folder): load_student(folder).team for folder in folders}
    for name, team in teams.items():
        check_fits(name, team, setup)
    seed = setup.config.search.seed + 1 if seed is None else seed
    with played(setup, SeedSets(seed).final(episodes)) as returns:
        teacher, random = returns(setup.teacher), returns(random_policy(setup, seed))
        return {name: make_score(returns(team), teacher, random) for name, team in teams.items()}


def study_of(folder: Path, study: str | None) -> Setup:
    """The study of a student folder: that of the run in which it lies, or the one that is named.

    Raises:
        KdnasError: it lies in no run and none is named, or the study cannot be opened.
    """
    run = folder.resolve().parent.parent
    if study is None and not (run / "run.json").is_file():
        raise RunError(f"{folder}: is not inside a run; name its environment and teacher with --study")
    return open_study(read_study(study) if study is not None else reopen_study(run))


def check_fits(name: str, team: Team, setup: Setup) -> None:
    """Refuse a team of other agents than a study's.

    Raises:
        RunError: naming both.
    """
    if _shown(team.spec) != _shown(setup.spec):
        raise RunError(f"{name}: was made for other agents than those of {setup.spec.name} in this study")


@contextmanager
def played(setup: Setup, seeds: list[int]) -> Iterator[Callable[[TeamPolicy], NDArray[np.float64]]]:
    """While it is open, how to play a policy on some episodes of the real environment: its returns (E,)."""
    table, copies = setup.config.env, setup.config.evaluation.copies
    processes = setup.config.evaluation.processes or choose_processes(
        table, setup.file.modules, copies=copies, cores=default_workers()
    )
    env = setup.make_real_env(processes)
    try:
        yield lambda policy: play(env, policy, seeds, copies=copies, max_steps=table.max_steps).mean
    finally:
        env.close()


def _shown(spec: EnvSpec) -> dict[str, object]:
    """Group -> agents, spaces and view: what must be alike for a team to act in an environment."""
    return {
        group: (agents, replace(spec.group_spec(group), entities=None), spec.views.get(group))
        for group, agents in spec.groups.items()
    }


def random_policy(setup: Setup, seed: int) -> RandomPolicy:
    """Uniform play in a study's environment."""
    return RandomPolicy(setup.spec.actions, seed=seed)
