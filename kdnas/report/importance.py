"""Which parameters decide the retention, as tables."""

from kdnas.report.tables import Table
from kdnas.study.importance import ENOUGH, Importance, Parameter


def importance_tables(importance: Importance) -> dict[str, Table]:
    """Group -> one row a parameter: its share of the importance, how often chance makes as much of it, and the mean
    retention of the candidates with each of its choices and how many they are."""
    header = ("parameter", "importance", "by chance", "mean retention of a choice (candidates)")
    return {
        group: Table(header=header, rows=tuple(_row(parameter) for parameter in parameters))
        for group, parameters in importance.groups.items()
    }


def describe_lack(importance: Importance) -> str:
    """Why there is no table."""
    return (
        f"what decides the retention cannot be told from {importance.candidates} different candidates that were "
        f"played: it takes {ENOUGH}; go on with a larger --trials"
    )


def _row(parameter: Parameter) -> tuple[str, ...]:
    choices = ", ".join(f"{one.label}: {one.retention:.3f} ({one.candidates})" for one in parameter.choices)
    return parameter.label, f"{100 * parameter.share:.0f} %", f"{100 * parameter.chance:.3g} %", choices
