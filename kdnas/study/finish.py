"""Where a search ends: the front of its trials, scored on the final seeds and written as student folders."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kdnas.distill.stage import Stage
from kdnas.errors import RunError, StudentError
from kdnas.evaluation.paired import retention_parts
from kdnas.evaluation.score import Score, make_gain, make_score
from kdnas.policies.arrays import Floats
from kdnas.profiling.target import Target
from kdnas.students.refinement import Hindsight, IntervalCard
from kdnas.students.team import Team
from kdnas.study.attempt import Signature, signature
from kdnas.study.deliver import Export, deliver, export_team, target_card
from kdnas.study.front import Member, ParetoFront, final_name, hypervolume, make_front, non_dominated, thin
from kdnas.study.gate import Gate
from kdnas.study.objective import Objective
from kdnas.study.returns import Returns, team_name
from kdnas.study.room import Room
from kdnas.study.run_folder import RunFolder
from kdnas.study.schooling import is_fatal
from kdnas.study.setup import Setup
from kdnas.study.storage import meets
from kdnas.study.take_up import candidate_of
from kdnas.study.tasks import RANDOM, TEACHER, play_refined, play_team
from kdnas.study.watch import Watch
from kdnas.study.workers import Workers, failure_reason, result_of

if TYPE_CHECKING:
    import optuna


def references(run: RunFolder, workers: Workers, name: str, seeds: list[int], *, real: bool) -> tuple[Returns, Returns]:
    """Returns of the teacher and of random play on a seed set, played together and only once.

    Raises:
        KdnasError: the environment or a worker failed, or the run cannot be written.
    """
    folder = run.returns
    names = {who: f"{name}-{who}" for who in (TEACHER, RANDOM)}
    futures = {who: workers.submit(play_team, who, seeds, real) for who, kept in names.items() if not folder.has(kept)}
    teacher = folder.get(names[TEACHER], lambda: result_of(futures[TEACHER], "playing the teacher"))
    random = folder.get(names[RANDOM], lambda: result_of(futures[RANDOM], "playing at random"))
    return teacher, random


def best_members(objective: Objective, study: "optuna.Study", gate: Gate, watch: Watch) -> list[Member]:
    """The non-dominated trials, with the scores of all search episodes.

    A team stops playing when its place is clear, and one that was lucky until then would keep better ones off the
    front. So those that are on it play the rest, and so do those that take their places. One that cannot is left out,
    with a message.

    Raises:
        KdnasError: something that no other team can escape.
    """
    from optuna.trial import TrialState

    limits = [item.text for item in gate.budget.constraints]
    told = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    members: dict[Signature, Member] = {}
    for trial in (trial for trial in told if meets(trial, limits)):
        candidate = candidate_of(objective.setup, trial)
        verdict = gate.judge(candidate, measure_all=True)
        if verdict.feasible:  # priced by the records of the search, unless they were lost
            score, teacher = Score.from_json(trial.user_attrs["score"]), gate.pricer.teacher_cost()
            member = Member(
                trial=trial.number, path=None, candidate=candidate, score=score, cost=verdict.cost, teacher=teacher
            )
            members.setdefault(signature(candidate), member)
        else:
            watch.message(f"trial {trial.number} is left out of the front: {verdict.reason}")
    while True:
        teams = list(members)
        front = [teams[place] for place in non_dominated([members[team].objectives for team in teams])]
        short = [team for team in front if members[team].score.retention.episodes < len(objective.schooling.seeds)]
        if not short:
            return [members[team] for team in front]
        for team, played in zip(short, play_the_rest(objective, [members[team] for team in short]), strict=True):
            if isinstance(played, Score):
                members[team] = replace(members[team], score=played)
            else:
                watch.message(f"trial {members.pop(team).trial} is left out of the front: {played}")


def play_the_rest(objective: Objective, members: list[Member]) -> list[Score | str]:
    """Scores of members on all search episodes, of which they have played the first; or why one cannot play them.

    Raises:
        KdnasError: something that no other team can escape.
    """
    objective.schooling.restore([member.candidate for member in members])
    seeds, losses, kept = objective.schooling.seeds, objective.schooling.losses, objective.kept
    names = [team_name(member.trial) for member in members]
    futures = [
        objective.workers.submit(play_team, players(objective, member), seeds[len(kept.load(name)) :], False)
        if not kept.has(f"{name}-all")
        else None
        for member, name in zip(members, names, strict=True)
    ]
    ends: list[Score | str] = []
    for member, name, future in zip(members, names, futures, strict=True):
        if future is not None and (reason := why_not(future, member)):
            ends.append(reason)
            continue
        if future is not None:
            kept.keep(f"{name}-all", np.concatenate([kept.load(name), future.result()]))
        ends.append(make_score(kept.load(f"{name}-all"), losses.teacher, losses.random))
    return ends


def why_not(play: "Future[Any]", member: Member) -> str:
    """Why a member could not be played; empty if it was.

    Raises:
        KdnasError: something that no other team can escape.
    """
    if (error := play.exception()) is None:
        return ""
    if is_fatal(error):
        result_of(play, f"playing trial {member.trial}")
    return failure_reason(error)


def thin_members(members: list[Member], count: int, watch: Watch) -> list[Member]:
    """At most `count` members, as `thin` chooses them by their search scores; says what they hold."""
    points = [member.objectives for member in members]
    teacher = members[0].teacher
    places = thin(points, teacher, count)
    if len(places) < len(members):
        held, whole = hypervolume([points[place] for place in places], teacher), hypervolume(points, teacher)
        share = held / whole if whole else 1.0
        watch.message(
            f"{len(members)} teams are dominated by none; the {count} that hold {100 * share:.1f} % of their "
            "hypervolume go on ([search] front takes more)"
        )
    return [members[place] for place in places]


def players(objective: Objective, member: Member) -> dict[str, Stage]:
    """The students of a member as the search scored them."""
    return {group: objective.schooling.bank.last(spec) for group, spec in member.candidate.items()}


def score_finally(objective: Objective, run: RunFolder, members: list[Member], watch: Watch) -> list[Member]:
    """Play the members on the final seeds in the real environment: as they are, and as the search scored them.

    Says of each what it retains, for this can take minutes. One that cannot be played is left out, with a message.

    Raises:
        KdnasError: as `references`, or none can be played.
    """
    setup, workers = objective.setup, objective.workers
    seeds = setup.seeds.final(setup.config.evaluation.final_episodes)
    futures = [
        (
            workers.submit(play_team, players(objective, member), seeds, True),
            workers.submit(play_refined, dict(member.candidate), seeds) if member.refined else None,
        )
        for member in members
    ]
    teacher, random = references(run, workers, "final", seeds, real=True)
    scored = []
    for member, (searching, refining) in zip(members, futures, strict=True):
        plays = [searching] if refining is None else [searching, refining]
        if reasons := [reason for play in plays if (reason := why_not(play, member))]:
            watch.message(f"trial {member.trial} is left out of the front: {reasons[0]}")
            continue
        before, after = searching.result(), plays[-1].result()
        run.returns.keep(final_name(member.trial), after)
        gain = None if refining is None else make_gain(after, before, teacher, random)
        hindsight = Hindsight(
            search=IntervalCard(**member.score.retention.as_json()),
            final=IntervalCard(**make_score(before, teacher, random).retention.as_json()),
            refinement=None if gain is None else IntervalCard(**gain.as_json()),
        )
        score = make_score(after, teacher, random)
        kept = score.retention
        interval = f"95 % interval {kept.low:.3f} to {kept.high:.3f}"
        watch.message(f"trial {member.trial}: retention {kept.mean:.3f} ({interval})")
        scored.append(
            replace(
                member,
                score=score,
                parts=retention_parts(after, teacher, random),
                hindsight=hindsight,
            )
        )
    if not scored:
        raise RunError(f"{run.path}: none of the {len(members)} teams of the front could play the final episodes")
    return scored


def export_members(
    run: RunFolder,
    members: list[Member],
    teams: Mapping[int, Team],
    recorded: Mapping[str, Floats],
    target: Target,
    watch: Watch,
) -> dict[int, Export]:
    """Trial -> what was made of its team, for those that can be exported; one that cannot is named in a message.

    `teams` are those of the members, by trial; each artifact is compared with its team on the `recorded` views.

    Raises:
        KdnasError: nothing can be written, or no team can be exported.
    """
    device, exports = target_card(target), {}
    for member in members:
        try:
            exports[member.trial] = export_team(run, member.trial, teams[member.trial], recorded, device)
        except StudentError as error:
            watch.message(f"trial {member.trial} is left out of the front: {error}")
    if not exports:
        raise RunError(f"{run.path}: none of the {len(members)} teams of the front could be exported; see the messages")
    return exports


def deliver_all(
    setup: Setup, run: RunFolder, room: Room, members: list[Member], exports: Mapping[int, Export]
) -> ParetoFront:
    """Write the student folders of members that were exported, and `front.json`.

    Raises:
        KdnasError: nothing can be written.
    """
    delivered = [room.keep_trying(deliver, setup, run, member, exports[member.trial]) for member in members]
    front = make_front(delivered, final=True, folder=run.path)
    room.keep_trying(run.write_json, "front.json", front.as_json())
    return front
