"""What a search costs as teams grow: `simple_spread` of 3 and of 8 agents, with one network each.

    python benchmarks/groups.py                      half an hour or more, most of it for the teacher of 8 agents
    python benchmarks/groups.py --teacher FOLDER     keeps that teacher there, or takes the one that is there

Both searches are `kdnas search` with the space `mlp_small`, the budget BUDGET and TRIALS trials. With S students for
each of G agents there are S^G teams; what is trained are students, and each is played at most G times a rung.
The teacher of 8 agents is a short MAPPO training and no good one: what a search costs does not hang on it, nor does
whether losses add up. That is the rank correlation of the teams that were played with the sum of their students'
losses, and the root mean square error of the sum. Teams of 16 are in `samplers.py` and `proposals.py`, made up.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from variant import write_variant

from kdnas.study.prediction import prediction_error
from kdnas.study.run_folder import trials_of
from kdnas.study.schooling import alone_name
from kdnas.study.search import search
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import make_bank, record_demonstrations, see_demonstrations
from kdnas.study.teacher import train_teacher
from kdnas.study.watch import Progress

AGENTS = (3, 8)
BUDGET = ("flops<1%",)
TRIALS = 60
TEACHER_STEPS = 600_000
RESULT = Path(__file__).parent / "results" / "groups.json"


class Told:
    """A watch that prints what is said, and keeps the last progress."""

    last: Progress | None = None

    def __init__(self) -> None:
        self.messages: list[str] = []

    def preflight(self, report: object) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Print it."""
        self.messages.append(text)
        print(f"  {text}", flush=True)

    def progress(self, progress: Progress) -> None:
        """Keep it."""
        self.last = progress


def main() -> None:
    """Search with each number of agents, print a line for each, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, help="folder of the teacher of 8 agents")
    given = parser.parse_args().teacher
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for agents in AGENTS:
            study = write_study(agents, Path(folder), given or Path(folder) / "teacher")
            rows.append(run(agents, study, Path(folder) / f"run{agents}"))
            print(json.dumps(rows[-1]), flush=True)
    setting = {"budget": BUDGET, "trials": TRIALS, "teacher_steps": TEACHER_STEPS, "cpu_count": os.cpu_count()}
    RESULT.write_text(json.dumps(setting | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


def write_study(agents: int, folder: Path, teacher: Path) -> Path:
    """`spread` with so many agents; the teacher of more than three is trained if it is not there."""
    changes: dict[str, Any] = {"env": {"kwargs": {"N": agents, "max_cycles": 25}}}
    if agents > 3:
        training = {"seed": 0, "cycles": 1, "steps_per_cycle": TEACHER_STEPS}
        changes["teacher"] = {"checkpoint": str(teacher.resolve()), "train": training}
    path = write_variant(changes, folder / f"spread{agents}")
    if agents > 3 and not (teacher / "teacher.json").exists():
        train_teacher(path, out=None, seed=None, steps=None, force=False, report=lambda each: print(each, flush=True))
    return path


def run(agents: int, study: Path, out: Path) -> dict[str, Any]:
    """One search, and what it took."""
    watch, began = Told(), time.monotonic()
    front = search(study, budget=BUDGET, trials=TRIALS, out=out, watch=watch)
    seconds = time.monotonic() - began
    setup = open_study(read_study(out / "study.toml"))
    setup = see_demonstrations(setup, record_demonstrations(setup, out))
    predicted, played = teams_of(out)
    (asking,) = [text for text in watch.messages if text.startswith("asking and storing")]
    students = {group: len(choices.parameters) for group, choices in setup.space.groups.items()}
    return {
        "agents": agents,
        "groups": len(students),
        "students_a_group": max(students.values()),
        "teams": float(np.prod([float(count) for count in students.values()])),
        "trials": TRIALS,
        "trainings": watch.last.trainings if watch.last is not None else 0,
        **bank_of(setup, out),
        "seconds": round(seconds, 1),
        "asking_and_storing": asking,
        "best_retention": round(front.best().score.retention.mean, 4),
        "teams_played": len(played),
        "rank_correlation": round(rank_correlation(predicted, played), 4),
        "error_of_the_sum": round(prediction_error(predicted, played), 4),
    }


def bank_of(setup: Setup, run_path: Path) -> dict[str, int]:
    """Students in the bank that are complete, and plays among teachers, those of lower rungs too."""
    bank, complete, plays = make_bank(setup, run_path), 0, 0
    for pool in {pool.name: pool for pool in setup.pools.values()}.values():
        for stage in bank.stages(pool):
            complete += stage == bank.last(stage.spec) and not stage.is_ancestor
            names = (alone_name(bank, pool, group, stage) for group in pool.groups)
            plays += sum((run_path / "returns" / f"{name}.npy").exists() for name in names)
    return {"complete_students": complete, "plays_among_teachers": plays}


def teams_of(run_path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted and played retention of each team that was told, once each."""
    told = {
        str(trial.user_attrs["candidate"]): (trial.user_attrs["predicted"], trial.values[0])
        for trial in trials_of(run_path)
        if trial.values
    }
    predicted, played = np.array(list(told.values())).T
    return predicted, played


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's, without ties."""
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


if __name__ == "__main__":
    main()
