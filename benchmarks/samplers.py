"""Which sampler should ask for candidates, and what asking and storing cost: whole searches without the work.

    python benchmarks/samplers.py

The coordinator, the gate, the race and the storage are those of a search; its workers end every task at once, with
made up results: a student loses weight of its agent x (8 / mean width)^1.3, more with few bits, with one layer and
before its recovery is complete, times a lognormal factor of 0.25, and a team what its students lose and a tenth of the
square; an episode adds noise that grows with what is lost.

3 agents: `spread`, its own space and budget, in memory. The hypervolume is that of the teams that were completed by so
many trials, with what they retain in truth. 16 agents: `simple_spread` with N = 16, a network for each agent, up to 64
parameters, SQLite in the run folder; also with `free_groups`. The hypervolume is that after 500 trials. `ms` are those
of asking, proposing and storing for each trial, in each hundred of them; `share` is what they are of the wall time of
500 trials. That is theirs and half of what two workers would have had to do meanwhile: the steps that were to be
trained times what a float step of a one-layer student takes, and the episodes that were to be played times what one of
untrained students takes, both measured at the end.
"""

import dataclasses
import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import tomli_w
import torch

from kdnas.config.study import DistillTable, TrainTable
from kdnas.distill.bank import StudentBank
from kdnas.distill.pool import Pool
from kdnas.distill.recipe import make_student
from kdnas.distill.stage import Effort, Stage, lineage
from kdnas.distill.trainer import COOL_DOWN
from kdnas.envs.make import make_env
from kdnas.envs.rollouts import play
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Student, load_family
from kdnas.students.team import Team
from kdnas.study.device_profile import fresh_profile
from kdnas.study.front import hypervolume
from kdnas.study.objective import Objective
from kdnas.study.room import Room
from kdnas.study.run_folder import open_run
from kdnas.study.samplers import make_sampler
from kdnas.study.search import make_gate, make_objective
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.storage import open_storage
from kdnas.study.tasks import make_bank, open_room, play_team, record_demonstrations
from kdnas.teachers.checkpoint import save_teacher
from kdnas.teachers.mappo import make_networks

RESULT = Path(__file__).parent / "results" / "samplers.json"
SAMPLERS = ("multivariate-tpe", "tpe", "nsga2", "random")
SEEDS = (0, 1, 2)
CHECKPOINTS = (50, 100, 200, 300)
MANY_TRIALS = 500
BUDGET = ("flops<1%", "memory<2KiB")
TEACHER, GAP = -8.0, 20.0
"""Mean return of the teacher, and how much less random play has."""


@dataclass(frozen=True, kw_only=True)
class MadeUpBank(StudentBank):
    """A bank without files."""

    kept: set[str] = field(default_factory=set)

    def has(self, pool: Pool, stage: Stage) -> bool:
        return self.address(pool, stage) in self.kept


@dataclass(kw_only=True)
class MadeUpWorkers:
    """Workers that end each task when it is waited for, the oldest first."""

    setup: Setup
    bank: MadeUpBank
    truth: "Truth"
    count: int = 2
    waiting: "list[tuple[Future[Any], Any, tuple[Any, ...]]]" = field(default_factory=list)
    steps: int = 0
    """Of all trainings."""
    episodes: int = 0
    """Of all plays."""

    def submit(self, task: Any, *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        self.waiting.append((future, task, arguments))
        return future

    @property
    def some_idle(self) -> bool:
        """What they lack is never foreseen: they end at once."""
        return False

    def wait(self, futures: "Sequence[Future[Any]]") -> "list[Future[Any]]":
        future, task, arguments = self.waiting.pop(0)
        if task is play_team:
            players, seeds = arguments[:2]
            self.episodes += len(seeds)
            future.set_result(self.truth.returns(players, len(seeds), first=seeds[0]))
        else:
            group, stage = arguments
            self.steps += new_steps(stage, self.bank.recipe)
            self.bank.kept.add(self.bank.address(self.setup.pools[group], stage))
            future.set_result(None)
        return [future]


def new_steps(stage: Stage, recipe: DistillTable) -> int:
    """Steps from the stage before; a rung goes on from where the learning rate of that one began to fall."""
    before = [one for one in lineage(stage)[:-1] if one.spec == stage.spec]
    done = Effort.of(before[-1], recipe).steps if before else 0
    return Effort.of(stage, recipe).steps - done + max(int(COOL_DOWN * done), 1 if before else 0)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What made-up students lose."""

    groups: tuple[str, ...]
    rungs: tuple[float, ...]
    seeds: tuple[int, ...]
    """Search episodes."""
    seed: int

    def loss(self, group: str, stage: Stage) -> float:
        """Retention that a team of teachers loses with one student."""
        spec = stage.spec
        recovered = self.rungs[stage.rung]
        width = float(np.mean(spec.hidden))
        weight = (0.5 + self._draw(group).uniform()) / len(self.groups)
        bits = {32: 1.0, 8: 1.05, 4: 1.6}[spec.bits.weight]
        late = 1.0 + (1.0 - recovered) * 8 / width
        shape = {1: 1.6, 2: 1.0}[len(spec.hidden)]
        luck = self._draw(group, str(spec)).lognormal(0.0, 0.25)
        return float(0.2 * weight * (8 / width) ** 1.3 * bits * late * shape * luck)

    def retention(self, players: dict[str, Stage]) -> float:
        """What a team retains."""
        lost = sum(self.loss(group, stage) for group, stage in players.items())
        return 1.0 - lost - 0.1 * lost**2

    def returns(self, players: dict[str, Stage], episodes: int, *, first: int) -> "np.ndarray[Any, Any]":
        """(episodes,), of search episodes from `first` on."""
        begin = self.seeds.index(first)
        lost = 1.0 - self.retention(players)
        own = self._draw("team", *(f"{group} {stage}" for group, stage in players.items()))
        noise = own.normal(size=len(self.seeds)) * 5.0 * np.sqrt(max(lost, 0.0))
        return (self.teacher() - GAP * lost + noise)[begin : begin + episodes]

    def teacher(self) -> "np.ndarray[Any, Any]":
        """Returns of the teacher on all search episodes."""
        return TEACHER + self._draw("episodes").normal(size=len(self.seeds))

    def _draw(self, *names: str) -> np.random.Generator:
        digest = hashlib.sha256(repr((self.seed, *names)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def pretend(
    setup: Setup, study: "optuna.Study", folder: Path, seed: int
) -> tuple[Objective, Truth, MadeUpWorkers]:
    """The coordinator of a search whose workers do nothing."""
    run = open_run(folder, setup, None)
    run.lock.release()
    seeds = setup.seeds.search(setup.config.evaluation.search_episodes)
    truth = Truth(
        groups=tuple(setup.spec.groups), rungs=setup.config.distill.rungs, seeds=tuple(seeds), seed=seed
    )
    real = make_bank(setup, folder)
    bank = MadeUpBank(**{each.name: getattr(real, each.name) for each in dataclasses.fields(real)})
    target = setup.make_target()
    workers = MadeUpWorkers(setup=setup, bank=bank, truth=truth)
    gate = make_gate(setup, target, fresh_profile(target))
    references = (truth.teacher(), truth.teacher() - GAP)
    busy: Any = workers
    return make_objective(setup, run.returns, bank, study, gate, busy, references), truth, workers


def go_on(objective: Objective, trials: int) -> None:
    """Search until so many trials have been asked for and what was begun has ended."""
    while True:
        objective.advance()
        while objective.has_room and objective.asked < trials:
            objective.ask()
            objective.advance()
        if not objective.busy:
            if objective.asked >= trials:
                return
            continue
        objective.settle()


def volume(objective: Objective, truth: Truth) -> float:
    """Hypervolume of the completed teams, with what they retain in truth."""
    last = objective.schooling.bank.last
    points = [
        (truth.retention({group: last(spec) for group, spec in played.candidate.items()}), *played.objectives[1:])
        for played in objective.teams.played.values()
    ]
    return hypervolume(points, objective.gate.pricer.teacher_cost(measure=False))


def three_agents(sampler: str, propose: bool, seed: int) -> dict[str, float]:
    """Hypervolume after so many trials of `spread`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file = read_study("spread", seed=seed, budget=list(BUDGET))
    search = file.config.search.model_copy(update={"sampler": sampler, "propose": propose})
    setup = open_study(dataclasses.replace(file, config=file.config.model_copy(update={"search": search})))
    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=make_sampler(sampler, seed)
    )
    reached = {}
    with tempfile.TemporaryDirectory() as folder:
        objective, truth, _ = pretend(setup, study, Path(folder) / "run", seed)
        for trials in CHECKPOINTS:
            go_on(objective, trials)
            reached[str(trials)] = volume(objective, truth)
    return reached


def write_sixteen(folder: Path) -> Path:
    """A study of 16 agents, each with its own network, and an untrained teacher."""
    table = {"name": "mpe/simple_spread", "twin": "mpe/simple_spread_twin", "groups": "per-agent", "max_steps": 25}
    env = table | {"kwargs": {"N": 16, "max_cycles": 25}}
    tables = {"name": "sixteen", "space": "mlp_small", "env": env, "teacher": {"checkpoint": "teacher"}}
    (folder / "sixteen.toml").write_text(tomli_w.dumps(tables))
    config = read_study(folder / "sixteen.toml").config
    spec = make_env(config.env, folder).spec
    save_teacher(folder / "teacher", make_networks(spec, TrainTable()), spec, TrainTable(), 0, "benchmark")
    return folder / "sixteen.toml"


def sixteen_agents(sampler: str, free_groups: int, folder: Path) -> dict[str, float]:
    """Milliseconds for each trial, how many parameters there are, and what is reached."""
    file = read_study(write_sixteen(folder), budget=["flops<4%"])
    search = file.config.search.model_copy(update={"sampler": sampler, "free_groups": free_groups})
    setup = open_study(dataclasses.replace(file, config=file.config.model_copy(update={"search": search})))
    study = open_storage(f"sqlite:///{folder / 'study.db'}", "samplers", sampler, 0, Room(folder, print))
    objective, truth, workers = pretend(setup, study, folder / "run", 0)
    row: dict[str, float] = {}
    for trials in range(100, MANY_TRIALS + 1, 100):
        before = objective.storing.seconds
        go_on(objective, trials)
        row[f"ms_to_{trials}"] = round(10 * (objective.storing.seconds - before), 1)
    parameters = max(len(trial.params) for trial in study.get_trials(deepcopy=False))
    spent = objective.storing.seconds
    work = workers.steps * step_s(setup, folder) + workers.episodes * episode_s(setup)
    said = {"parameters": parameters, "steps": workers.steps, "episodes": workers.episodes, "work_s": round(work, 1)}
    reached = {"hypervolume": round(volume(objective, truth), 3), "share": round(spent / (spent + work / 2), 4)}
    return row | said | reached


def step_s(setup: Setup, folder: Path) -> float:
    """Seconds of a float training step of the smallest ancestor, with its share of on-policy episodes."""
    torch.set_num_threads(1)  # as workers do
    steps, group = 1_300, next(iter(setup.pools))
    base = min((spec.base for spec in setup.space.groups[group].parameters), key=lambda each: (len(each), each))
    family = next(spec.family for spec in setup.space.groups[group].parameters if spec.base == base)
    # One batch of on-policy episodes (an ancestor skips the first) for 1,300 steps; a recovery has 12 for 12,000.
    few = {"demonstration_episodes": 100, "ancestor_steps": steps, "on_policy_rounds": 2}
    distill = setup.config.distill.model_copy(update=few)
    file = dataclasses.replace(setup.file, config=setup.config.model_copy(update={"distill": distill}))
    own = dataclasses.replace(setup, file=file)
    room, lessons = open_room(own, own.pools[group], record_demonstrations(own, folder))
    began = time.monotonic()
    make_student(Stage(spec=StudentSpec(family=family, base=base, hidden=base)), None, room, lessons, seed=0)
    return (time.monotonic() - began) / steps


def episode_s(setup: Setup) -> float:
    """Seconds of a search episode of a team of the smallest students, untrained; the faster of two."""
    students = {}
    for group, space in setup.space.groups.items():
        spec, spaces = min(space.parameters, key=lambda each: (sum(each.hidden), str(each))), setup.pools[group].spaces
        own = spec.floating
        network = load_family(own.family).build(own, spaces, torch.Generator().manual_seed(0))
        students[group] = Student(own, spaces, network)
    seeds, times = setup.seeds.search(setup.config.evaluation.search_episodes), []
    copies = setup.config.evaluation.copies
    for _ in range(2):
        began = time.monotonic()
        play(setup.env, Team(setup.spec, students), seeds, copies=copies, max_steps=setup.config.env.max_steps)
        times.append(time.monotonic() - began)
    return min(times) / len(seeds)


def main() -> None:
    """Run the benchmark, print its lines, write `results/samplers.json`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    three: dict[str, Any] = {}
    many: dict[str, Any] = {}
    for sampler, free_groups in [*((name, 0) for name in SAMPLERS), ("multivariate-tpe", 4)]:
        name = sampler if not free_groups else f"{sampler}, {free_groups} groups at a time"
        with tempfile.TemporaryDirectory() as folder:
            many[name] = sixteen_agents(sampler, free_groups, Path(folder))
        print(f"16 agents, {name}: {many[name]}", flush=True)
    for sampler in SAMPLERS:
        for propose in (True, False):
            with ProcessPoolExecutor(2) as pool:
                runs = list(pool.map(three_agents, *zip(*((sampler, propose, seed) for seed in SEEDS), strict=True)))
            name = sampler if propose else f"{sampler} alone"
            three[name] = {key: [round(run[key], 3) for run in runs] for key in runs[0]}
            means = {key: round(float(np.mean(values)), 3) for key, values in three[name].items()}
            print(f"3 agents, {name}: {means}", flush=True)
    setting = {"seeds": list(SEEDS), "budget": list(BUDGET), "python": platform.python_version()}
    RESULT.write_text(json.dumps({"three_agents": three, "sixteen_agents": many, **setting}, indent=1) + "\n")


if __name__ == "__main__":
    main()
