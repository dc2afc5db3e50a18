"""Finished runs as tables of text, for the terminal and for Markdown pages alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdnas.budgets.metric import METRICS
from kdnas.spaces.spec import StudentSpec
from kdnas.study.front import Member, ParetoFront
from kdnas.study.preflight import Preflight
from kdnas.study.targets import TargetStatus
from kdnas.units import format_quantity


@dataclass(frozen=True, kw_only=True)
class Table:
    """A header and rows of the same length."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def front_table(front: ParetoFront | Sequence[Member]) -> Table:
    """One row a member: retention with its interval, team costs and how many times fewer, latency, flash and RAM of
    the worst agent, and the students. Records that were made without the 99th percentile do not show it."""
    sizes = [metric for metric in (METRICS["flash"], METRICS["ram"]) if any(metric.read(m.cost.team) for m in front)]
    tails = ["latency p99"] * any(m.cost.team.latency_p99_s for m in front)
    costs = ("FLOPs", "fewer", "memory", "fewer", "latency p95", *tails, *(metric.name for metric in sizes))
    return Table(
        header=("trial", "retention", "95 % interval", *costs, "students"),
        rows=tuple(
            (
                str(member.trial),
                f"{member.score.retention.mean:.3f}",
                f"{member.score.retention.low:.3f} to {member.score.retention.high:.3f}",
                f"{member.cost.team.flops:,}",
                f"{member.flops_reduction:.1f}x",
                format_quantity(member.cost.team.memory_bytes, "memory"),
                f"{member.memory_reduction:.1f}x",
                format_quantity(member.cost.worst_agent.latency_p95_s, "time"),
                *(format_quantity(member.cost.worst_agent.latency_p99_s, "time") for _ in tails),
                *(metric.format(metric.read(member.cost.worst_agent)) for metric in sizes),
                describe(member.candidate),
            )
            for member in front
        ),
    )


def describe(candidate: Mapping[str, StudentSpec]) -> str:
    """The students of a team in a few words: groups with equal specs are named together."""
    owners: dict[str, list[str]] = {}
    for group, spec in candidate.items():
        owners.setdefault(str(spec), []).append(group)
    if len(owners) == 1 and len(candidate) > 1:
        return f"all {next(iter(owners))}"
    return ", ".join(f"{'+'.join(groups)} {text}" for text, groups in owners.items())


def targets_table(targets: Sequence[TargetStatus]) -> Table:
    """One row a target: what it measures, whether it can be used, and what its figures are."""
    rows = [
        (target.name, " ".join(target.metrics) or "-", "no" if target.lacking else "yes", target.lacking or target.note)
        for target in targets
    ]
    return Table(header=("target", "measures", "usable", ""), rows=tuple(rows))


def preflight_table(report: Preflight) -> Table:
    """Smallest, median and largest candidate and the teacher: worst agent's price, and each limit's verdict.

    A value that breaks a limit is shown as a multiple of it.
    """
    metrics = [
        metric
        for metric in METRICS.values()
        if not metric.measured or any(metric.read(team.cost.worst_agent) for team in report.teams)
    ]
    rows = []
    for team in report.teams:
        worst = team.cost.worst_agent
        verdicts = [report.violation(item, team) for item in report.constraints]
        rows.append(
            (
                team.name,
                *(metric.format(metric.read(worst)) for metric in metrics),
                *("fits" if verdict <= 0 else f"{1 + verdict:.3g}x" for verdict in verdicts),
            )
        )
    limits = tuple(item.text for item in report.constraints)
    return Table(header=("worst agent of", *(metric.name for metric in metrics), *limits), rows=tuple(rows))
