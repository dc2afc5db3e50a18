"""Whole searches of `spread`: the README's table, as `make search` makes it, and one for a microcontroller.

    python benchmarks/headline.py                            searches (5 to 30 minutes), writes results and table
    python benchmarks/headline.py --run runs/spread          takes a search that has ended
    python benchmarks/headline.py --case microcontroller     the same for flash, RAM and time of a Cortex-M4

Every figure is a mean over the study's 500 final episodes of the real mpe2, on seeds that nothing was chosen on.
"""

import argparse
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import kdnas
from kdnas.cli.progress import Screen
from kdnas.profiling.machine import cpu_model
from kdnas.report.tables import front_table
from kdnas.study.front import read_front

sys.path.insert(0, str(Path(__file__).parent))
from check_docs import ROOT, write_tables

CASES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "headline": (None, ("latency<2ms",)),
    "microcontroller": ("cortex-m4@64MHz", ("latency<2ms", "flash<8KiB", "ram<1KiB")),
}
"""Name of the results -> target and budget."""

PUBLISHED_REDUCTION = 28.6
"""KD-MARL, arXiv 2604.06691: more than 90 % of expert performance at up to so many times fewer FLOPs."""


def main() -> None:
    """Search, or take a finished run, and write results and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run, instead of searching")
    parser.add_argument("--case", choices=list(CASES), default="headline")
    parser.add_argument("--seconds", type=float, help="how long the finished run took")
    arguments = parser.parse_args()
    target, budget = CASES[arguments.case]
    seconds = arguments.seconds
    if arguments.run is None:
        out = Path("runs") / arguments.case
        if out.exists():
            sys.exit(f"{out} is there: take it with --run {out} --seconds ..., or remove it to search anew")
        started = time.monotonic()
        with Screen() as screen:
            front = kdnas.search("spread", target=target, budget=budget, out=out, watch=screen)
        seconds = time.monotonic() - started
    else:
        front = read_front(arguments.run / "front.json")
    small = [member for member in front if member.flops_reduction >= PUBLISHED_REDUCTION]
    smaller = [member for member in front if member.flops_reduction >= 60]
    members = front.as_json()
    for member in members:
        member["path"] = Path(member["path"]).name
    results = {
        "command": f"kdnas search spread{f' --target {target}' if target else ''}"
        + "".join(f' --budget "{limit}"' for limit in budget),
        "published": {"source": "arXiv 2604.06691", "retention": 0.90, "flops_reduction": PUBLISHED_REDUCTION},
        "best_retention_at_28.6x": max((member.score.retention.mean for member in small), default=None),
        "best_retention_at_60x": max((member.score.retention.mean for member in smaller), default=None),
        "seconds": seconds,
        "machine": {"cpu": cpu_model(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("kdnas", "torch", "optuna", "brevitas", "onnxruntime", "mpe2")},
        "front": members,
    }
    path = ROOT / f"benchmarks/results/{arguments.case}.json"
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    write_tables()
    print(front_table(front).markdown())
    print({key: results[key] for key in ("best_retention_at_28.6x", "best_retention_at_60x", "seconds")})


if __name__ == "__main__":
    main()
