"""Every table in the documents that comes from a result must be the one that the result gives.

python benchmarks/check_docs.py           fails, naming the file and the table, when one differs
python benchmarks/check_docs.py --write   writes the tables into the documents

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from kdnas.report.tables import Table, front_table
from kdnas.study.front import Member, make_front

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKED = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)


def search_front(case: str) -> str:
    """The front of a search of `headline.py`, as the command prints it."""
    front = json.loads((ROOT / f"benchmarks/results/{case}.json").read_text(encoding="utf-8"))["front"]
    return front_table([Member.from_json(member) for member in front]).markdown()


def choosing() -> str:
    """What selectors mean on the front of the README."""
    front = json.loads((ROOT / "benchmarks/results/headline.json").read_text(encoding="utf-8"))["front"]
    members = make_front([Member.from_json(member) for member in front], final=True)
    lines = []
    for selector in SELECTORS:
        trial, retention, _, flops, _, memory, *_ = front_table([members.best(selector)]).rows[0]
        lines.append((f"`{selector}`", trial, retention, flops, memory))
    return Table(header=("selector", "trial", "retention", "FLOPs", "memory"), rows=tuple(lines)).markdown()


def gate() -> str:
    """Candidates priced and refused a second."""
    rate = json.loads((ROOT / "benchmarks/results/gate.json").read_text(encoding="utf-8"))
    numbers = rate["candidates_per_s"]
    row = tuple(f"{numbers[key]:,.0f}" for key in ("median", "lowest", "highest"))
    return Table(header=("candidates a second, median", "lowest", "highest"), rows=(row,)).markdown()


def training_step() -> str:
    """What steps of training cost."""
    steps = json.loads((ROOT / "benchmarks/results/training_step.json").read_text(encoding="utf-8"))["steps"]
    ways = tuple(steps[0]["ratios"])
    rows = tuple((step["shape"], *(f"{step['ratios'][way]:.1f}" for way in ways)) for step in steps)
    return Table(header=("network", *ways), rows=rows).markdown()


def latency() -> str:
    """Microseconds a decision, in every way that was timed."""
    rows = json.loads((ROOT / "benchmarks/results/latency.json").read_text(encoding="utf-8"))["rows"]
    ways = ("torch", "TorchScript", "onnxruntime", "NumPy", "C from Python", "C alone", "tuned", "BLAS")
    lines = []
    for row in rows:
        own = row["ways"]
        to_float = row.get("c_to_float", {})
        times = (f"{1e6 * own[way]['p50_s']:,.2f}" if way in own else "" for way in ways)
        ratio = f"{to_float['median']:.2f} ({to_float['low']:.2f} to {to_float['high']:.2f})" if to_float else ""
        lines.append((row["network"], *times, ratio))
    return Table(header=("network", *ways, "C to float, chunk by chunk"), rows=tuple(lines)).markdown()


def search_efficiency() -> str:
    """When a search had what plain Optuna ended with."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from search_efficiency import read_rows, summary

    return summary(read_rows()) + "\n"


def long_search() -> str:
    """What a search of 300 candidates takes and finds."""
    row = json.loads((ROOT / "benchmarks/results/long_search.json").read_text(encoding="utf-8"))
    header = ("until the last trial", "to the end", "peak memory of all processes", "teams",
              "hypervolume, final episodes", "best retention", "workers busy", "asking and storing")  # fmt: skip
    line = (
        *(f"{row[name] // 60:.0f} min {row[name] % 60:.0f} s" for name in ("seconds_of_trials", "seconds")),
        f"{row['peak_pss_gib']:.2f} GiB",
        str(row["teams"]),
        f"{row['final_hypervolume']:.2f}",
        f"{row['best_retention']:.3f}",
        f"{row['workers_busy_percent']:.0f} %",
        f"{row['asking_and_storing_percent']:.1f} %",
    )
    return Table(header=header, rows=(line,)).markdown()


def groups() -> str:
    """What searches cost as teams grow, and how far losses of students add up."""
    rows = json.loads((ROOT / "benchmarks/results/groups.json").read_text(encoding="utf-8"))["rows"]
    lines = []
    for row in rows:
        exponent = len(f"{row['teams']:.0f}") - 1
        lines.append((
            str(row["agents"]), str(row["students_a_group"]), f"{row['teams'] / 10**exponent:.1f}e{exponent}",
            str(row["complete_students"]), str(row["plays_among_teachers"]), str(row["teams_played"]),
            f"{row['seconds'] / 60:.0f} min", f"{row['rank_correlation']:.3f}", f"{row['error_of_the_sum']:.4f}",
        ))  # fmt: skip
    header = ("agents", "students for each", "teams there are", "students trained to the end", "plays among teachers",
              "teams played", "time", "rank correlation", "error of the sum")  # fmt: skip
    return Table(header=header, rows=tuple(lines)).markdown()


def scaling() -> str:
    """What a second worker is worth."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from scaling import RESULTS, summary

    return summary(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]) + "\n"


def samplers() -> str:
    """What each sampler finds in three groups, beside proposals and alone, and what it finds and takes in sixteen."""
    result = json.loads((ROOT / "benchmarks/results/samplers.json").read_text(encoding="utf-8"))
    three, lines = result["three_agents"], []
    for name, many in result["sixteen_agents"].items():
        own = [(three.get(name), "100"), (three.get(name), "300"), (three.get(f"{name} alone"), "300")]
        found = ["" if runs is None else f"{statistics.mean(runs[trials]):.2f}" for runs, trials in own]
        taken = statistics.mean(many[key] for key in many if key.startswith("ms_to_"))
        lines.append((name, *found, f"{many['hypervolume']:.2f}", f"{taken:.0f} ms", f"{many['share']:.1%}"))
    header = ("sampler", "3 groups, 100 trials", "300 trials", "300 without proposals", "16 groups, 500 trials",
              "asking and storing, a trial", "share of the search")  # fmt: skip
    return Table(header=header, rows=tuple(lines)).markdown()


@dataclass(frozen=True, kw_only=True)
class Column:
    """Rows of the inner loop's benchmark that are compared with each other."""

    env: str
    student: str
    bits: str = "float"
    seeds: str = "validation"

    def runs(self, variant: str) -> dict[int, dict[str, Any]]:
        """Seed -> row."""
        want = (self.env, self.student, self.bits, self.seeds, variant)
        keys = ("env", "student", "bits", "seeds", "variant")
        return {row["seed"]: row for row in _distilled() if tuple(row[key] for key in keys) == want}


def distill(variants: Sequence[str], columns: Sequence[Column], *, to: str | None = None) -> str:
    """Retention of the inner loop's variants, and how much more it is than that of another one, seed by seed."""
    lines = []
    for variant in variants:
        cells = []
        for column in columns:
            runs = column.runs(variant)
            cells.append(mean_within([row["retention"] for row in runs.values()]))
            if to is not None:
                base = column.runs(to)
                more = [row["retention"] - base[seed]["retention"] for seed, row in runs.items() if seed in base]
                cells.append("" if variant == to else mean_within(more, sign="+"))
            cells.append(f"{statistics.mean(row['seconds'] for row in runs.values()):.0f} s" if runs else "")
        if any(cells):
            lines.append((variant, *cells))
    header = ["variant"]
    for column in columns:
        header += [f"{column.env}, {column.student} {column.bits}", *([f"more than {to}"] if to else []), "core time"]
    return Table(header=tuple(header), rows=tuple(lines)).markdown()


@cache
def _distilled() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((ROOT / "benchmarks/results/distill.json").read_text("utf-8"))["rows"]
    return rows


def recurrence() -> str:
    """With and without memory: retention by imitation alone, and after polish."""
    rows = json.loads((ROOT / "benchmarks/results/recurrence.json").read_text(encoding="utf-8"))["rows"]
    lines = []
    for student in dict.fromkeys(row["student"] for row in rows):
        own = [row for row in rows if row["student"] == student]
        cells = []
        for polished in (False, True):
            runs = [row for row in own if row["polished"] == polished]
            cells.append(mean_within([row["final"] for row in runs]))
            cells.append(f"{statistics.mean(row['seconds'] for row in runs):.0f} s" if runs else "")
        lines.append((student, f"{own[0]['macs']:,}", f"{own[0]['steps']:,}", *cells))
    header = ("student", "MACs", "steps", "imitation", "core time", "imitation and polish", "core time")
    return Table(header=header, rows=tuple(lines)).markdown()


def refine() -> str:
    """What the end of a search adds to some teams: on validation, by which stages are kept, and on final episodes."""
    rows = json.loads((ROOT / "benchmarks/results/refine.json").read_text(encoding="utf-8"))["rows"]

    def within(interval: dict[str, float], sign: str = "") -> str:
        return f"{interval['mean']:{sign}.3f} ± {(interval['high'] - interval['low']) / 2:.3f}"

    header = ["students", "episodes", "before"]
    for stages in zip(*(row["stages"] for row in rows), strict=True):
        header.append(f"{stages[0]['name']}, {statistics.mean(stage['seconds'] for stage in stages):.0f} s")
    lines = []
    for row in rows:
        for seeds in ("validation", "final"):
            cells = [
                f"{within(stage[seeds], '+')}{'' if stage['kept'] else ', refused'}" for stage in row["stages"]
            ]
            lines.append((row["students"], seeds, within(row[seeds]), *cells, within(row["refined"][seeds])))
    return Table(header=(*header, "afterwards"), rows=tuple(lines)).markdown()


def mean_within(values: Sequence[float], *, sign: str = "") -> str:
    """Mean and 95 % interval by Student's t."""
    if not values:
        return ""
    mean, count = statistics.mean(values), len(values)
    if count == 1:
        return f"{mean:{sign}.3f} (1 seed)"
    # 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
    quantile = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)[min(count, 10) - 2]
    half = quantile * statistics.stdev(values) / count**0.5
    return f"{mean:{sign}.3f} ± {half:.3f}" + ("" if count == 5 else f" ({count} seeds)")


TERMS = (
    "behaviour cloning", "KL", "KL + cross-entropy", "KL + relation", "KL + role", "KL + advantages", "KL + thresholds",
    "all",
)  # fmt: skip
WAYS = (
    "KL", "KL, ReLU", "KL, without DAgger", "KL, from scratch", "KL, from scratch, without DAgger",
    "KL, ReLU, from scratch", "KL, early stopping", "KL + polish", "KL, as long as with polish", "KL, 100,000 steps",
    "MAPPO alone",
)  # fmt: skip
NEWTON = ("KL", "KL + Gauss-Newton", "KL, as long as with Gauss-Newton", "KL + polish")
SPREAD = "simple_spread"
BOTH = [Column(env=env, student="16x16") for env in (SPREAD, "simple_speaker_listener")]

SELECTORS = (
    "max retention", "one-se", "retention>=95%, min flops", "team.memory<=2KiB", "knee", "knee memory", "min flops",
)  # fmt: skip

TABLES: dict[str, Callable[[], str]] = {
    "headline": lambda: search_front("headline"),
    "microcontroller": lambda: search_front("microcontroller"),
    "choosing": choosing,
    "gate": gate,
    "training_step": training_step,
    "latency": latency,
    "distill-terms": lambda: distill(TERMS, BOTH, to="KL"),
    "distill-ways": lambda: distill(WAYS, BOTH, to="KL"),
    "distill-second-order": lambda: distill(NEWTON, [Column(env=SPREAD, student="12x12")], to="KL"),
    "distill-bits": lambda: distill(["KL"], [*BOTH, *(replace(each, bits="w4a8") for each in BOTH)]),
    "distill-quantized": lambda: distill(
        [f"{steps} quantized steps{relu}" for relu in ("", ", ReLU") for steps in ("2,500", "10,000")],
        [Column(env=SPREAD, student="12x12", bits=bits) for bits in ("w8a8", "w4a8")],
    ),
    "distill-headline": lambda: distill(
        ["one recovery of 60 s"],
        [
            Column(env=SPREAD, student=student, bits=bits, seeds="final")
            for student, bits in (("24x24", "float"), ("24x24", "w4a8"), ("16x16", "float"))
        ],
    ),
    "recurrence": recurrence,
    "long-search": long_search,
    "groups": groups,
    "samplers": samplers,
    "scaling": scaling,
    "search-efficiency": search_efficiency,
    "refine": refine,
}


def filled(text: str) -> str:
    """A document with its tables as the results give them."""
    return MARKED.sub(lambda match: match[1] + TABLES[match["name"]]() + match[4], text)


def write_tables() -> None:
    """Write every table into its document."""
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    """Compare, or write."""
    if "--write" in sys.argv[1:]:
        write_tables()
    stale = [path for path in DOCUMENTS if path.read_text(encoding="utf-8") != filled(path.read_text(encoding="utf-8"))]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: a table is not the one in benchmarks/results; "
              "write it with: python benchmarks/check_docs.py --write")  # fmt: skip
    found = sum(len(MARKED.findall(path.read_text(encoding="utf-8"))) for path in DOCUMENTS)
    print(f"{found} tables compared in {len(DOCUMENTS)} documents")
    return 1 if stale or not found else 0


if __name__ == "__main__":
    sys.exit(main())
