"""What a second worker is worth: the same search of `spread` with one and with two, on two cores.

    python benchmarks/scaling.py               three seeds, an hour on two cores; adds run by run
    python benchmarks/scaling.py --seed 0      one of them

Each run is a fresh process that searches `TRIALS` candidates with the study's own settings and the same seed. `seconds`
are from the first candidate that was asked for to the last that was told: what is done once before (opening, recording
demonstrations, starting workers) and after (scores, export) is left out, and as short as the study can have it. The
coordinator, which samples, prices and stores, has the second core for itself beside one worker, and none beside two.
Two workers meet candidates in another order, so that they train other students: `steps` are the optimiser's, of all
that the bank has, those of quantized students twice, for they take twice as long (`training_step.py`), and the ratio is
of steps a second. What plays take is in the seconds and not in the steps, and there are about as many. `pace_us` is
what a fixed piece of arithmetic took while the search was halted for it every 20 seconds; `at one pace` is the ratio
had the machine been as fast in both runs. Of a seed that was begun on another machine, or before this one was started
anew, the run is made again.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from check_docs import ROOT, mean_within
from pace import machine, run_paced
from variant import write_variant

RESULTS = ROOT / "benchmarks/results/scaling.json"
TRIALS, SEEDS, BUDGET = 48, (0, 1, 2), ["flops<1%"]
SHORT_END = {"search": {"front": 1}, "refine": {"joint": {"steps": 0}}}


def run(seed: int, workers: int, folder: Path) -> dict[str, Any]:
    """One search; its row."""
    from optuna.trial import TrialState

    from kdnas.study.run_folder import trials_of
    from kdnas.study.search import search

    study = write_variant(SHORT_END, folder)
    search(study, budget=BUDGET, trials=TRIALS, workers=workers, seed=seed, out=folder / "run")
    trials = trials_of(folder / "run")
    begun = min(trial.datetime_start for trial in trials if trial.datetime_start)
    ended = max(trial.datetime_complete for trial in trials if trial.datetime_complete)
    return {
        "seed": seed,
        "workers": workers,
        "seconds": round((ended - begun).total_seconds(), 1),
        "steps": trained_steps(folder / "run/bank"),
        "machine": machine(),
        "completed": sum(trial.state == TrialState.COMPLETE for trial in trials),
    }


def trained_steps(bank: Path) -> int:
    """Of a bank: a float student's at its last rung, and the steps in which the learning rate fell at those before, for
    each goes on from where that began; a quantized one's at all rungs, for it begins anew on each."""
    from kdnas.distill.trainer import COOL_DOWN
    from kdnas.students.weights import read_facts

    floats: dict[str, list[int]] = {}
    quantized = 0
    for path in bank.glob("*.safetensors"):
        facts = read_facts(path)
        if facts["spec"]["bits"]["weight"] == 32:
            floats.setdefault(json.dumps(facts["spec"], sort_keys=True), []).append(facts["steps"])
        else:
            quantized += 2 * facts["steps"]
    cooled = sum(int(COOL_DOWN * steps) for rungs in floats.values() for steps in sorted(rungs)[:-1])
    return sum(max(rungs) for rungs in floats.values()) + cooled + quantized


def summary(rows: list[dict[str, Any]]) -> str:
    """A line for each seed, and the mean ratio at one pace with its interval."""
    header = ("seed", "s with 1", "steps", "pace, us", "s with 2", "steps", "pace, us", "times as many a second",
              "at one pace")  # fmt: skip
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    ratios = []
    for seed in SEEDS:
        found = {row["workers"]: row for row in rows if row["seed"] == seed}
        if len(found) < 2:
            continue
        one, two = found[1], found[2]
        raw = two["steps"] / two["seconds"] / (one["steps"] / one["seconds"])
        ratios.append(raw * two["pace_us"] / one["pace_us"])
        runs = [row[name] for row in (one, two) for name in ("seconds", "steps", "pace_us")]
        cells = [seed, *runs, f"{raw:.2f}", f"{ratios[-1]:.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, f"\nmean at one pace {mean_within(ratios)}"])


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--run", type=int, metavar="WORKERS", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        row = run(arguments.seed, arguments.run, arguments.folder)
        (arguments.folder / "row.json").write_text(json.dumps(row))
        return
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8"))["rows"] if RESULTS.exists() else []
    have = {(row["seed"], row["workers"]) for row in rows}
    whole = {seed for seed in SEEDS if {(seed, 1), (seed, 2)} <= have}
    rows = [row for row in rows if row["seed"] in whole or row["machine"] == machine()]
    have = {(row["seed"], row["workers"]) for row in rows}
    for seed in SEEDS if arguments.seed is None else (arguments.seed,):
        for workers in (1, 2):
            if (seed, workers) in have:
                continue
            with TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--run", str(workers), "--seed", str(seed), "--folder", folder]
                pace_us = run_paced(command, stopped=True)
                rows.append(json.loads((Path(folder) / "row.json").read_text()) | {"pace_us": pace_us})
            RESULTS.write_text(json.dumps({"trials": TRIALS, "budget": BUDGET, "rows": rows}, indent=1) + "\n", "utf-8")
    print(summary(rows))


if __name__ == "__main__":
    main()
