"""Taking one team out of a run."""

import shutil
from pathlib import Path

from kdnas import plugins
from kdnas.errors import RunError
from kdnas.evaluation.score import Score
from kdnas.students.bundle import load_student
from kdnas.study.deliver import deliver, export_artifact, export_team, recorded_rows, target_card, write_cards
from kdnas.study.device_profile import known_measurements
from kdnas.study.front import Member, read_front
from kdnas.study.run_folder import RunFolder, open_run, reopen_study
from kdnas.study.search import make_gate
from kdnas.study.setup import Setup, open_study
from kdnas.study.storage import read_trials
from kdnas.study.take_up import candidate_of
from kdnas.study.tasks import make_bank, record_demonstrations, see_demonstrations


def export_best(run: Path, selector: str, to: Path | None, form: str) -> Path:
    """Copy the member of a run's front that a selector means.

    Raises:
        KdnasError: no finished run, no such member, or a folder that cannot be written.
    """
    member = read_front(run / "front.json").best(selector)
    assert member.path is not None
    return _copy_out(run, member.path, member.trial, to, form)


def export_trial(run: Path, trial: int, to: Path | None, form: str) -> Path:
    """Copy the team of any trial that was played; one that is not on the front is assembled from the bank.

    Raises:
        KdnasError: no such trial, or one that was not played.
    """
    path = run / "students" / f"{trial:04d}"
    if not path.is_dir():
        setup = open_study(reopen_study(run))
        opened = open_run(run, setup, None)
        try:
            path = _assemble(setup, opened, trial)
        finally:
            opened.close()
    return _copy_out(run, path, trial, to, form)


def _assemble(setup: Setup, run: RunFolder, number: int) -> Path:
    trials = {trial.number: trial for trial in read_trials(run.storage, run.study_name)}
    if number not in trials:
        raise RunError(f"{run.path}: has no trial {number}; it has {len(trials)}, counted from 0")
    trial = trials[number]
    if trial.state.name != "COMPLETE":
        reason = trial.user_attrs.get("reason", "it was not played")
        raise RunError(f"{run.path}: trial {number} ended as {trial.state.name} ({reason}); choose a COMPLETE one")
    demonstrations = record_demonstrations(setup, run.path)
    setup = see_demonstrations(setup, demonstrations)
    target = setup.make_target()
    gate = make_gate(setup, target, known_measurements(run.path, target))
    candidate = candidate_of(setup, trial)
    member = Member(
        trial=number,
        path=None,
        candidate=candidate,
        score=Score.from_json(trial.user_attrs["score"]),
        cost=gate.pricer.team(candidate),
        teacher=gate.pricer.teacher_cost(),
    )
    recorded = recorded_rows(setup, demonstrations)
    team = make_bank(setup, run.path).team(setup.spec, setup.pools, candidate)
    export = export_team(run, number, team, recorded, target_card(target))
    path = deliver(setup, run, member, export, seeds="search").path
    assert path is not None
    return path


def _copy_out(run: Path, path: Path, trial: int, to: Path | None, form: str) -> Path:
    folder = to if to is not None else Path(f"student-{trial:04d}")
    plugins.load("kdnas.exporters", form)  # an unknown format ends here, before anything is written
    if folder.exists():
        raise RunError(f"{folder}: is there already; choose another folder with --to")
    part = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(path, part)
        team = load_student(part)
        if form not in [artifact.format for artifact in team.card.artifacts]:
            setup = open_study(reopen_study(run))
            recorded = recorded_rows(setup, record_demonstrations(setup, run))
            artifact = export_artifact(form, team.team, part, recorded)
            write_cards(part, team.card.model_copy(update={"artifacts": (*team.card.artifacts, artifact)}))
        part.replace(folder)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror or error}; choose another with --to") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
