"""`kdnas front`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdnas.cli.render import command, err, out, print_table

if TYPE_CHECKING:
    from kdnas.study.front import ParetoFront

BestOption = Annotated[
    str | None,
    typer.Option(
        "--best",
        metavar="SELECTOR",
        help="One student of the front: [CONSTRAINTS][, GOAL]. Goals: 'max METRIC' and 'min METRIC' (without one, the "
        "highest retention); 'knee', where more retention begins to cost much more FLOPs and memory ('knee METRIC': "
        "of one); 'one-se', the cheapest within one standard error of the best retention, by FLOPs or "
        "'one-se, min METRIC'. Constraints hold for each agent, team.METRIC for the sum. "
        'For example "flops<2k", "retention>=95%, min memory", "knee", "latency<1ms, one-se".',
    ),
]


@command
def front(
    run: Annotated[Path, typer.Argument(help="Run folder of a search.")],
    best: BestOption = None,
    why: Annotated[
        bool,
        typer.Option(
            "--why",
            help="Also what each student loses alone, and which parameters of the search space decided the retention.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The students alone: a list of objects, in base units.")
    ] = False,
) -> None:
    """Show the Pareto front of a finished search, and which limits of the budget bind it."""
    from kdnas.errors import ConfigError
    from kdnas.report.choice import describe_choice
    from kdnas.report.tables import front_table
    from kdnas.study.front import make_front, read_front
    from kdnas.study.run_folder import read_run

    if as_json and why:
        raise ConfigError("--json prints the students alone; leave out --why, or --json")
    read_run(run)
    members = read_front(run / "front.json")
    shown = members if best is None else make_front([members.best(best)], final=members.final, folder=members.folder)
    if as_json:
        out.print(json.dumps(shown.as_json(), indent=2), soft_wrap=True)
        return
    print_table(front_table(shown))
    if best is not None:
        out.print(describe_choice(members, best))
    else:
        print_limits(members)
    if why:
        print_losses(run, shown)
        print_importance(run)


def print_limits(front: "ParetoFront") -> None:
    """Say which limits bind a front; where the trials behind it cannot be read, say that instead."""
    from kdnas.errors import RunError
    from kdnas.report.limits import describe_limit
    from kdnas.study.limits import read_limits

    assert front.folder is not None
    try:
        limits = read_limits(front.folder, front)
    except RunError as error:
        err.print(f"which limits bind is not known: {error}")
        return
    for limit in limits:
        out.print(describe_limit(limit))


def print_losses(run: Path, front: "ParetoFront") -> None:
    """What each student of a front loses alone, on the search episodes and before refinement."""
    from kdnas.report.losses import losses_table
    from kdnas.study.losses import read_losses

    print_table(losses_table(read_losses(run, front)), title="on the search episodes, before refinement")


def print_importance(run: Path) -> None:
    """Which parameters decided the retention, as a table for each group."""
    from kdnas.report.importance import describe_lack, importance_tables
    from kdnas.study.importance import read_importance

    importance = read_importance(run)
    for group, table in importance_tables(importance).items():
        print_table(table, title=group)
    if not importance.groups:
        out.print(describe_lack(importance))
