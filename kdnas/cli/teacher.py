"""`kdnas teacher train` and `kdnas teacher evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from kdnas.cli.render import command, err, out, print_table
from kdnas.cli.search import StudyArgument

app = typer.Typer(no_args_is_help=True, help="Train the teacher of a study by MAPPO, or play it.")


@app.command()
@command
def train(
    study: StudyArgument,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Teacher folder to write. [default: the study's checkpoint]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Replaces the study's training seed.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Environment steps of each cycle. [default: the study's]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a teacher that is there.")] = False,
) -> None:
    """Train the teacher that a study names, as its [teacher.train] says: MAPPO with a centralised critic.

    Writes teacher.safetensors, teacher.json and learning_curve.csv.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from kdnas.study.teacher import train_teacher

    with Progress(
        TextColumn("teacher"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps  return {task.fields[returned]:.3f}"),
        TimeRemainingColumn(),
        console=err,
    ) as bar:
        task = bar.add_task("teacher", total=0, returned=float("nan"))
        folder = train_teacher(
            study,
            out=out_folder,
            seed=seed,
            steps=steps,
            force=force,
            report=lambda at: bar.update(
                task, completed=at.env_steps, total=at.total_env_steps, returned=at.mean_return
            ),
        )
    out.print(str(folder))


@app.command("evaluate")
@command
def evaluate_teacher(
    study: StudyArgument,
    episodes: Annotated[int, typer.Option(min=2)] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Episodes derive from it.")] = 1,
) -> None:
    """Play a study's teacher in the real environment, greedily, beside random play."""
    from kdnas.report.tables import Table
    from kdnas.study.teacher import evaluate_teacher as run_evaluate

    intervals = run_evaluate(study, episodes=episodes, seed=seed)
    rows = [
        (name, f"{each.mean:.3f}", f"{each.low:.3f} to {each.high:.3f}", str(each.episodes))
        for name, each in intervals.items()
    ]
    print_table(Table(header=("policy", "return per agent", "95 % interval", "episodes"), rows=tuple(rows)))
