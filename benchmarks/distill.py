"""The inner loop, part by part: what each loss term, inheriting by pruning, on-policy data and polish are worth.

    python benchmarks/distill.py                      all rows that are missing, on every core (hours)
    python benchmarks/distill.py --only headline      one block of them; see BLOCKS
    python benchmarks/distill.py --list               what is there and what is missing

Adds row by row to benchmarks/results/distill.json and goes on where it stopped. Each student is trained alone on one
core, from an ancestor (64x64, one for each environment and seed) that all variants share and whose time is not counted.
`seconds` are of that core's time, so that a busy machine does not change them much.

`episodes` of `validation` rows are of the batched twin, on seeds that variants may be chosen by; those of `final` rows
are of the real mpe2, on the study's final seeds, and nothing is ever chosen by them. `macs` count all inputs of a view,
also those that never change, which the students leave out. Students are perceptrons with softsign unless a variant says
ReLU.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))
from check_docs import ROOT, write_tables
from gauss_newton import refine

from kdnas.config.study import DistillTable
from kdnas.distill import Stage, StudentBank, lineage, make_student, open_classroom
from kdnas.envs.rollouts import play
from kdnas.policies.team_policy import RandomPolicy, TeamPolicy
from kdnas.profiling.flops import count_macs
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.student import Student
from kdnas.students.team import Team
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import record_demonstrations, see_demonstrations
from kdnas.teachers import Teacher, train_mappo

RESULTS = ROOT / "benchmarks/results/distill.json"
CACHE = ROOT / "runs/distill"
"""Ancestors, demonstrations and references, made once; may be deleted."""

SEEDS = range(5)
ENVIRONMENTS = {"simple_spread": "spread", "simple_speaker_listener": "speaker_listener"}
"""Name in the results -> study."""
VALIDATION_EPISODES, FINAL_EPISODES = 1024, 500

INPUT_BITS = {"float": "float", "w4a8": "w4a8i8", "w8a8": "w8a8i8"}
"""Name of bits in the results -> in a search space, with those of the inputs."""

ONE_IN = {"w4a8": 1, "w8a8": 4}
"""Bits -> of how many of a recipe's quantized steps a student takes one (`quantization_steps`)."""

LONG = {"recovery_steps": 24_000, "on_policy_rounds": 20, "polish": {"rounds": 100}}
LONG_QUANTIZED = {**LONG, "polish": {"rounds": 85}}
"""What fits into 60 seconds on one core, of a float student and of one that is quantized after it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row."""

    env: str
    student: str
    bits: str
    variant: str
    seed: int
    seeds: str = "validation"
    family: str = "mlp_softsign"
    inherited: bool = True
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the study's recipe."""
    second_order: int = 0
    """Gauss-Newton steps afterwards."""

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.env, self.student, self.bits, self.variant, self.seed, self.seeds)


AS_LONG = 23_000
"""Recovery steps that take as long as the study's own and 60 rounds of polish."""

AS_NEWTON = 30_000
"""Recovery steps that take as long as the study's own and 300 Gauss-Newton steps on 12x12."""

ALONE_S = 25.0
"""More than ancestor and recovery take together on one core."""

OFFLINE = {"on_policy_rounds": 0}

EASY = {"recovery_steps": 200, "on_policy_rounds": 2, "qat_steps": 1_000}
"""For simple_speaker_listener, where the usual steps make students of every variant as good as their teacher."""

TERMS: dict[str, dict[str, Any]] = {
    "behaviour cloning": {"loss": {"kl": 0.0, "cross_entropy": 1.0}},
    "KL": {},
    "KL + cross-entropy": {"loss": {"cross_entropy": 0.5}},
    "KL + relation": {"loss": {"relation": 0.5}},
    "KL + role": {"loss": {"role": 0.1}},
    "KL + advantages": {"loss": {"advantage_beta": 1.0}},
    "KL + thresholds": {"adaptive": {"quantile": 0.25}},
    "all": {
        "loss": {"cross_entropy": 0.5, "relation": 0.5, "role": 0.1, "advantage_beta": 1.0},
        "adaptive": {"quantile": 0.25},
    },
}
"""Variant -> what it changes of the recipe."""



def blocks() -> dict[str, list[Job]]:
    """Block -> its rows."""
    names = ("ways", "terms", "bits", "quantized steps", "headline", "second order", "limit")
    found: dict[str, list[Job]] = {name: [] for name in names}
    for seed in SEEDS:
        for student in ("24x24", "16x16"):
            found["headline"].append(
                Job(env="simple_spread", student=student, bits="float", variant="one recovery of 60 s", seed=seed,
                    seeds="final", recipe=LONG)
            )  # fmt: skip
        if seed < 2:
            found["limit"].append(
                Job(env="simple_spread", student="16x16", bits="float", variant="KL, 100,000 steps", seed=seed,
                    recipe={"recovery_steps": 100_000, "on_policy_rounds": 40})
            )  # fmt: skip
        for env in ENVIRONMENTS:
            usual = {} if env == "simple_spread" else EASY
            extra = AS_LONG if env == "simple_spread" else AS_LONG - 12_000
            one = Job(env=env, student="16x16", bits="float", variant="", seed=seed, recipe=usual)
            found["terms"] += [replace(one, variant=name, recipe=usual | recipe) for name, recipe in TERMS.items()]
            found["ways"] += [
                replace(one, variant="KL, ReLU", family="mlp"),
                replace(one, variant="KL, ReLU, from scratch", family="mlp", inherited=False),
                replace(one, variant="KL, from scratch", inherited=False),
                replace(one, variant="KL, from scratch, without DAgger", inherited=False, recipe=usual | OFFLINE),
                replace(one, variant="KL, without DAgger", recipe=usual | OFFLINE),
                replace(one, variant="KL, early stopping", recipe=usual | {"adaptive": {"patience": 4}}),
                replace(one, variant="KL + polish", recipe=usual | {"polish": {"rounds": 60}}),
                replace(one, variant="KL, as long as with polish", recipe=usual | {"recovery_steps": extra}),
                replace(one, variant="MAPPO alone"),
            ]
            found["bits"].append(replace(one, variant="KL", bits="w4a8"))
            if env == "simple_spread":
                for (bits, times), steps, relu in product(ONE_IN.items(), (2_500, 10_000), ("", ", ReLU")):
                    found["quantized steps"].append(
                        replace(one, student="12x12", bits=bits, variant=f"{steps:,} quantized steps{relu}",
                                family="mlp" if relu else "mlp_softsign", recipe={"qat_steps": times * steps})
                    )  # fmt: skip
                tiny = replace(one, student="12x12")
                found["second order"] += [
                    replace(tiny, variant="KL"),
                    replace(tiny, variant="KL + Gauss-Newton", second_order=300),
                    replace(tiny, variant="KL, as long as with Gauss-Newton", recipe={"recovery_steps": AS_NEWTON}),
                    replace(tiny, variant="KL + polish", recipe={"polish": {"rounds": 120}}),
                ]
        found["bits"].append(
            Job(env="simple_spread", student="24x24", bits="w4a8", variant="one recovery of 60 s", seed=seed,
                seeds="final", recipe=LONG_QUANTIZED)
        )  # fmt: skip
    return found


class Bench:
    """One environment, opened in one process."""

    def __init__(self, env: str) -> None:
        setup = open_study(read_study(ENVIRONMENTS[env]))
        self.folder = CACHE / env
        with FileLock(self._lock("demonstrations")):
            self.demonstrations = record_demonstrations(setup, self.folder)
        self.setup: Setup = see_demonstrations(setup, self.demonstrations)
        self._real = None

    def run(self, job: Job) -> dict[str, Any]:
        """Train what a job asks for, and score it."""
        if job.variant == "MAPPO alone":
            return self._alone(job)
        table = self.setup.config.distill
        recipe = DistillTable(**_merged(table.model_dump(), job.recipe))
        students, seconds = {}, 0.0
        for name in dict.fromkeys(pool.name for pool in self.setup.pools.values()):
            students[name], took = self._train(name, job, recipe)
            seconds += took
        team = {group: students[pool.name] for group, pool in self.setup.pools.items()}
        macs = 0
        for group, each in team.items():  # all inputs counted, also those that never change
            whole = load_family(each.spec.family).build(each.spec.floating, each.spaces, torch.Generator())
            macs += count_macs(whole, each.probe()) * len(self.setup.spec.groups[group])
        return self._row(job, Team(self.setup.spec, team), macs, seconds)

    def _alone(self, job: Job) -> dict[str, Any]:
        """A team of the student's size that learns from the reward alone, as long as ancestor and recovery take."""
        setup, hidden = self.setup, tuple(map(int, job.student.split("x")))
        train = setup.config.teacher.train
        assert train is not None
        table = train.model_copy(update={"hidden": hidden, "cycles": 1, "seed": job.seed, "steps_per_cycle": 1})
        max_steps, started = setup.config.env.max_steps, time.process_time()
        first: list[int] = []
        train_mappo(setup.env, table, max_steps, lambda progress: first.append(progress.env_steps))
        steps_per_s = first[-1] / (time.process_time() - started)
        table = table.model_copy(update={"steps_per_cycle": int(ALONE_S * steps_per_s)})
        started = time.process_time()
        networks = train_mappo(setup.env, table, max_steps, lambda _: None)
        seconds = time.process_time() - started
        teacher = Teacher(setup.spec, networks.actors)
        macs = sum(count_macs(teacher.actors[g], teacher.probe(g)) * len(a) for g, a in setup.spec.groups.items())
        return self._row(job, teacher, macs, seconds)

    def _row(self, job: Job, policy: TeamPolicy, macs: int, seconds: float) -> dict[str, Any]:
        row = {name: getattr(job, name) for name in ("env", "student", "bits", "variant", "seed", "seeds")}
        episodes = FINAL_EPISODES if job.seeds == "final" else VALIDATION_EPISODES
        retention = self._retention(policy, job.seeds)
        return row | {"macs": macs, "episodes": episodes, "retention": retention, "seconds": round(seconds, 2)}

    def _train(self, name: str, job: Job, recipe: DistillTable) -> tuple[Student, float]:
        """A student of one pool, and the seconds that it took after its ancestor."""
        setup, pool = self.setup, self.setup.pools[name]
        hidden = tuple(map(int, job.student.split("x")))
        base = (64,) * len(hidden) if job.inherited else hidden
        spec = StudentSpec(family=job.family, base=base, hidden=hidden, bits=parse_bits(INPUT_BITS[job.bits]))
        bank = StudentBank(folder=self.folder / "bank", environment=job.env, recipe=setup.config.distill, seed=job.seed)
        own: Student | None = None
        seconds = 0.0
        for number, step in enumerate(lineage(Stage(spec=spec))):
            shared = job.inherited and step.is_ancestor
            if shared:
                with FileLock(self._lock(f"ancestor-{job.family}-{name}-{job.seed}")):
                    if not bank.has(pool, step):
                        ancestor, _ = self._make(step, None, name, setup.config.distill, job.seed * 100)
                        bank.store(pool, ancestor, step)
                own = bank.load(pool, step)
                continue
            # From scratch, the steps of a recovery are those of the ancestor, so that all variants have the same.
            steps = recipe.ancestor_steps if job.inherited else recipe.recovery_steps
            own_recipe = recipe.model_copy(update={"ancestor_steps": steps, "rungs": (1.0,)})
            own, took = self._make(step, own, name, own_recipe, job.seed * 100 + number, job.second_order)
            seconds += took
        assert own is not None
        return own, seconds

    def _make(
        self,
        stage: Stage,
        parent: Student | None,
        name: str,
        recipe: DistillTable,
        seed: int,
        second_order: int = 0,
    ) -> tuple[Student, float]:
        setup = self.setup
        episodes = self.demonstrations.episodes(list(setup.spec.groups))
        room = open_classroom(
            setup.env,
            setup.teacher,
            setup.pools[name],
            recipe,
            episodes,
            copies=setup.config.evaluation.copies,
            max_steps=setup.config.env.max_steps,
            seed=seed,
        )
        lessons = room.lessons(episodes)
        started = time.process_time()
        student, _ = make_student(stage, parent, room, lessons, seed=seed)
        if second_order:
            refine(student, room, lessons, steps=second_order, seed=seed)
        return student, time.process_time() - started

    def _retention(self, team: TeamPolicy, kind: str) -> float:
        """(student - random) / (teacher - random), all on the same episodes."""
        setup = self.setup
        real = kind == "final"
        seeds = setup.seeds.final(FINAL_EPISODES) if real else setup.seeds.validation(VALIDATION_EPISODES)
        if real and self._real is None:
            self._real = setup.make_real_env()
        env = self._real if real and self._real is not None else setup.env

        def mean(policy: TeamPolicy) -> float:
            copies = 64 if real else 256
            return float(play(env, policy, seeds, copies=copies, max_steps=setup.config.env.max_steps).mean.mean())

        path = self.folder / f"{kind}.json"
        with FileLock(self._lock(kind)):
            if not path.exists():
                references = {"teacher": mean(setup.teacher), "random": mean(RandomPolicy(setup.spec.actions, seed=0))}
                path.write_text(json.dumps(references))
        known = json.loads(path.read_text())
        return (mean(team) - known["random"]) / (known["teacher"] - known["random"])

    def _lock(self, what: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f".{what}.lock"


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A table with some keys changed, also those of the tables in it."""
    changed = {
        key: _merged(table[key], value) if isinstance(value, Mapping) else value for key, value in changes.items()
    }
    return {**table, **changed}


_OPEN: dict[str, Bench] = {}


def run_job(job: Job) -> dict[str, Any]:
    """In a worker: open the environment once, run a job."""
    torch.set_num_threads(1)
    if job.env not in _OPEN:
        _OPEN[job.env] = Bench(job.env)
    return _OPEN[job.env].run(job)


def read_rows() -> list[dict[str, Any]]:
    """The rows that are there."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Write all rows, whole or not at all."""
    part = RESULTS.with_suffix(".part")
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    part.write_text(f'{{"command": "python benchmarks/distill.py", "rows": [\n{lines}\n]}}\n', encoding="utf-8")
    part.replace(RESULTS)


def missing(wanted: list[Job]) -> Iterator[Job]:
    """Jobs without a row."""
    there = {tuple(row[name] for name in ("env", "student", "bits", "variant", "seed", "seeds")) for row in read_rows()}
    yield from (job for job in wanted if job.key not in there)


def main() -> None:
    """Run what is missing."""
    found = blocks()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(found), action="append", help="blocks to run; all of them unless given")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--list", action="store_true", help="say what is missing, and run nothing")
    arguments = parser.parse_args()
    jobs = list(missing([job for name in arguments.only or found for job in found[name]]))
    print(f"{len(read_rows())} rows are there, {len(jobs)} are missing", flush=True)
    if arguments.list:
        for job in jobs:
            print(json.dumps(asdict(job)))
        return
    with multiprocessing.get_context("spawn").Pool(arguments.workers, maxtasksperchild=50) as pool:
        for row in pool.imap_unordered(run_job, jobs):
            write_rows([*read_rows(), row])
            print(json.dumps(row), flush=True)
    write_tables()


if __name__ == "__main__":
    main()
