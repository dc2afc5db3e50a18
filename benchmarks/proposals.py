"""How fast teams are proposed, and how near to the best ones that there are.

    python benchmarks/proposals.py

Groups of different observation sizes, 30 students each: drawn shapes of two layers in three number formats, with the
pricer's own prices. Losses are made up: weight of the group x (8 / width)^1.3, more with fewer bits, times a lognormal
factor of 0.25. Times are of the processor, not of the clock.

With 3 groups all 27,000 teams are known, and so is the hypervolume of their front. With 8 and 16 there are 30^8 and
30^16; but for a rate of exchange between retention and price the best team is each group's own choice. What a search
reached is then a share of the way from the best uniform team (the same place in every group) to that optimum, for 100
rates that are drawn at random and are none of the starting teams'.
"""

import json
import platform
import time
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from kdnas.budgets.budget import parse_budget
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.policies.actions import Discrete
from kdnas.profiling import OnnxTarget, Pricer
from kdnas.spaces.space import BaseTable, GroupTable, SpaceConfig, make_space
from kdnas.spaces.spec import StudentSpec
from kdnas.study.board import Board, Lineup, price_options
from kdnas.study.front import hypervolume
from kdnas.study.gate import Gate
from kdnas.study.proposer import MOVES, UNIFORM, explore, propose, starting_teams
from kdnas.teachers.network import make_mlp
from kdnas.teachers.teacher import Teacher

GROUPS, OPTIONS, SEEDS = (3, 8, 16), 30, (0, 1, 2)
EVALUATIONS = (600, 2000)
RATES = 100
RESULT = Path(__file__).parent / "results" / "proposals.json"
TABLE = GroupTable(
    bases=(BaseTable(hidden=(64, 64), prune=(0.5, 0.625, 0.75, 0.8125, 0.875)),), bits=("float", "w8a8i8", "w4a8i8")
)


def main() -> None:
    """Run the benchmark, print a line for each number of groups, write `results/proposals.json`."""
    result = {}
    for groups in GROUPS:
        runs = [_run(groups, seed) for seed in SEEDS]
        mean = {key: _round(np.mean([run[key] for run in runs])) for key in runs[0]}
        least = {key: _round(min(run[key] for run in runs)) for key in runs[0] if "share" in key}
        trained = f"{groups * OPTIONS} students to train ({groups} x {OPTIONS}) for {OPTIONS}^{groups} teams"
        result[str(groups)] = {"mean": mean, "least": least, "trainings": trained}
        print(f"{groups} groups: {trained}; {mean}; least {least}", flush=True)
    setting = {
        "options_per_group": OPTIONS,
        "seeds": list(SEEDS),
        "evaluations": list(EVALUATIONS),
        "cpu": OnnxTarget().fingerprint()["cpu"],
        "python": platform.python_version(),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"groups": result, **setting}, indent=2) + "\n")


def _run(groups: int, seed: int) -> dict[str, float]:
    board = _board(groups, seed)
    starts = starting_teams(board)
    row = {"options_left_per_group": float(np.mean([len(own) for own in board.options.values()]))}
    row["starting_teams"] = float(len(starts))
    judge = _front_share if groups == 3 else _scalarised_share
    row["share_of_starting_teams"] = judge(board, starts, seed)
    row["hypervolume_of_starting_teams"] = _hypervolume(board, starts)
    for evaluations in EVALUATIONS:
        for name, begin, moves in (("nsga2_alone", starts[:UNIFORM], 0), ("proposer", starts, MOVES)):
            start = time.process_time()
            found = explore(board, begin, evaluations=evaluations, seed=seed, moves=moves)
            seconds = time.process_time() - start
            row[f"share_of_{name}_{evaluations}"] = judge(board, list(found), seed)
            row[f"hypervolume_of_{name}_{evaluations}"] = _hypervolume(board, list(found))
            row[f"{name}_{evaluations}_cpu_s_per_1000_teams"] = 1000 * seconds / evaluations
    start = time.process_time()
    propose(board, played=[], count=20, evaluations=EVALUATIONS[-1], seed=seed)
    row[f"propose_20_of_{EVALUATIONS[-1]}_cpu_s"] = time.process_time() - start
    return row


def _board(groups: int, seed: int) -> Board:
    rng = np.random.default_rng(seed)
    env = EnvSpec(
        name="benchmark",
        agents={f"agent_{n}": AgentSpec(observation_size=10 + 2 * n, actions=Discrete(5)) for n in range(groups)},
        groups={f"group_{n}": (f"agent_{n}",) for n in range(groups)},
        state_size=8,
    )
    actors = {f"group_{n}": make_mlp(10 + 2 * n, (128, 128), 5) for n in range(groups)}
    space = make_space(SpaceConfig(name="proposals", groups={"default": TABLE}), list(env.groups))
    losses: dict[str, dict[StudentSpec, float]] = {}
    for group, choices in space.groups.items():
        weight, specs = rng.uniform(0.15, 1.0) / groups, list(choices.parameters)
        losses[group] = {
            specs[place]: float(weight * _loss(specs[place]) * rng.lognormal(0, 0.25))
            for place in rng.choice(len(specs), OPTIONS, replace=False)
        }
    gate = Gate(budget=parse_budget([]), pricer=Pricer(env, Teacher(env, actors), OnnxTarget()))
    return Board(price_options(gate, losses), budget=gate.budget, teacher=gate.pricer.teacher_cost(measure=False))


def _loss(spec: StudentSpec) -> float:
    return float((8 / np.mean(spec.hidden)) ** 1.3 * {32: 1.0, 8: 1.05, 4: 1.6}[spec.bits.weight])


def _hypervolume(board: Board, teams: Iterable[Lineup]) -> float:
    return hypervolume([board.outcome(team).objectives for team in teams], board.teacher)


def _front_share(board: Board, teams: Sequence[Lineup], seed: int) -> float:
    """Hypervolume of the teams over that of all there are."""
    return _hypervolume(board, teams) / _hypervolume(board, product(*(range(len(o)) for o in board.options.values())))


def _scalarised_share(board: Board, teams: Sequence[Lineup], seed: int) -> float:
    """Mean over rates of exchange of (best uniform - best of the teams) / (best uniform - optimum).

    Rates at which a uniform team is the optimum (the cheapest everywhere) say nothing and are drawn again.
    """
    rng = np.random.default_rng(1000 + seed)
    losses, shares = board.losses(), board.shares()
    uniform, places = np.array(starting_teams(board)[:UNIFORM]), np.array(teams)  # (T, G)
    reached: list[float] = []
    while len(reached) < RATES:
        rate, mixture = 10 ** rng.uniform(-2, 1), rng.dirichlet(np.ones(len(shares[0])))
        values = [lost + rate * mixture @ taken for lost, taken in zip(losses, shares, strict=True)]
        optimum = sum(own.min() for own in values)
        baseline, best = (
            float(np.sum([own[those[:, group]] for group, own in enumerate(values)], 0).min())
            for those in (uniform, places)
        )
        if baseline > optimum + 1e-9:
            reached.append((baseline - best) / (baseline - optimum))
    return float(np.mean(reached))


def _round(value: Any) -> float:
    return float(f"{float(value):.4g}")


if __name__ == "__main__":
    main()
