"""A long search as a user makes it: 300 candidates of `spread` on two cores. How long, how much memory, how good.

    python benchmarks/long_search.py             half an hour; writes results/long_search.json

`kdnas search` runs as a process of its own, to the end: refined, scored on the final episodes, measured, exported. Its
memory and that of all its processes is looked at each second: `pss` shares the pages that several of them map among
them (smaps_rollup), `rss` counts them once for each. `hypervolume` is that of the completed trials, as the progress
line prints it; `final_hypervolume` that of the front on its final episodes. `seconds_of_trials` end when the last trial
was told: then the front is refined, scored, measured and exported.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from pace import tree

from kdnas.budgets.cost import TeamCost
from kdnas.study.device_profile import fresh_profile
from kdnas.study.front import hypervolume, read_front
from kdnas.study.search import make_gate
from kdnas.study.setup import open_study, read_study

RESULT = Path(__file__).parent / "results" / "long_search.json"
OPTIONS = ["--budget", "latency<2ms", "--budget", "flops<1%", "--workers", "2"]
COMMAND = "from kdnas.cli.app import main; main()"


def main() -> None:
    """Search, watch, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "run", Path(folder) / "log"
        options = ["search", "spread", *OPTIONS, "--trials", str(trials), "--out", str(out)]
        began, peak = time.monotonic(), {"rss": 0, "pss": 0}
        with log.open("w") as said:
            process = subprocess.Popen([sys.executable, "-c", COMMAND, *options], stdout=said, stderr=said)
            while process.poll() is None:
                time.sleep(1.0)
                used = memory_bytes(process.pid)
                peak = {name: max(peak[name], used[name]) for name in peak}
        seconds, text = time.monotonic() - began, log.read_text()
        print(text)
        if process.returncode:
            sys.exit(f"the search ended with exit code {process.returncode}")
        front = read_front(out / "front.json")
        teacher = teacher_cost()
        points = [member.objectives for member in front]
        row = {
            "command": "kdnas " + " ".join(f'"{word}"' if "<" in word else word for word in options[:-2]),
            "seconds": round(seconds, 1),
            "seconds_of_trials": seconds_of_trials(text),
            "teams": len(front),
            "hypervolume": float(re.findall(r"hypervolume ([0-9.]+)", text)[-1]),
            "final_hypervolume": round(hypervolume(points, teacher), 3),
            "best_retention": round(front.best().score.retention.mean, 4),
            "peak_pss_gib": round(peak["pss"] / 2**30, 2),
            "peak_rss_gib": round(peak["rss"] / 2**30, 2),
            "asking_and_storing_percent": float(re.findall(r"asking and storing took ([0-9.]+) %", text)[-1]),
            "workers_busy_percent": float(re.findall(r"workers were busy ([0-9.]+) %", text)[-1]),
            "cpu_count": os.cpu_count(),
        }
    RESULT.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(row, indent=2))


def seconds_of_trials(text: str) -> int:
    """From the first message to the one that the trials have ended, by the clock in the log."""
    seconds = []
    for sign in ("playing", "asking and storing"):
        found = re.search(rf"^([0-9]+):([0-9]+):([0-9]+) {sign}", text, re.MULTILINE)
        assert found is not None, f"no line of the log begins with {sign!r}"
        hours, minutes, rest = map(int, found.groups())
        seconds.append(3600 * hours + 60 * minutes + rest)
    begun, ended = seconds
    return (ended - begun) % 86_400


def memory_bytes(root: int) -> dict[str, int]:
    """Of a process and all that it has begun."""
    found = {"rss": 0, "pss": 0}
    for process in tree(root):
        with suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            sizes = {line.split(":")[0].lower(): int(line.split()[1]) * 1024 for line in lines[1:]}
            found = {name: found[name] + sizes[name] for name in found}
    return found


def teacher_cost() -> TeamCost:
    """Of `spread`, which is the reference point."""
    setup = open_study(read_study("spread"))
    target = setup.make_target()
    return make_gate(setup, target, fresh_profile(target)).pricer.teacher_cost(measure=False)


if __name__ == "__main__":
    main()
