"""Memory against none: a GRU and perceptrons of as many MACs on `spread_blind`, where agents see only what is near.

    python benchmarks/recurrence.py           rows that are missing, one after the other on one core
    python benchmarks/recurrence.py --list    what is missing

Adds row by row to benchmarks/results/recurrence.json and goes on where it stopped. The perceptron takes as many
on-policy rounds and twice the steps, which is at most the same time. Retention is that of a team of three, over the
study's final episodes of the real mpe2; `validation` is that on the batched twin, by which the recipe was chosen.
`seconds` are of the core's time, polish included where there is one.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from check_docs import ROOT, write_tables

from kdnas.config.study import DistillTable
from kdnas.distill import Classroom, Stage, StudentBank, make_student, open_classroom
from kdnas.distill.polish import polish
from kdnas.envs.rollouts import play
from kdnas.envs.team_env import TeamEnv
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy
from kdnas.profiling.flops import count_macs
from kdnas.spaces.spec import StudentSpec
from kdnas.students.student import Student
from kdnas.students.team import Team
from kdnas.study.setup import open_study, read_study
from kdnas.study.tasks import record_demonstrations, see_demonstrations
from kdnas.teachers.episodes import Episodes

RESULTS = ROOT / "benchmarks/results/recurrence.json"
CACHE = ROOT / "runs/recurrence"
"""Students, demonstrations and references, made once; may be deleted."""

SEEDS = range(5)
EPISODES = {"validation": 1024, "final": 500}
STUDENTS = {"gru": ((32, 32), 8_000), "mlp": ((75, 75), 16_000), "mlp_softsign": ((75, 75), 16_000)}
"""Family -> its widths and steps: 6,560 and 6,600 MACs."""
POLISH = {"rounds": 100, "learning_rate": 3e-3}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row."""

    family: str
    polished: bool
    seed: int


JOBS = [
    Job(family=family, polished=polished, seed=seed)
    for polished in (False, True)
    for seed in SEEDS
    for family in STUDENTS
]


class Bench:
    """The study, opened once."""

    def __init__(self) -> None:
        setup = open_study(read_study("spread_blind"))
        self.demonstrations = record_demonstrations(setup, CACHE)
        self.setup = see_demonstrations(setup, self.demonstrations)
        self.pool = next(iter(self.setup.pools.values()))  # all three agents are one teacher's

    @cached_property
    def real(self) -> TeamEnv:
        return self.setup.make_real_env()

    def run(self, job: Job) -> dict[str, Any]:
        """Train what a job asks for, or take it from where it was left, and score it."""
        student, seconds = self._taught(job)
        if job.polished:
            recipe = self.recipe(job.family)
            table = recipe.polish.model_copy(update=POLISH)
            started = time.process_time()
            polish(student, self._room(recipe.model_copy(update={"polish": table}), job.seed), seed=job.seed)
            seconds += time.process_time() - started
        team = Team(self.setup.spec, dict.fromkeys(self.setup.spec.groups, student))
        return asdict(job) | {
            "student": str(student.spec),
            "macs": count_macs(student.network, student.probe()),
            "steps": STUDENTS[job.family][1],
            **{kind: self._retention(team, kind) for kind in EPISODES},
            "seconds": round(seconds, 1),
        }

    def recipe(self, family: str) -> DistillTable:
        """The study's, with the steps of a family."""
        return self.setup.config.distill.model_copy(update={"ancestor_steps": STUDENTS[family][1]})

    def _taught(self, job: Job) -> tuple[Student, float]:
        """A student by imitation alone, and the seconds that it took."""
        widths, recipe = STUDENTS[job.family][0], self.recipe(job.family)
        spec = StudentSpec(family=job.family, base=widths, hidden=widths)
        bank = StudentBank(folder=CACHE / "bank", environment="spread_blind", recipe=recipe, seed=job.seed)
        stage = Stage(spec=spec)
        took = CACHE / f"{bank.address(self.pool, stage)}.seconds"
        if not bank.has(self.pool, stage):
            room = self._room(recipe, job.seed)
            lessons = room.lessons(self._episodes)
            started = time.process_time()
            student, training = make_student(stage, None, room, lessons, seed=job.seed)
            took.write_text(str(time.process_time() - started))
            bank.store(self.pool, student, stage, steps=training.steps)
        return bank.load(self.pool, stage), float(took.read_text())

    @cached_property
    def _episodes(self) -> Episodes:
        return self.demonstrations.episodes(list(self.setup.spec.groups))

    def _room(self, recipe: DistillTable, seed: int) -> Classroom:
        copies, max_steps = self.setup.config.evaluation.copies, self.setup.config.env.max_steps
        return open_classroom(
            self.setup.env, self.setup.teacher, self.pool, recipe, self._episodes,
            copies=copies, max_steps=max_steps, seed=seed,
        )  # fmt: skip

    def _retention(self, team: TeamPolicy, kind: str) -> float:
        """(student - random) / (teacher - random), all on the same episodes."""
        env, copies = (self.real, 64) if kind == "final" else (self.setup.env, 256)
        seeds = getattr(self.setup.seeds, kind)(EPISODES[kind])

        def mean(policy: TeamPolicy) -> float:
            return float(play(env, policy, seeds, copies=copies, max_steps=self.setup.config.env.max_steps).mean.mean())

        path = CACHE / f"{kind}.json"
        if not path.exists():
            path.write_text(json.dumps([mean(self.setup.teacher), mean(RandomPolicy(self.setup.spec.actions, seed=0))]))
        teacher, random = json.loads(path.read_text())
        return (mean(team) - random) / (teacher - random)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what is missing, and run nothing")
    listing = parser.parse_args().list
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    jobs = [job for job in JOBS if not any(asdict(job).items() <= row.items() for row in rows)]
    print(f"{len(rows)} rows are there, {len(jobs)} are missing", flush=True)
    if listing:
        print(*jobs, sep="\n")
        return
    torch.set_num_threads(1)
    bench = Bench()
    for job in jobs:
        rows.append(bench.run(job))
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        RESULTS.write_text(
            f'{{"command": "python benchmarks/recurrence.py", "rows": [\n{lines}\n]}}\n', encoding="utf-8"
        )
        print(json.dumps(rows[-1]), flush=True)
    write_tables()


if __name__ == "__main__":
    main()
