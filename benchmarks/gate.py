"""How many candidates a second are priced and held against a budget, without training and without measuring.

    python benchmarks/gate.py

Three groups of different spaces, so that no group profits from another's cache; a space of 16 shapes x 4 number formats
a group; each repeat has a new Pricer, whose caches are empty, and prices 500 random candidates. Imports and the price
of the teacher, once a run, stand before the clock.
"""

import json
import platform
import time
from pathlib import Path

import numpy as np
import torch

from kdnas.budgets.budget import Budget, parse_budget
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.policies.actions import Discrete
from kdnas.profiling import OnnxTarget, Pricer
from kdnas.spaces.space import BaseTable, GroupTable, SpaceConfig, make_space
from kdnas.spaces.spec import StudentSpec
from kdnas.teachers.network import make_mlp
from kdnas.teachers.teacher import Teacher

CANDIDATES, REPEATS = 500, 7
GOAL = 200
"""Candidates a second that the project promises."""
RESULT = Path(__file__).parent / "results" / "gate.json"

ENV = EnvSpec(
    name="benchmark",
    agents={f"agent_{index}": AgentSpec(observation_size=18 + index, actions=Discrete(5)) for index in range(3)},
    groups={f"group_{index}": (f"agent_{index}",) for index in range(3)},
    state_size=57,
)
TABLE = GroupTable(
    bases=(BaseTable(hidden=(64, 64), prune=(0.5, 0.625, 0.75, 0.8125)),), bits=("float", "w8a8i8", "w4a8i8", "w4a4i8")
)


def main() -> None:
    """Run the benchmark, print one line, write `results/gate.json`."""
    spaces = {group: ENV.group_spec(group) for group in ENV.groups}
    teacher = Teacher(
        ENV, {group: make_mlp(own.observation_size, (128, 128), own.actions.outputs) for group, own in spaces.items()}
    )
    space = make_space(SpaceConfig(name="gate", groups={"default": TABLE}), list(ENV.groups))
    specs = {group: list(choices.parameters) for group, choices in space.groups.items()}
    budget = parse_budget(["flops<10%", "team.memory<=6KiB"])
    rates, shares = zip(*(_repeat(seed, teacher, specs, budget) for seed in range(REPEATS + 1)), strict=True)
    rates = rates[1:]  # the first repeat pays for lazy imports
    median, low, high = (float(value) for value in (np.median(rates), min(rates), max(rates)))
    print(f"{median:.0f} candidates/s (lowest {low:.0f}, highest {high:.0f} of {REPEATS}); goal {GOAL}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "candidates_per_s": {"median": median, "lowest": low, "highest": high, "repeats": REPEATS},
        "goal_per_s": GOAL,
        "candidates_per_repeat": CANDIDATES,
        "specs_per_group": {group: len(found) for group, found in specs.items()},
        "budget": [item.text for item in budget.constraints],
        "feasible_share": float(np.mean(shares[1:])),
        "cpu": OnnxTarget().fingerprint()["cpu"],
        "torch_threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def _repeat(seed: int, teacher: Teacher, specs: dict[str, list[StudentSpec]], budget: Budget) -> tuple[float, float]:
    """Candidates a second, and the share of them that is feasible."""
    generator = np.random.default_rng(seed)
    candidates = [
        {group: found[generator.integers(len(found))] for group, found in specs.items()} for _ in range(CANDIDATES)
    ]
    pricer = Pricer(ENV, teacher, OnnxTarget())
    base = pricer.teacher_cost(measure=False)
    feasible = 0
    start = time.perf_counter()
    for candidate in candidates:
        cost = pricer.team(candidate, measure=False)
        feasible += all(violation <= 0 for violation in budget.violations(cost, base).values())
    return CANDIDATES / (time.perf_counter() - start), feasible / CANDIDATES


if __name__ == "__main__":
    main()
