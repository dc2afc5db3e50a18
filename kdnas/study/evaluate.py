"""Playing finished students again, in the real environment, on episodes of the caller's choice."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdnas.envs.make import choose_processes
from kdnas.envs.rollouts import play
from kdnas.errors import RunError
from kdnas.evaluation.score import Score, make_score
from kdnas.evaluation.seeds import SeedSets
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy
from kdnas.students.bundle import CARD, load_student
from kdnas.study.front import read_front
from kdnas.study.run_folder import reopen_study
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.workers import default_workers


def evaluate(path: Path, *, episodes: int, seed: int, study: str | None = None) -> dict[str, Score]:
    """Score a student folder, or every member of a run's front, on fresh episodes.

    A student folder inside a run is played in the run's environment; one that was moved needs `study`, because a
    folder from elsewhere does not decide what code is run.

    Returns:
        Name of the team -> its score; all are played on the same episodes, which derive from `seed`.

    Raises:
        KdnasError: folders that cannot be read or do not fit the environment.
    """
    if (path / CARD).is_file():
        folders = [path]
        run = path.resolve().parent.parent
        if study is None and not (run / "run.json").is_file():
            raise RunError(f"{path}: is not inside a run; name its environment and teacher with --study")
    else:
        run = path
        members = read_front(path / "front.json")
        folders = [member.path for member in members if member.path is not None]
    setup = open_study(read_study(study) if study is not None else reopen_study(run))
    teams = {str(folder): load_student(folder).team for folder in folders}
    for name, team in teams.items():
        if team.spec.groups != setup.spec.groups or team.spec.agents != setup.spec.agents:
            raise RunError(f"{name}: was made for other agents than those of {setup.spec.name} in this study")
    table = setup.config.env
    processes = choose_processes(
        table, setup.file.folder, copies=setup.config.evaluation.copies, cores=default_workers()
    )
    env = setup.make_real_env(processes)
    seeds = SeedSets(seed).final(episodes)

    def returns(policy: TeamPolicy) -> NDArray[np.float64]:
        return play(env, policy, seeds, copies=setup.config.evaluation.copies, max_steps=table.max_steps).mean

    try:
        teacher, random = returns(setup.teacher), returns(random_policy(setup, seed))
        return {name: make_score(returns(team), teacher, random) for name, team in teams.items()}
    finally:
        env.close()


def random_policy(setup: Setup, seed: int) -> RandomPolicy:
    """Uniform play in a study's environment."""
    return RandomPolicy(setup.spec.actions, seed=seed)
