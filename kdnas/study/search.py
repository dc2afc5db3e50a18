"""The one flow: from a study and a budget to students that are ready to deploy."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdnas.config.numbers import format_features
from kdnas.distill.bank import StudentBank
from kdnas.errors import RunError
from kdnas.evaluation.score import check_teacher_beats_random
from kdnas.profiling.pricer import Pricer
from kdnas.profiling.target import Measurement, Target
from kdnas.study.asking import Asking
from kdnas.study.deliver import recorded_rows
from kdnas.study.device_profile import (
    PROFILE,
    DeviceProfile,
    adopt_profile,
    fresh_profile,
    known_measurements,
)
from kdnas.study.drafts import Drafts
from kdnas.study.finish import best_members, deliver_all, export_members, references, score_finally, thin_members
from kdnas.study.front import ParetoFront
from kdnas.study.gate import Gate
from kdnas.study.interrupt import CtrlC, ctrl_c
from kdnas.study.leases import Leases
from kdnas.study.objective import Objective
from kdnas.study.prediction import MarginalLosses
from kdnas.study.preflight import Preflight, check_budget
from kdnas.study.refine import refine_members
from kdnas.study.remeasure import remeasure
from kdnas.study.returns import Returns, ReturnsFolder
from kdnas.study.room import Room
from kdnas.study.run_folder import RunFolder, open_run, read_run
from kdnas.study.samplers import choose_sampler
from kdnas.study.schooling import Schooling
from kdnas.study.sensors import removable_features
from kdnas.study.setup import Setup, check_columns, open_study, read_study
from kdnas.study.storage import open_storage, storage_errors
from kdnas.study.take_up import enqueue_anchors, take_up
from kdnas.study.tasks import make_bank, play_demonstrations, record_demonstrations, see_demonstrations, sit_down
from kdnas.study.warm_start import WarmStart, find_warm_start
from kdnas.study.watch import Silent, Watch
from kdnas.study.workers import Workers, default_workers

if TYPE_CHECKING:
    import optuna


def search(
    study: str | Path = "spread",
    *,
    budget: str | Sequence[str] | None = None,
    target: str | None = None,
    device_profile: str | Path | None = None,
    warm_start: str | Path | None = None,
    trials: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    sampler: str | None = None,
    out: str | Path | None = None,
    storage: str | None = None,
    watch: Watch | None = None,
) -> ParetoFront:
    """Search students for a study and write the front's folders.

    Example: `kdnas.search("spread", budget="latency<2ms", trials=48).best("retention>=95%, min flops").path`.

    Args:
        study: a shipped study by name, or the path of one.
        budget: constraints that replace the study's own.
        target: where the students will run, which replaces the study's: `c`, `cortex-m4@168MHz`.
        device_profile: `device.json` of an earlier run on the same device, whose measurements are not made again.
        warm_start: folder of an earlier run on the same teacher, with the same recipe and seed: what it trained, played
            among teachers and measured is not done again, and the teams of its front come first. It is only read.
        trials: candidates in total; a run that was interrupted, or ended with fewer, goes on to this number.
        workers: processes that train and play; one for each core unless told otherwise.
        seed: replaces the study's.
        sampler: who asks for new candidates, which replaces the study's: `auto`, `multivariate-tpe`, `tpe`, `nsga2` or
            `random`.
        out: run folder; `runs/STUDY` unless told otherwise.
        storage: an Optuna storage URL; a SQLite file in the run folder unless told otherwise.
        watch: is told what happens.

    Raises:
        KdnasError: the study, budget, teacher or folder cannot be used; nothing was trained.
        SearchInterrupted: Ctrl-C.
    """
    watch = watch or Silent()
    texts = [budget] if isinstance(budget, str) else budget
    file = read_study(
        study, budget=texts, target=target, trials=trials, workers=workers, seed=seed, sampler=sampler
    )
    setup = open_study(file)
    device = setup.make_target()  # one that is of no use here ends the search before anything is played
    adopted = None if device_profile is None else adopt_profile(Path(device_profile), device)
    path = Path(out) if out is not None else Path("runs") / setup.config.name
    old = None if warm_start is None else _other_run(Path(warm_start), path)
    run = open_run(path, setup, storage)
    room = Room(run.path, watch.message)
    try:
        with ctrl_c() as stop:
            room.stopping = lambda: stop.pressed
            watch.message(f"playing {setup.config.distill.demonstration_episodes:,} teacher episodes")
            setup = see_demonstrations(setup, room.keep_trying(record_demonstrations, setup, run.path))
            if setup.constant:
                watch.message(describe_constants(setup))
            check_columns(setup.space, setup.spec)
            profile = known_measurements(path, device)
            warm = None if old is None else find_warm_start(old, setup, device)
            if warm is not None:
                lacking = {key: taken for key, taken in warm.measured.items() if key not in profile.measured}
                warm = replace(warm, measured=lacking)
            for other in (warm, adopted):
                if other is not None:
                    profile = replace(profile, measured={**other.measured, **profile.measured})
            gate = make_gate(setup, device, profile)
            report = check_budget(setup.space, gate, setup.config.search.seed)
            watch.preflight(report)
            with storage_errors(run.storage):
                known = replace(profile, measured=gate.pricer.measurements())
                return _search(setup, run, room, device, known, report, warm, watch, stop)
    finally:
        run.close()
        setup.env.close()


def profile(study: str | Path, *, budget: str | Sequence[str] | None = None, target: str | None = None) -> Preflight:
    """Pre-flight alone: what the budget leaves of the study's space.

    Raises:
        KdnasError: the study cannot be used, or no candidate meets the budget.
    """
    texts = [budget] if isinstance(budget, str) else budget
    setup = open_study(read_study(study, budget=texts, target=target))
    device = setup.make_target()
    if setup.config.distill.drop_constant_inputs:
        setup = setup.without_constants(play_demonstrations(setup))
    check_columns(setup.space, setup.spec)
    return check_budget(setup.space, make_gate(setup, device, fresh_profile(device)), setup.config.search.seed)


def make_gate(
    setup: Setup,
    target: Target,
    profile: DeviceProfile,
    pause: Callable[[], AbstractContextManager[None]] = nullcontext,
    keep: Callable[[Mapping[str, Measurement]], None] = lambda measured: None,
) -> Gate:
    """The gate of a study on a target, with the measurements that are known already; `keep` is told of new ones."""
    pricer = Pricer(
        setup.spec,
        setup.teacher,
        target,
        normalised=setup.config.distill.normalise,
        measured=profile.measured,
        pause=pause,
        keep=keep,
    )
    return Gate(budget=setup.budget, pricer=pricer)


def describe_constants(setup: Setup) -> str:
    """One sentence on the features that no student of a group reads."""
    return f"inputs that never change are left out: {describe_features(setup.constant)}"


def describe_features(features: Mapping[str, tuple[int, ...]]) -> str:
    """Features of groups, in a few words: those with equal ones are named together."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for group, own in features.items():
        alike.setdefault(own, []).append(group)
    return "; ".join(f"{format_features(own)} of {', '.join(groups)}" for own, groups in alike.items())


def _other_run(old: Path, path: Path) -> Path:
    """An earlier run that a search in another folder is to begin from."""
    read_run(old)
    if old.resolve() == path.resolve():
        raise RunError(f"{old}: is this run itself, which goes on anyway; leave out --warm-start, or change --out")
    return old


def _search(
    setup: Setup,
    run: RunFolder,
    room: Room,
    target: Target,
    profile: DeviceProfile,
    report: Preflight,
    warm: WarmStart | None,
    watch: Watch,
    stop: CtrlC,
) -> ParetoFront:
    config = setup.config
    sampler = choose_sampler(config.search.sampler, setup.space.most_parameters)
    study = open_storage(run.storage, run.study_name, sampler, config.search.seed, room, begun=run.begun)
    room.keep_trying(run.keep, setup)
    room.keep_trying(profile.write, run.path / PROFILE)
    bank = make_bank(setup, run.path)
    inherited = room.keep_trying(warm.hand_over, bank, run.returns) if warm is not None else []
    demonstrations = record_demonstrations(setup, run.path)  # they are there
    count = config.search.workers or default_workers()
    with Workers(
        count,
        sit_down,
        (setup.file, run.path.resolve(), demonstrations.folder.resolve()),
        leases=Leases(patience_s=config.search.patience_s),
        room=room,
        say=watch.message,
    ) as workers:

        def keep(measured: Mapping[str, Measurement]) -> None:  # at once: what is told later hangs on them
            room.keep_trying(replace(profile, measured=measured).write, run.path / PROFILE)

        gate = make_gate(setup, target, profile, workers.paused, keep)
        seeds = setup.seeds.search(config.evaluation.search_episodes)
        teacher, random = room.keep_trying(references, run, workers, "search", seeds, real=False)
        check_teacher_beats_random(teacher, random)
        objective = make_objective(
            setup, replace(run.returns, room=room), bank, study, gate, workers, (teacher, random)
        )
        take_up(objective)
        if warm is not None:
            watch.message(warm.describe(inherited, warm.enqueue(objective.drafts, setup, gate)))
        if config.search.anchors:
            enqueue_anchors(objective.drafts, setup, gate, report)
        watch.message(f"searching {config.search.trials} candidates with {count} workers")
        with stop.gently():
            _run_trials(objective, config.search.trials, watch, stop)
        watch.message(f"asking and storing took {100 * objective.storing.share:.1f} % of the search")
        members = best_members(objective, study, gate, watch)
        stop.check()
        if not members:
            raise RunError(
                f"{run.path}: no candidate was both feasible and trained; raise --trials or the budget, or see the "
                "reasons in 'kdnas dashboard'"
            )
        members = thin_members(members, config.search.front, watch)
        members, teams = room.keep_trying(refine_members, objective, run, members, watch)
        stop.check()
        watch.message(f"workers were busy {100 * workers.utilisation:.0f} % of their time")
        recorded = recorded_rows(setup, demonstrations)
        watch.message(f"measuring the {len(members)} teams of the front again on {target.name}, and exporting them")
        with workers.paused():
            members = remeasure(setup, target, members, teams, recorded, watch)
        exports = room.keep_trying(export_members, run, members, teams, recorded, target, watch)
        stop.check()
        members = [member for member in members if member.trial in exports]
        if needless := removable_features([teams[member.trial] for member in members], recorded):
            what = describe_features(needless)
            watch.message(f"no student of the front needs {what}: these sensors may all be left out")
        episodes = config.evaluation.final_episodes
        watch.message(f"scoring the {len(members)} teams of the front on {episodes:,} final episodes")
        members = room.keep_trying(score_finally, objective, run, members, watch)
    stop.check()
    return deliver_all(setup, run, room, members, exports)


def make_objective(
    setup: Setup,
    kept: ReturnsFolder,
    bank: StudentBank,
    study: "optuna.Study",
    gate: Gate,
    workers: Workers,
    references: tuple[Returns, Returns],
) -> Objective:
    """The objective of a run whose teacher and random play are known."""
    schooling = Schooling(
        setup=setup,
        bank=bank,
        gate=gate,
        workers=workers,
        seeds=setup.seeds.search(setup.config.evaluation.search_episodes),
        losses=MarginalLosses(teacher=references[0], random=references[1]),
        kept=kept,
    )
    drafts = Drafts(stored=study)
    return Objective(
        setup=setup,
        drafts=drafts,
        gate=gate,
        workers=workers,
        schooling=schooling,
        asking=Asking(setup=setup, drafts=drafts, gate=gate, schooling=schooling),
        kept=kept,
    )


def _run_trials(objective: Objective, total: int, watch: Watch, stop: CtrlC) -> None:
    """Ask, advance and settle until all trials have ended, or until `stop` and what runs has ended."""
    said = False
    while True:
        if stop.pressed:
            if not said:
                said = True
                watch.message("ending what runs now; Ctrl-C again stops at once")
            objective.withdraw()
        else:
            objective.advance()
        while not stop.pressed and objective.has_room and objective.asked < total:
            objective.ask()
            objective.advance()
            watch.progress(objective.progress(total))
        if not stop.pressed and objective.asked < total:
            objective.schooling.foresee()
        if not objective.busy and not stop.pressed and objective.asked >= total:
            objective.end_race()
        if not objective.busy and (stop.pressed or (not objective.active and objective.asked >= total)):
            break
        objective.settle()
        watch.progress(objective.progress(total))
    watch.progress(objective.progress(total))
    objective.abandon()
