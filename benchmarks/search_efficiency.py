"""The outer loop against what a user would write with Optuna in an afternoon: hypervolume by wall time.

    python benchmarks/search_efficiency.py                        all rows that are missing (hours)
    python benchmarks/search_efficiency.py --only kdnas --seed 0  some of them
    python benchmarks/search_efficiency.py --list                 what is there and what is missing

Adds run by run to benchmarks/results/search_efficiency.json and goes on where it stopped; the curve is in
search_efficiency.png beside it (`pip install matplotlib`). Times are compared within a seed: a run that was disturbed,
or whose machine was faster or slower then than that of plain Optuna with its seed, is made again. All runs have the
same study (`spread`, space `mlp_small`, budget BUDGET), the same inner loop and two processes, and nothing else should.

`optuna-nsga2` and `optuna-tpe` are 40 trials in which every candidate's students, one for each agent, are trained from
scratch for 8,000 steps (a quantized one for 6,000 in float and 2,000 in integers), played for 256 search episodes, and
only then compared with the budget. Both samplers are as Optuna makes them; NSGA-II has a population of 50 then, which
40 trials do not fill, so that it draws at random, and TPE is the one to beat. `kdnas` is `kdnas search` for as long as
these took with the same seed; `kdnas-no-*` is the same with one lever switched off, for a tenth of that time; for
three tenths where less would show nothing; and without the race, which is there to win time and must not lose the
front, for all of it.
`kdnas-no-proposals` asks the sampler alone; `kdnas-no-gate` trains what breaks the budget too, and tells the sampler
that it does; without inheritance each width is an ancestor of its own, which float students are then for good, and the
sampler chooses a base out of a long list. What the bank is worth is in the last row of a run: `asked` students were
needed by trials at their rungs, and so many of them were different (`trained`; ancestors and what a student inherits
from are not counted).

Hypervolume is that of `kdnas.study.front.hypervolume`: retention x decades of FLOPs saved x decades of memory saved;
the reference point is a team that retains nothing at the teacher's own price, and teams that break the budget count
nothing. Retention is that on 256 final episodes, on which neither method chose; they are played when a run is over.
Every complete team counts, so that some luck is left to whoever has more of them. `seconds` are since the process
began, starting up and demonstrations included, but neither the teacher's training nor what a search does at its end;
the last row of a run is its end. A run of kdnas counts the trials that were complete by then.
`judged` counts besides all teams that it had judged at some rung, with the students of that rung, but for float ones
that stood for quantized ones: what it could have delivered, had it known. `others` is the share of the machine's
processor time that went to other processes meanwhile, and `pace_us` what a fixed piece of arithmetic took, the median
over the run: by these a run is made again (OTHERS, PACES).
"""

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tomli_w

sys.path.insert(0, str(Path(__file__).parent))
from check_docs import ROOT
from pace import machine, run_paced
from variant import write_variant

RESULTS = ROOT / "benchmarks/results/search_efficiency.json"
BUDGET = ("flops<1%", "memory<2KiB")
TRIALS, SCRATCH_STEPS, INTEGER_STEPS = 40, 8_000, 2_000
WORKERS = 2
SCORED = 256
"""Final episodes of the table: nobody chose on them."""

OTHERS, PACES = 0.05, 0.15
"""A run is made again where other processes took more than this share of the machine, or where its pace was off that of
plain Optuna with its seed by more than that."""

SEEDS, LEVER_SEEDS = (0, 1, 2), {"kdnas-no-race": (0, 2), "kdnas-no-anchors": (0, 2)}
"""A lever has seeds 0 and 1 unless it is named."""

EARLY = (0.1, 0.3)
"""Shares of the time of plain Optuna after which the table looks at a run."""
SHARES = {"kdnas": 1.0, "kdnas-no-race": 1.0, "kdnas-no-proposals": 0.3, "kdnas-no-anchors": 0.3}
"""What a run gets of that time; a tenth where nothing is said. Whether a race loses something of the front shows at the
end, and what proposals are worth only after the first teams."""

PLAIN = {"optuna-nsga2": "nsga2", "optuna-tpe": "tpe"}
LEVERS: dict[str, dict[str, Any]] = {
    "kdnas": {},
    "kdnas-no-gate": {},
    "kdnas-no-inheritance": {"space": "scratch"},
    "kdnas-no-proposals": {"search": {"propose": False}},
    "kdnas-no-race": {"distill": {"rungs": [1.0]}},
    "kdnas-no-sequential": {"evaluation": {"first_episodes": 256}},
    "kdnas-no-anchors": {"search": {"anchors": False}},
}
"""Method -> what differs from the study. Without the gate everything is trained (`levered`). Without inheritance every
width is an ancestor of its own, trained from scratch for 8,000 steps."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the table."""

    method: str
    seed: int


def jobs() -> list[Job]:
    """Everything that the table has, seed by seed, and of each the reference first."""
    levers = [name for name in LEVERS if name != "kdnas"]
    return [
        Job(method=method, seed=seed)
        for seed in SEEDS
        for method in [*PLAIN, "kdnas", *(name for name in levers if seed in LEVER_SEEDS.get(name, (0, 1)))]
    ]


def read_rows() -> list[dict[str, Any]]:
    """The rows of the results file; none where there is no file."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8"))["rows"] if RESULTS.exists() else []
    return rows


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Write the results file with all rows, whole or not at all."""
    results = {"budget": BUDGET, "trials": TRIALS, "workers": WORKERS, "reference": "retention 0, teacher's price"}
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(results | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
    part.replace(RESULTS)


def undisturbed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows but for those of runs that others took too much of the machine from, or whose pace was another one."""
    calm = [row for row in rows if row["others"] <= OTHERS]
    plain = {seed: [row["pace_us"] for row in calm if row["seed"] == seed and row["method"] in PLAIN] for seed in SEEDS}
    usual = {seed: statistics.median(paces) for seed, paces in plain.items() if paces}
    return [row for row in calm if abs(row["pace_us"] / usual.get(row["seed"], row["pace_us"]) - 1) <= PACES]


def reference_seconds(rows: list[dict[str, Any]], seed: int) -> float | None:
    """How long plain Optuna took with a seed: the mean over its samplers; None until both have run."""
    runs = [points for name in PLAIN for own, points in _runs(rows, name) if own == seed]
    ends: list[float] = [max(point["seconds"] for point in points) for points in runs]
    return sum(ends) / len(ends) if len(ends) == len(PLAIN) else None


def run(job: Job, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One run in a fresh process; its rows."""
    with tempfile.TemporaryDirectory() as folder:
        limit = 0.0
        if job.method not in PLAIN:
            whole = reference_seconds(rows, job.seed)
            if whole is None:
                sys.exit(f"search_efficiency: first run {' and '.join(PLAIN)} with seed {job.seed}: kdnas gets as long")
            limit = whole * SHARES.get(job.method, EARLY[0])
        command = [sys.executable, __file__, "--run", job.method, "--seed", str(job.seed)]
        before = busy_seconds()
        began = time.monotonic()
        pace_us = run_paced([*command, "--folder", folder, "--limit", str(limit)])
        all_seconds = (time.monotonic() - began) * (os.cpu_count() or 1)
        others = round(max(0.0, busy_seconds() - before) / all_seconds, 3)
        points = json.loads((Path(folder) / "points.json").read_text())
    same = {"others": others, "pace_us": pace_us, "machine": machine()}
    return [{"method": job.method, "seed": job.seed, **point, **same} for point in points]


def busy_seconds() -> float:
    """Processor time of the machine since it began, this process and its ended children left out."""
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK") - mine


def curve(events: list[dict[str, Any]], teacher: Any, end: float) -> list[dict[str, Any]]:
    """Hypervolume after each event {`seconds`, `objectives`, `completed`} that raises it, and at the end."""
    from kdnas.study.front import hypervolume

    seen: list[Any] = []
    told: list[Any] = []
    points: list[dict[str, Any]] = []
    for event in sorted(events, key=lambda each: each["seconds"]):
        seen.append(tuple(event["objectives"]))
        told += [tuple(event["objectives"])] if event["completed"] else []
        volumes = {"hypervolume": hypervolume(told, teacher), "judged": hypervolume(seen, teacher)}
        if not points or any(points[-1][name] != volume for name, volume in volumes.items()):
            points.append({"seconds": round(event["seconds"], 2), **volumes})
    last = points[-1] if points else {"hypervolume": 0.0, "judged": 0.0}
    return [*points, last | {"seconds": round(end, 2)}]


# Plain Optuna


def scratch_specs(spec: Any) -> list[Any]:
    """What is trained for a spec from scratch, one after the other: a network of its own shape, and its integers."""
    from kdnas.spaces.spec import StudentSpec

    own = StudentSpec(family=spec.family, base=spec.hidden, hidden=spec.hidden, bits=spec.bits)
    return list(dict.fromkeys([own.floating, own]))


def train_from_scratch(group: str, spec: Any, seed: int) -> Any:
    """One student of plain Optuna, in a worker."""
    from kdnas.distill import Stage, make_student
    from kdnas.distill.stage import quantization_steps
    from kdnas.study.tasks import open_room

    setup, demonstrations = _SETUP
    pool = setup.pools[group]
    if pool.name not in _ROOMS:
        _ROOMS[pool.name] = open_room(setup, pool, demonstrations)
    steps = SCRATCH_STEPS - (INTEGER_STEPS if spec.bits.quantized else 0)
    recipe, (room, lessons) = setup.config.distill, _ROOMS[pool.name]
    of_all = quantization_steps(spec.bits, recipe) / recipe.qat_steps if spec.bits.quantized else 1.0
    changes = {"ancestor_steps": steps, "qat_steps": round(INTEGER_STEPS / of_all), "rungs": (1.0,)}
    room = replace(room, recipe=recipe.model_copy(update=changes))
    student = None
    for own in scratch_specs(spec):
        student = make_student(Stage(spec=own), student, room, lessons, seed=seed)[0]
    return student


def try_candidate(candidate: dict[str, Any], trial: int, seed: int, folder: Path) -> tuple[float, float]:
    """When a candidate of plain Optuna was trained and played, and what it returned, on search episodes."""
    from kdnas.students.team import Team
    from kdnas.study.tasks import make_bank

    setup, _ = _SETUP
    students = {
        group: train_from_scratch(group, spec, seed * 100_000 + trial * 100 + index)
        for index, (group, spec) in enumerate(candidate.items())
    }
    seeds = setup.seeds.search(setup.config.evaluation.search_episodes)
    returned = mean_return(setup, Team(setup.spec, students), seeds)
    ended = time.time()
    for group, student in students.items():  # agents with a teacher in common have students of their own here
        bank = make_bank(setup, folder / f"{trial}-{group}")
        bank.store(setup.pools[group], student, bank.last(student.spec), steps=SCRATCH_STEPS, parent=None)
    return ended, returned


def score_candidate(candidate: dict[str, Any], trial: int, folder: Path) -> float:
    """What the same students return on the episodes of the table."""
    from kdnas.students.team import Team
    from kdnas.study.tasks import make_bank

    setup, _ = _SETUP
    students = {}
    for group, spec in candidate.items():
        bank, own = make_bank(setup, folder / f"{trial}-{group}"), scratch_specs(spec)[-1]
        students[group] = bank.load(setup.pools[group], bank.last(own))
    return mean_return(setup, Team(setup.spec, students), setup.seeds.final(SCORED))


def mean_return(setup: Any, policy: Any, seeds: list[int]) -> float:
    """Of a team, on the twin."""
    from kdnas.envs.rollouts import play

    return float(play(setup.env, policy, seeds, copies=256, max_steps=setup.config.env.max_steps).mean.mean())


_SETUP: tuple[Any, Any] = (None, None)
"""What a worker has open: a study, and its demonstrations or the bank of a finished run."""

_ROOMS: dict[str, Any] = {}
"""Pool name -> its classroom and lessons, opened once a worker, as in a search."""


def begin_worker(seed: int, folder: Path) -> None:
    """Open the study in a worker of plain Optuna."""
    global _SETUP
    import torch

    torch.set_num_threads(1)
    _SETUP = open_spread(seed, folder)


def open_spread(seed: int, folder: Path) -> tuple[Any, Any]:
    """The study and its demonstrations."""
    from kdnas.study.setup import open_study, read_study
    from kdnas.study.tasks import record_demonstrations, see_demonstrations

    setup = open_study(read_study("spread", seed=seed, budget=list(BUDGET)))
    demonstrations = record_demonstrations(setup, folder)
    return see_demonstrations(setup, demonstrations), demonstrations


def run_plain(method: str, seed: int, folder: Path, began: float) -> list[dict[str, Any]]:
    """40 trials of Optuna with nothing of kdnas but its inner loop."""
    import optuna

    from kdnas.errors import StudentError
    from kdnas.study.device_profile import fresh_profile
    from kdnas.study.search import make_gate

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    setup, _ = open_spread(seed, folder)
    target = setup.make_target()
    gate = make_gate(setup, target, fresh_profile(target))
    teacher_return, random_return = reference_returns(setup, setup.seeds.search(256))
    teacher_scored, random_scored = reference_returns(setup, setup.seeds.final(SCORED))
    samplers: dict[str, Any] = {
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    }
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        directions=["maximize", "minimize", "minimize"],
        sampler=samplers[PLAIN[method]](),
    )
    done: list[tuple[int, Any, float, Any]] = []
    waiting: dict[Future[Any], Any] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=spawn, initializer=begin_worker, initargs=(seed, folder)) as pool:
        asked = 0
        while asked < TRIALS or waiting:
            while asked < TRIALS and len(waiting) < WORKERS:
                trial = study.ask()
                candidate = setup.space.sample(trial)
                waiting[pool.submit(try_candidate, candidate, asked, seed, folder)] = (asked, trial, candidate)
                asked += 1
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                number, trial, candidate = waiting.pop(future)
                try:
                    ended, returned = future.result()
                except StudentError as error:
                    print(error, flush=True)
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                    continue
                verdict = gate.judge(candidate)
                team = verdict.cost.team
                retention = (returned - random_return) / (teacher_return - random_return)
                for name, violation in verdict.violations.items():
                    trial.set_constraint(name, violation)
                study.tell(trial, [retention, float(team.flops), float(team.memory_bytes)])
                if verdict.feasible:
                    done.append((number, candidate, ended - began, team))
        end = time.time() - began
        events = []
        for number, candidate, seconds, team in done:
            returned = pool.submit(score_candidate, candidate, number, folder).result()
            retention = (returned - random_scored) / (teacher_scored - random_scored)
            objectives = (retention, float(team.flops), float(team.memory_bytes))
            events.append({"seconds": seconds, "objectives": objectives, "completed": True})
    return curve(events, gate.pricer.teacher_cost(), end)


def reference_returns(setup: Any, seeds: list[int]) -> tuple[float, float]:
    """Mean returns of the teacher and of random play."""
    from kdnas.policies.team_policy import RandomPolicy

    random = RandomPolicy(setup.spec.actions, seed=setup.config.search.seed)
    return mean_return(setup, setup.teacher, seeds), mean_return(setup, random, seeds)


# kdnas


def write_scratch_space(folder: Path) -> str:
    """Write the space of `spread` with every realised width as a base of its own; its name, as a study has it."""
    from kdnas.config.shipped import find_space, find_study
    from kdnas.config.toml import read_toml
    from kdnas.spaces.space import SpaceConfig

    path = find_study("spread")
    space = read_toml(find_space(tomllib.loads(path.read_text("utf-8"))["space"], path.parent), SpaceConfig)
    tables = space.model_dump(exclude_none=True)
    tables["groups"] = {group: _own_ancestors(table) for group, table in tables["groups"].items()}
    (folder / "space.toml").write_text(tomli_w.dumps(tables))
    return "space.toml"


def _own_ancestors(table: dict[str, Any]) -> dict[str, Any]:
    """Every realised width as a base of its own."""
    from kdnas.spaces.space import pruned_width

    bases = []
    for base in table["bases"]:
        widths = [[pruned_width(width, ratio) for ratio in base["prune"]] for width in base["hidden"]]
        bases += [{**base, "hidden": list(hidden), "prune": [0.0]} for hidden in product(*widths)]
    return {**table, "bases": bases}


def run_kdnas(method: str, seed: int, folder: Path, began: float, limit: float) -> list[dict[str, Any]]:
    """`kdnas search` for so many seconds, and what its teams are worth."""
    from kdnas.study.interrupt import SearchInterrupted
    from kdnas.study.search import search

    changes = LEVERS[method]
    if changes.get("space") == "scratch":
        changes = changes | {"space": write_scratch_space(folder)}
    study = write_variant(changes, folder)
    stop = threading.Timer(limit - (time.time() - began), os.kill, (os.getpid(), signal.SIGINT))
    stop.start()
    with suppress(SearchInterrupted, KeyboardInterrupt), levered(method):
        search(study, budget=list(BUDGET), trials=100_000, workers=WORKERS, seed=seed, out=folder / "run")
    if not (folder / "run/run.json").exists():  # the time was over before it had begun
        return curve([], None, limit)
    return judge_run(study, seed, folder / "run", began, limit)


@contextmanager
def levered(method: str) -> Iterator[None]:
    """While it is open, the levers that no study can switch off are as a method has them."""
    from kdnas.study import take_up
    from kdnas.study.gate import Gate

    judge = Gate.judge

    def wave_through(gate: Gate, candidate: Any, *, measure_all: bool = False) -> Any:
        """A verdict on what was asked for that lets it pass; the teams that come first are as ever."""
        verdict = judge(gate, candidate, measure_all=measure_all)
        return _passing(verdict) if measure_all else verdict

    with ExitStack() as changed:
        if method == "kdnas-no-gate":
            changed.enter_context(patch.object(Gate, "judge", wave_through))
        if method == "kdnas-no-inheritance":
            changed.enter_context(patch.object(take_up, "first_teams", anchors_from_scratch))
        yield


def _passing(verdict: Any) -> Any:
    """The same price and violations, and never a refusal."""
    passing = type("Passing", (type(verdict),), {"feasible": True})
    return passing(**vars(verdict))


def anchors_from_scratch(_space: Any, gate: Any, _feasible: Any) -> list[dict[str, Any]]:
    """The teams that are tried first with inheritance, each student as an ancestor of its own."""
    from kdnas.study.anchors import first_teams, largest_feasible, ordered_specs
    from kdnas.study.setup import open_study, read_study

    whole = open_study(read_study("spread", budget=list(BUDGET))).space
    feasible = largest_feasible(ordered_specs(whole, gate), gate)
    teams = first_teams(whole, gate, feasible or {})
    return [{group: replace(spec, base=spec.hidden) for group, spec in team.items()} for team in teams]


def judge_run(study: Path, seed: int, run_path: Path, began: float, limit: float) -> list[dict[str, Any]]:
    """Play each team that a run judged, with the students that it had then."""
    from optuna.trial import TrialState

    from kdnas.study.device_profile import fresh_profile
    from kdnas.study.run_folder import trials_of
    from kdnas.study.schooling import stage_at
    from kdnas.study.search import make_gate
    from kdnas.study.setup import open_study, read_study
    from kdnas.study.take_up import candidate_of
    from kdnas.study.tasks import record_demonstrations, see_demonstrations

    setup = open_study(read_study(study, seed=seed, budget=list(BUDGET)))
    setup = see_demonstrations(setup, record_demonstrations(setup, run_path))
    target = setup.make_target()
    gate = make_gate(setup, target, fresh_profile(target))
    teacher_return, random_return = reference_returns(setup, setup.seeds.final(SCORED))
    events: list[dict[str, Any]] = []
    asked: list[tuple[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")
    opened = (study, seed, run_path)
    with ProcessPoolExecutor(WORKERS, mp_context=spawn, initializer=begin_judge, initargs=opened) as pool:
        played: dict[Any, Future[float]] = {}
        for trial in trials_of(run_path):
            if not trial.params or not trial.user_attrs.get("judged_at"):
                continue
            candidate = candidate_of(setup, trial)
            verdict = gate.judge(candidate)
            if not verdict.feasible:
                continue
            times = {int(rung): at for rung, at in trial.user_attrs["judged_at"].items()}
            for rung, at in times.items():
                stages = {group: stage_at(spec, rung, setup.config.distill) for group, spec in candidate.items()}
                asked += {(setup.pools[group].name, stage) for group, stage in stages.items()}
                if any(stage.spec != candidate[group] for group, stage in stages.items()):
                    continue  # others stood for its students
                done = trial.state == TrialState.COMPLETE and rung == max(times)
                seconds = (trial.datetime_complete.timestamp() if done else at) - began
                if seconds > limit:
                    continue
                key = tuple(sorted((group, str(stage), stage.spec.digest) for group, stage in stages.items()))
                if key not in played:
                    played[key] = pool.submit(judge_team, stages)
                events.append({"seconds": seconds, "played": played[key], "cost": verdict.cost.team, "completed": done})
        for event in events:
            cost, returned = event.pop("cost"), event.pop("played").result()
            retention = (returned - random_return) / (teacher_return - random_return)
            event["objectives"] = (retention, float(cost.flops), float(cost.memory_bytes))
    points = curve(events, gate.pricer.teacher_cost(), limit)
    return [*points[:-1], points[-1] | {"asked": len(asked), "trained": len(set(asked))}]


def begin_judge(study: Path, seed: int, run_path: Path) -> None:
    """Open a finished run in a process."""
    global _SETUP
    import torch

    from kdnas.study.setup import open_study, read_study
    from kdnas.study.tasks import make_bank, record_demonstrations, see_demonstrations

    torch.set_num_threads(1)
    setup = open_study(read_study(study, seed=seed, budget=list(BUDGET)))
    setup = see_demonstrations(setup, record_demonstrations(setup, run_path))
    _SETUP = (setup, make_bank(setup, run_path))


def judge_team(stages: dict[str, Any]) -> float:
    """What banked students return on the episodes of the table."""
    from kdnas.students.team import Team

    setup, bank = _SETUP
    students = {group: bank.load(setup.pools[group], stage) for group, stage in stages.items()}
    return mean_return(setup, Team(setup.spec, students), setup.seeds.final(SCORED))


# Table and picture


def summary(rows: list[dict[str, Any]]) -> str:
    """What each method reached, and when kdnas had what plain Optuna ended with."""
    header = ("method", "seeds", "hypervolume at the end", "s", "after a tenth of Optuna's time",
              "after three tenths", "reached Optuna's best after s", "share of Optuna's time",
              "had judged as much after s", "pace, us", "others")  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    best = {
        seed: max(
            (row["hypervolume"] for row in rows if row["method"] in PLAIN and row["seed"] == seed), default=float("nan")
        )
        for seed in SEEDS
    }
    for method in [*PLAIN, *LEVERS]:
        runs = list(_runs(rows, method))
        if not runs:
            continue
        ends = [points[-1] for _, points in runs]
        reached, judged = (
            [next((p["seconds"] for p in points if p[name] >= best[seed]), None) for seed, points in runs]
            for name in ("hypervolume", "judged")
        )
        known = [(seed, when) for (seed, _), when in zip(runs, reached, strict=True) if when is not None]
        wholes = [(when, reference_seconds(rows, seed)) for seed, when in known]
        shares = [when / whole for when, whole in wholes if whole is not None]
        share = " ".join(f"{each:.3f}" for each in shares) if len(shares) == len(runs) else "-"
        shown, had = (" ".join("-" if when is None else f"{when:.0f}" for when in each) for each in (reached, judged))
        whole = method in PLAIN or SHARES.get(method) == 1.0
        volumes = " ".join(f"{end['hypervolume']:.2f}" for end in ends) if whole else "-"
        seconds = sum(end["seconds"] for end in ends) / len(ends)
        early = [
            " ".join(_after(part, points, reference_seconds(rows, seed)) for seed, points in runs) for part in EARLY
        ]
        paces = " ".join(f"{end['pace_us']:.0f}" for end in ends)
        others = " ".join(f"{end['others']:.0%}" for end in ends)
        seeds = " ".join(str(seed) for seed, _ in runs)
        cells = [method, seeds, volumes, f"{seconds:.0f}", *early, shown, share, had, paces, others]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _after(share: float, points: list[dict[str, Any]], whole: float | None) -> str:
    """Hypervolume after a share of the time that plain Optuna took."""
    if whole is None or points[-1]["seconds"] < round(share * whole, 2):
        return "-"
    known = [point["hypervolume"] for point in points if point["seconds"] <= round(share * whole, 2)]
    return f"{max(known, default=0.0):.2f}"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The curves of plain Optuna and of kdnas, a line for each seed, over seconds on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for colour, method in enumerate([*PLAIN, "kdnas"]):
        for number, (_, points) in enumerate(_runs(rows, method)):
            times, volumes = ([point[name] for point in points] for name in ("seconds", "hypervolume"))
            axes.step(times, volumes, where="post", color=f"C{colour}", label=None if number else method)
    axes.set(xscale="log", xlabel="seconds since the process began", ylabel="hypervolume")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _runs(rows: list[dict[str, Any]], method: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for seed in SEEDS:
        points = [row for row in rows if (row["method"], row["seed"]) == (method, seed)]
        if points:
            yield seed, points


def missing(rows: list[dict[str, Any]]) -> list[Job]:
    """Runs that have no rows yet."""
    have = {(row["method"], row["seed"]) for row in rows}
    return [job for job in jobs() if (job.method, job.seed) not in have]


def main() -> None:
    """Run what is missing, and print the table."""
    began = time.time()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="methods that begin with this")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        if arguments.run in PLAIN:
            points = run_plain(arguments.run, arguments.seed, arguments.folder, began)
        else:
            points = run_kdnas(arguments.run, arguments.seed, arguments.folder, began, arguments.limit)
        (arguments.folder / "points.json").write_text(json.dumps(points))
        return
    rows = undisturbed(read_rows())
    wanted = [
        job
        for job in missing(rows)
        if (not arguments.only or job.method.startswith(arguments.only)) and arguments.seed in (None, job.seed)
    ]
    if arguments.list:
        print(f"{len(jobs()) - len(missing(rows))} runs are there, missing: {', '.join(map(str, missing(rows)))}")
        return
    for job in wanted:
        rows += run(job, rows)
        write_rows(rows)
        print(summary(rows), flush=True)
    if not wanted:
        print(summary(rows))
    draw(rows, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
