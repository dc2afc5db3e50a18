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
from pathlib import Path

from kdnas.report.tables import Table, front_table
from kdnas.study.front import Member

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKED = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)


def headline() -> str:
    """The front of the headline search, as the command prints it."""
    front = json.loads((ROOT / "benchmarks/results/headline.json").read_text(encoding="utf-8"))["front"]
    return front_table([Member.from_json(member) for member in front]).markdown()


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


def distill(variants: Sequence[str], kind: str) -> str:
    """Retention of the inner loop's variants, a column an environment and student."""
    rows = json.loads((ROOT / "benchmarks/results/distill.json").read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if row["seeds"] == kind]
    rows = [row for row in rows if row["variant"] in variants]
    columns = list(dict.fromkeys((row["env"], row["student"], row["bits"]) for row in rows))
    lines = []
    for variant in variants:
        cells = []
        for column in columns:
            key = (variant, *column)
            own = [row for row in rows if (row["variant"], row["env"], row["student"], row["bits"]) == key]
            cells.append(_spread([row["retention"] for row in own], [row["seconds"] for row in own]))
        if any(cells):
            lines.append((variant, *cells))
    header = ("variant", *(f"{env}, {student} {bits}" for env, student, bits in columns))
    return Table(header=header, rows=tuple(lines)).markdown()


def _spread(retentions: Sequence[float], seconds: Sequence[float]) -> str:
    """Mean, 95 % interval by Student's t, number of runs and their mean time."""
    if not retentions:
        return ""
    mean, count = statistics.mean(retentions), len(retentions)
    if count == 1:
        return f"{mean:.3f} (1 run)"
    # 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
    quantile = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)[min(count, 10) - 2]
    half = quantile * statistics.stdev(retentions) / count**0.5
    return f"{mean:.3f} ± {half:.3f} ({count} runs, {statistics.mean(seconds):.0f} s)"


TERMS = (
    "behaviour cloning", "KL", "KL + cross-entropy", "KL + relation", "KL + role", "KL + advantages", "KL + thresholds",
    "all",
)  # fmt: skip
WAYS = (
    "KL", "KL, without DAgger", "KL, from scratch", "KL, from scratch, without DAgger", "KL, early stopping",
    "KL + polish", "KL, as long as with polish", "MAPPO alone",
)  # fmt: skip
HEADLINE = ("one recovery of 60 s",)

TABLES: dict[str, Callable[[], str]] = {
    "headline": headline,
    "gate": gate,
    "training_step": training_step,
    "distill-terms": lambda: distill(TERMS, "validation"),
    "distill-ways": lambda: distill(WAYS, "validation"),
    "distill-headline": lambda: distill(HEADLINE, "final"),
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
