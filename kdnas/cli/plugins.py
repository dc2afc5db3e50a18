"""`kdnas plugins`."""

from kdnas.cli.render import command, print_table


@command
def plugins() -> None:
    """List what is installed at each plugin point: environments, teachers, students, targets, exporters."""
    from kdnas.plugins import GROUPS, installed
    from kdnas.report.tables import Table

    rows = [
        (group, name, entry.value, entry.dist.name if entry.dist is not None else "-")
        for group in GROUPS
        for name, entry in sorted(installed(group).items())
    ]
    print_table(Table(header=("plugin point", "name", "object", "package"), rows=tuple(rows)))
