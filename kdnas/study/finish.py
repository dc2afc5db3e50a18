"""Where a search ends: the front of its trials, scored on the final seeds and written as student folders."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kdnas.distill.recipe import lineage
from kdnas.errors import RunError, StudentError
from kdnas.evaluation.score import Score, make_score
from kdnas.policies.arrays import Floats
from kdnas.profiling.target import Target
from kdnas.study.deliver import deliver, target_card
from kdnas.study.front import Member, ParetoFront, make_front, non_dominated
from kdnas.study.gate import Gate
from kdnas.study.objective import Objective
from kdnas.study.run_folder import RunFolder
from kdnas.study.storage import meets
from kdnas.study.take_up import candidate_of
from kdnas.study.tasks import RANDOM, TEACHER, play_team, train_student
from kdnas.study.watch import Watch
from kdnas.study.workers import Workers, result_of

if TYPE_CHECKING:
    import optuna

Returns = NDArray[np.float64]


def references(run: RunFolder, workers: Workers, name: str, seeds: list[int], *, real: bool) -> tuple[Returns, Returns]:
    """Returns of the teacher and of random play on a seed set, played together and only once.

    Raises:
        KdnasError: the environment or a worker failed, or the run cannot be written.
    """
    missing = [who for who in (TEACHER, RANDOM) if not run.has_reference(name, who)]
    futures = {who: workers.submit(play_team, who, seeds, real) for who in missing}
    teacher = run.reference(name, TEACHER, lambda: result_of(futures[TEACHER], "playing the teacher"))
    random = run.reference(name, RANDOM, lambda: result_of(futures[RANDOM], "playing at random"))
    return teacher, random


def best_members(objective: Objective, study: "optuna.Study", gate: Gate) -> list[Member]:
    """The non-dominated trials, with their search scores."""
    from optuna.trial import TrialState

    limits = [item.text for item in gate.budget.constraints]
    told = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    complete = [trial for trial in told if meets(trial, limits)]
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


def score_finally(objective: Objective, run: RunFolder, members: list[Member]) -> list[Member]:
    """Play the members on the final seeds in the real environment; students that were deleted are trained again.

    Raises:
        KdnasError: as `references`.
    """
    setup, workers = objective.setup, objective.workers
    for member in members:
        for group, spec in member.candidate.items():
            pool = setup.pools[group]
            for lacking in [one for one in lineage(spec) if not objective.bank.has(pool, spec)]:
                if not objective.bank.has(pool, lacking):
                    result_of(workers.submit(train_student, pool.name, lacking), f"training {lacking}")
    seeds = setup.seeds.final(setup.config.evaluation.final_episodes)
    futures = [workers.submit(play_team, dict(member.candidate), seeds, True) for member in members]
    teacher, random = references(run, workers, "final", seeds, real=True)
    return [
        replace(member, score=make_score(result_of(future, f"playing trial {member.trial}"), teacher, random))
        for member, future in zip(members, futures, strict=True)
    ]


def deliver_all(
    objective: Objective,
    run: RunFolder,
    members: list[Member],
    recorded: Mapping[str, Floats],
    target: Target,
    watch: Watch,
) -> ParetoFront:
    """Write the student folders and `front.json`; a team that cannot be exported is left out, with a message.

    Raises:
        KdnasError: nothing can be written, or no team can be exported.
    """
    device = target_card(target)
    delivered = []
    for member in members:
        try:
            delivered.append(deliver(objective.setup, run, objective.bank, member, recorded, device))
        except StudentError as error:
            watch.message(f"trial {member.trial} is left out of the front: {error}")
    if not delivered:
        raise RunError(f"{run.path}: none of the {len(members)} teams of the front could be exported; see the messages")
    front = make_front(delivered, final=True, folder=run.path)
    run.write_json("front.json", front.as_json())
    return front
