"""Inject faults into real searches, and say of each what held.

    python tests/faults/suite.py             all of them, at many random moments
    python tests/faults/suite.py --quick     one of each kind
    python tests/faults/suite.py "kill all"  those whose names hold a text

Exits with 1 if something did not hold.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from faults import FAULTS, QUICK
from stage import CannotError, Stage, TooLateError
from verdict import Verdict

DRAWS = 5
"""Moments that are tried before a search is there to be disturbed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only faults whose names hold one of these")
    parser.add_argument("--quick", action="store_true", help="each kind once")
    parser.add_argument("--times", type=int, help="how often each is injected, instead of its own number")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time")
    options = parser.parse_args()
    names = [name for name in (QUICK if options.quick else FAULTS) if
             not options.names or any(part in name for part in options.names)]  # fmt: skip
    signal.signal(signal.SIGINT, signal.default_int_handler)  # searches inherit it: a shell's `&` has it ignored
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kdnas-faults-") as root:
        stage = Stage(root=Path(root), options={"trials": 5, "workers": 1} if options.quick else {})
        stage.rehearse()
        first, last = stage.workers_s
        print(f"undisturbed: {stage.seconds:.1f} s, with workers from {first:.1f} to {last:.1f} s", flush=True)
        rows = [
            (name, turn)
            for name in names
            for turn in range(options.times or (1 if options.quick else FAULTS[name][0]))
        ]
        with ThreadPoolExecutor(options.jobs) as pool:
            verdicts = list(pool.map(lambda row: inject(stage, options.seed, *row), rows))
    broken = [verdict for verdict in verdicts if verdict.broken]
    seconds = time.monotonic() - started
    skipped = [verdict for verdict in verdicts if verdict.skipped]
    passed = len(verdicts) - len(broken) - len(skipped)
    print(f"{passed} passed, {len(broken)} failed, {len(skipped)} skipped\n({seconds:.0f} s)", flush=True)
    return 1 if broken else 0


def inject(stage: Stage, seed: int, name: str, turn: int) -> Verdict:
    started = time.monotonic()
    for draw in range(DRAWS):
        verdict = Verdict(name)
        try:
            FAULTS[name][1](stage, random.Random(f"{seed} {name} {turn} {draw}"), verdict)
        except TooLateError:
            verdict.check("something was injected", False)
            continue
        except CannotError as error:
            verdict.injected, verdict.skipped = f"skipped: {error}", True
        except Exception as error:
            verdict.check("the suite itself", False, repr(error))
        break
    print(f"{verdict.line}   ({time.monotonic() - started:.0f} s)", flush=True)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
