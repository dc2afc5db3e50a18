"""What the end of a search is worth: joint recovery and polish of teams of a front that is there.

    python benchmarks/refine.py --run runs/headline --trials 2 3 13    half a minute a team, on one core

Reads a finished run of `spread`, writes nothing into it, and replaces benchmarks/results/refine.json and the table. The
stages follow each other as in a search, with polish switched on (`POLISH`); what one of them made is played whether it
is kept or not. `validation` gains are on the episodes that stages are kept or refused by, of the batched twin; `final`
gains on the study's final episodes, of the real mpe2, and nothing is chosen by them. Seconds are of core time.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from check_docs import ROOT, write_tables

from kdnas.config.refine import RefineTable, TeamPolishTable
from kdnas.distill.classroom import Classroom
from kdnas.distill.refined import RefinedTeams
from kdnas.envs.rollouts import play
from kdnas.envs.team_env import TeamEnv
from kdnas.evaluation.score import make_gain, make_score
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy
from kdnas.report.tables import describe
from kdnas.students.team import Team
from kdnas.study.front import Member, read_front
from kdnas.study.run_folder import reopen_study, trials_of
from kdnas.study.setup import Setup, open_study
from kdnas.study.tasks import REAL_COPIES, make_refined, open_room, record_demonstrations, see_demonstrations

POLISH = TeamPolishTable(rounds=20)
VALIDATION_EPISODES = 4096

Returns = NDArray[np.float64]


class Field:
    """A set of episodes, with the teacher and random play on them."""

    def __init__(self, setup: Setup, env: TeamEnv, seeds: list[int], copies: int) -> None:
        self._setup, self._env, self._seeds, self._copies = setup, env, seeds, copies
        random = RandomPolicy(setup.spec.actions, seed=setup.config.search.seed)
        self.references = self.play(setup.teacher), self.play(random)

    def play(self, policy: TeamPolicy) -> Returns:
        """Episode returns (E,)."""
        max_steps = self._setup.config.env.max_steps
        return play(self._env, policy, self._seeds, copies=self._copies, max_steps=max_steps).mean

    def retention(self, returns: Returns) -> dict[str, Any]:
        return make_score(returns, *self.references).retention.as_json()

    def gain(self, after: Returns, before: Returns) -> dict[str, Any]:
        return make_gain(after, before, *self.references).as_json()


def refine_member(
    member: Member, refined: RefinedTeams, rooms: Mapping[str, Classroom], validation: Field, final: Field
) -> dict[str, Any]:
    """One row: the team before, and what each stage adds to the one that was kept before it."""
    team, _ = refined.follow(member.candidate)
    row: dict[str, Any] = {"trial": member.trial, "students": describe(member.candidate), "stages": []}
    fields = {"validation": validation, "final": final}
    played = first = {name: field.play(team) for name, field in fields.items()}
    row |= {name: field.retention(first[name]) for name, field in fields.items()}
    for stage in refined.stages:
        students, started = copy.deepcopy(team.students), time.process_time()
        stage.run(students, rooms, seed=refined.seed(stage, team))
        seconds = time.process_time() - started
        made = Team(team.spec, students)
        after = {name: field.play(made) for name, field in fields.items()}
        gains = {name: field.gain(after[name], played[name]) for name, field in fields.items()}
        kept = gains["validation"]["mean"] > 0
        row["stages"].append({"name": stage.name, "kept": kept, "seconds": seconds, **gains})
        if kept:
            team, played = made, after
    row["refined"] = {name: field.retention(played[name]) for name, field in fields.items()}
    row["gain"] = final.gain(played["final"], first["final"])
    return row


def main() -> None:
    """Refine some teams of a run, and write results and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "runs/headline", help="a finished run of spread")
    parser.add_argument("--trials", type=int, nargs="+", default=[2, 3, 13], help="members of its front")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = reopen_study(arguments.run)
    table = RefineTable(joint=file.config.refine.joint, polish=POLISH, validation_episodes=VALIDATION_EPISODES)
    setup = open_study(replace(file, config=file.config.model_copy(update={"refine": table})))
    demonstrations = record_demonstrations(setup, arguments.run)
    setup = see_demonstrations(setup, demonstrations)
    refined = replace(make_refined(setup, arguments.run), folder=arguments.run / "nothing")
    opened = {pool.name: open_room(setup, pool, demonstrations)[0] for pool in setup.pools.values()}
    rooms = {group: opened[pool.name] for group, pool in setup.pools.items()}
    config = setup.config.evaluation
    validation = Field(setup, setup.env, setup.seeds.validation(VALIDATION_EPISODES), config.copies)
    final = Field(setup, setup.make_real_env(), setup.seeds.final(config.final_episodes), REAL_COPIES)
    trials = {trial.number: trial for trial in trials_of(arguments.run)}
    rows = []
    for member in read_front(arguments.run / "front.json"):
        if member.trial in arguments.trials:
            row = refine_member(member, refined, rooms, validation, final)
            row["search"] = trials[member.trial].user_attrs["score"]["retention"]
            rows.append(row)
            print(json.dumps(row, indent=2), flush=True)
    results = {"table": table.model_dump(), "rows": rows}
    (ROOT / "benchmarks/results/refine.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    write_tables()


if __name__ == "__main__":
    main()
