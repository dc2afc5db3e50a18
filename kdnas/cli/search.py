"""`kdnas search`."""

from pathlib import Path
from typing import Annotated

import typer

from kdnas.cli.front import BestOption, print_limits
from kdnas.cli.render import EXIT_INTERRUPTED, command, err, out, print_table, this_command

StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="[STUDY]",
        help="A shipped study (spread, spread_tiny, spread_blind, spread_continuous, "
        "speaker_listener) or a path.",
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        "-b",
        metavar="LIMIT",
        help="A hard limit, [SCOPE.]METRIC<NUMBER[UNIT]; repeat it or separate by commas. Takes the place of the "
        "study's. Metrics: latency macs flops bops params memory, and on microcontrollers flash ram. Scopes: none "
        "(each agent), team (sum), a group. A % is of the teacher's. "
        'For example "latency<2ms", "team.memory<=12KiB", "flops<5%".',
    ),
]

TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="Where the students will run: onnx, c, cortex-m0plus, cortex-m4, cortex-m7 (@CLOCK), remote, ...; "
        "'kdnas target list' says what is usable here. Keeps the study's kwargs where it names the same target. For "
        "example cortex-m4@168MHz. [default: the study's]",
    ),
]


@command
def search(
    study: StudyArgument = "spread",
    budget: BudgetOption = None,
    target: TargetOption = None,
    device_profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="device.json of an earlier run on this device, which is not measured again."),
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="An earlier run on the same teacher, with the same recipe and seed: its students and measurements are "
            "taken over, and its front is tried first.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Candidates in total; a run goes on to this number. [default: the study's]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that train and play. [default: one for each core]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Replaces the study's seed.")] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who asks for new candidates: auto, multivariate-tpe, tpe, nsga2 or random. [default: the study's]",
        ),
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Run folder; the same one goes on. [default: runs/STUDY]")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Optuna storage, e.g. postgresql://... [default: SQLite in the run]"),
    ] = None,
    best: BestOption = None,
) -> None:
    """Search student teams of a study's teacher that meet a budget.

    Prints the Pareto front and which limits bind it, and writes a folder for each of its teams: weights, ONNX and a
    card.
    """
    from kdnas.cli.progress import Screen
    from kdnas.report.choice import describe_choice
    from kdnas.report.hindsight import describe_hindsight
    from kdnas.report.tables import front_table
    from kdnas.study.search import search as run_search
    from kdnas.study.selector import parse_selector

    parse_selector(best or "")  # one that cannot be read ends here, and not after the search
    with Screen() as screen:
        try:
            front = run_search(
                study,
                budget=budget,
                target=target,
                device_profile=device_profile,
                warm_start=warm_start,
                trials=trials,
                workers=workers,
                seed=seed,
                sampler=sampler,
                out=out_folder,
                storage=storage,
                watch=screen,
            )
        except KeyboardInterrupt as error:
            err.print(f"interrupted; everything finished is kept. To go on:\n  {this_command()}")
            raise typer.Exit(EXIT_INTERRUPTED) from error
    print_table(front_table(front))
    print_limits(front)
    if said := describe_hindsight(front):
        out.print(said)
    if best is not None:
        out.print(describe_choice(front, best))
    out.print(f'students: {front.folder}/students   take one: kdnas export {front.folder} --best "{best or "knee"}"')
