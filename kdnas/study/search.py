"""The one flow: from a study and a budget to students that are ready to deploy."""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdnas.errors import RunError
from kdnas.evaluation.score import Score, check_teacher_beats_random, make_score
from kdnas.profiling.pricer import Pricer
from kdnas.profiling.target import Latency
from kdnas.spaces.spec import StudentSpec
from kdnas.study.anchors import ordered_specs, smallest, uniform_half
from kdnas.study.deliver import deliver, recorded_rows
from kdnas.study.front import Member, ParetoFront, make_front, non_dominated
from kdnas.study.gate import Gate
from kdnas.study.objective import Objective
from kdnas.study.preflight import Preflight, check_budget
from kdnas.study.run_folder import RunFolder, open_run
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.storage import open_storage
from kdnas.study.tasks import RANDOM, TEACHER, make_bank, play_team, record_demonstrations, sit_down
from kdnas.study.watch import Silent, Watch
from kdnas.study.workers import Workers, default_workers
from kdnas.teachers.demonstrations import Demonstrations

if TYPE_CHECKING:
    import optuna


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C: what ran has ended and is kept; the same call goes on."""


def search(
    study: str | Path = "spread",
    *,
    budget: str | Sequence[str] | None = None,
    trials: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    storage: str | None = None,
    watch: Watch | None = None,
) -> ParetoFront:
    """Search students for a study and write the front's folders.

    Example: `kdnas.search("spread", budget="latency<2ms", trials=60).best("retention>=95%, min flops").path`.

    Args:
        study: a shipped study by name, or the path of one.
        budget: constraints that replace the study's own.
        trials: candidates in total; a run that was interrupted, or ended with fewer, goes on to this number.
        workers: processes that train and play; one for each core unless told otherwise.
        seed: replaces the study's.
        out: run folder; `runs/STUDY` unless told otherwise.
        storage: an Optuna storage URL; a SQLite file in the run folder unless told otherwise.
        watch: is told what happens.

    Raises:
        KdnasError: the study, budget, teacher or folder cannot be used; nothing was trained.
        SearchInterrupted: Ctrl-C.
    """
    watch = watch or Silent()
    texts = [budget] if isinstance(budget, str) else budget
    file = read_study(study, budget=texts, trials=trials, workers=workers, seed=seed)
    setup = open_study(file)
    path = Path(out) if out is not None else Path("runs") / setup.config.name
    gate = make_gate(setup, _known_latencies(path))
    report = check_budget(setup.space, gate, setup.config.search.seed)
    watch.preflight(report)
    run = open_run(path, setup, storage)
    try:
        return _search(setup, run, gate.pricer.measurements(), report, watch)
    finally:
        run.close()


def profile(study: str | Path, *, budget: str | Sequence[str] | None = None) -> Preflight:
    """Pre-flight alone: what the budget leaves of the study's space.

    Raises:
        KdnasError: the study cannot be used, or no candidate meets the budget.
    """
    texts = [budget] if isinstance(budget, str) else budget
    setup = open_study(read_study(study, budget=texts))
    return check_budget(setup.space, make_gate(setup, {}), setup.config.search.seed)


def make_gate(
    setup: Setup,
    measured: Mapping[str, Latency],
    pause: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Gate:
    """The gate of a study, with the latencies that are known already."""
    pricer = Pricer(
        setup.spec,
        setup.teacher,
        setup.make_target(),
        normalised=setup.config.distill.normalise,
        measured=measured,
        pause=pause,
    )
    return Gate(budget=setup.budget, pricer=pricer)


def _known_latencies(path: Path) -> dict[str, Latency]:
    """Latencies that an earlier part of this run measured."""
    try:
        stored = json.loads((path / "latency.json").read_text(encoding="utf-8"))
        return {key: Latency.from_json(value) for key, value in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # measured anew


def _search(
    setup: Setup, run: RunFolder, measured: Mapping[str, Latency], report: Preflight, watch: Watch
) -> ParetoFront:
    config = setup.config
    study = open_storage(run.storage, run.study_name, config.search.seed)
    watch.message(f"recording {config.distill.demonstration_episodes:,} teacher episodes")
    demonstrations = record_demonstrations(setup, run.path)
    count = config.search.workers or default_workers()
    with Workers(count, sit_down, (setup.file, run.path.resolve(), demonstrations.folder.resolve())) as workers:
        gate = make_gate(setup, measured, workers.paused)
        seeds = setup.seeds.search(config.evaluation.search_episodes)
        teacher, random = _references(run, workers, "search", seeds, real=False)
        check_teacher_beats_random(teacher, random)
        objective = Objective(
            setup=setup,
            study=study,
            gate=gate,
            bank=make_bank(setup, run.path),
            workers=workers,
            search_seeds=seeds,
            teacher_returns=teacher,
            random_returns=random,
        )
        _take_up(study, setup, objective)
        _enqueue_anchors(study, setup, gate, report)
        watch.message(f"searching {config.search.trials} candidates with {count} workers")
        with _ctrl_c() as stop:
            _run_trials(objective, config.search.trials, watch, stop)
        run.write_json("latency.json", {key: value.as_json() for key, value in gate.pricer.measurements().items()})
        if stop.is_set():
            raise SearchInterrupted
        members = _best_members(objective, study, gate)
        if not members:
            raise RunError(
                f"{run.path}: no candidate was both feasible and trained; raise --trials or the budget, or see the "
                "reasons in 'kdnas dashboard'"
            )
        watch.message(f"scoring the {len(members)} teams of the front on {config.evaluation.final_episodes} final episodes")
        scored = _score_finally(setup, run, workers, members)
    watch.message("exporting")
    return _deliver_all(setup, run, objective, scored, demonstrations)


def _run_trials(objective: Objective, total: int, watch: Watch, stop: threading.Event) -> None:
    """Ask, advance and settle until all trials have ended, or until `stop` and what runs has ended."""
    said = False
    while True:
        ended = sum(objective.counts.values())
        room = objective.workers.count + 1 - len(objective.active)
        while not stop.is_set() and room > 0 and ended + len(objective.active) < total:
            objective.ask()
            watch.progress(objective.progress(total))
            ended = sum(objective.counts.values())
            room = objective.workers.count + 1 - len(objective.active)
        if stop.is_set() and not said:
            said = True
            watch.message("ending what runs now; Ctrl-C again stops at once")
        if stop.is_set():
            objective.withdraw()
        else:
            objective.advance()
        if not objective.busy and (stop.is_set() or (not objective.active and ended >= total)):
            break
        objective.settle()
        watch.progress(objective.progress(total))
    objective.abandon()


def _references(
    run: RunFolder, workers: Workers, name: str, seeds: list[int], *, real: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns of the teacher and of random play on a seed set."""
    futures = {who: workers.submit(play_team, who, seeds, real) for who in (TEACHER, RANDOM)}
    return (
        run.reference(name, TEACHER, lambda: futures[TEACHER].result()),
        run.reference(name, RANDOM, lambda: futures[RANDOM].result()),
    )


def _take_up(study: "optuna.Study", setup: Setup, objective: Objective) -> None:
    """Count what an earlier part of this search told, and ask its unfinished trials again."""
    import optuna
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get("repeats") for trial in trials}
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            optuna.trial.Trial(study, trial._trial_id).set_user_attr("interrupted", True)
            study.tell(trial.number, state=TrialState.FAIL)
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.PRUNED:
            objective.counts["rejected"] += 1
        elif trial.state == TrialState.FAIL and not trial.user_attrs.get("interrupted"):
            objective.counts["failed"] += 1
        elif trial.state == TrialState.FAIL and trial.number not in repeated and trial.params:
            study.enqueue_trial(trial.params, user_attrs={"repeats": trial.number})
        elif trial.state == TrialState.COMPLETE:
            retention, flops, memory = trial.values
            score = Score.from_json(trial.user_attrs["score"])
            objective.remember(candidate_of(setup, trial), score, (retention, flops, memory))


def candidate_of(setup: Setup, trial: Any) -> dict[str, StudentSpec]:
    """The candidate of a stored trial, by its parameters."""
    import optuna

    return setup.space.sample(optuna.trial.FixedTrial(trial.params))


def _enqueue_anchors(study: "optuna.Study", setup: Setup, gate: Gate, report: Preflight) -> None:
    if study.get_trials(deepcopy=False):
        return
    anchors = [smallest(ordered_specs(setup.space, gate)), uniform_half(setup.space), dict(report.largest_feasible)]
    for anchor in anchors:
        study.enqueue_trial(setup.space.parameters(anchor), skip_if_exists=True)


def _best_members(objective: Objective, study: "optuna.Study", gate: Gate) -> list[Member]:
    """The non-dominated trials, with their search scores."""
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    members = []
    for index in non_dominated([(trial.values[0], trial.values[1], trial.values[2]) for trial in complete]):
        trial = complete[index]
        candidate = candidate_of(objective.setup, trial)
        verdict = gate.judge(candidate, measure_all=True)
        if not verdict.feasible:  # priced by the same records as in the search, so this is never seen twice
            continue
        members.append(
            Member(
                trial=trial.number,
                path=None,
                candidate=candidate,
                score=Score.from_json(trial.user_attrs["score"]),
                cost=verdict.cost,
                teacher=gate.pricer.teacher_cost(),
            )
        )
    return members


def _score_finally(setup: Setup, run: RunFolder, workers: Workers, members: list[Member]) -> list[Member]:
    """Play the members on the final seeds in the real environment."""
    seeds = setup.seeds.final(setup.config.evaluation.final_episodes)
    futures = [workers.submit(play_team, dict(member.candidate), seeds, True) for member in members]
    teacher, random = _references(run, workers, "final", seeds, real=True)
    return [
        Member(**{**vars(member), "score": make_score(future.result(), teacher, random)})
        for member, future in zip(members, futures, strict=True)
    ]


def _deliver_all(
    setup: Setup, run: RunFolder, objective: Objective, members: list[Member], demonstrations: Demonstrations
) -> ParetoFront:
    recorded = recorded_rows(setup, demonstrations)
    delivered = [deliver(setup, run, objective.bank, member, recorded) for member in members]
    front = make_front(delivered, final=True, folder=run.path)
    run.write_json("front.json", front.as_json())
    return front


@dataclass
class _Stop:
    event: threading.Event

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            raise KeyboardInterrupt
        self.event.set()


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """While inside, the first Ctrl-C sets the event and the second one interrupts."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals belong to the main thread; whoever called from another one ends the search otherwise
        return
    previous = signal.signal(signal.SIGINT, _Stop(event))
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


