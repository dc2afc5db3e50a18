"""Where a search begins: what an earlier part of it told, or else the teams that are tried first."""

from typing import Any

from kdnas.evaluation.score import Score
from kdnas.spaces.space import Candidate
from kdnas.spaces.spec import StudentSpec
from kdnas.study.anchors import first_teams
from kdnas.study.attempt import Lost, Played
from kdnas.study.drafts import Drafts
from kdnas.study.gate import Gate
from kdnas.study.objective import Objective
from kdnas.study.preflight import Preflight
from kdnas.study.race import Standing
from kdnas.study.returns import Returns, team_name
from kdnas.study.setup import Setup
from kdnas.study.storage import meets
from kdnas.study.tasks import play_team
from kdnas.study.workers import result_of


def take_up(objective: Objective) -> None:
    """Count what an earlier part of this search told, and ask its unfinished trials again."""
    import optuna
    from optuna.trial import TrialState

    study = objective.drafts.stored
    limits = [item.text for item in objective.gate.budget.constraints]
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get("repeats") for trial in trials}
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            optuna.trial.Trial(study, trial._trial_id).set_user_attr("interrupted", True)
            study.tell(trial.number, state=TrialState.FAIL)
    objective.drafts.recall()
    objective.schooling.take_up()
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.PRUNED:
            _remember_lost(objective, trial)
        elif trial.state == TrialState.FAIL and not trial.user_attrs.get("interrupted"):
            objective.counts["failed"] += 1
            objective.teams.failed.append(candidate_of(objective.setup, trial))
        elif trial.state == TrialState.FAIL and trial.number not in repeated:
            objective.drafts.enqueue(trial.params, {"repeats": trial.number})
        elif trial.state == TrialState.COMPLETE and meets(trial, limits):
            _remember_played(objective, trial)
        elif trial.state == TrialState.COMPLETE:  # somebody else has told it, without its constraints
            objective.counts["failed"] += 1
    objective.before = objective.asked


def _remember_lost(objective: Objective, trial: Any) -> None:
    """Count a trial that the gate refused or that lost the race, and let it keep its place there."""
    ended = trial.user_attrs.get("ended", "rejected")
    objective.counts[ended] += 1
    if ended == "outraced" and "rungs" in trial.user_attrs:
        candidate = candidate_of(objective.setup, trial)
        rung = max(int(rung) for rung in trial.user_attrs["rungs"])
        objective.teams.lose(Lost(candidate=candidate, reason=trial.user_attrs["reason"], rung=rung))
        _stand(objective, trial)


def _remember_played(objective: Objective, trial: Any) -> None:
    retention, flops, memory = trial.values
    _stand(objective, trial)
    candidate = candidate_of(objective.setup, trial)
    score = Score.from_json(trial.user_attrs["score"])
    objective.remember(
        Played(
            candidate=candidate,
            score=score,
            objectives=(retention, flops, memory),
            returns=objective.kept.get(
                team_name(trial.number), lambda: _play_again(objective, candidate, score.retention.episodes)
            ),
            predicted=trial.user_attrs["predicted"],
        )
    )


def _play_again(objective: Objective, candidate: Candidate, episodes: int) -> Returns:
    """The returns of a team whose file is gone: on the same episodes they are the same."""
    objective.schooling.restore([candidate])
    stages = {group: objective.schooling.bank.last(spec) for group, spec in candidate.items()}
    playing = objective.workers.submit(play_team, stages, objective.schooling.seeds[:episodes], False)
    returns: Returns = result_of(playing, "playing a team again whose returns are gone")
    return returns


def _stand(objective: Objective, trial: Any) -> None:
    """Put a trial that ended where it stood in the race."""
    cost = trial.user_attrs["cost"]
    rungs = {int(rung): retention for rung, retention in trial.user_attrs.get("rungs", {}).items()}
    for rung, retention in rungs.items():
        if rung == objective.last_rung:
            continue
        objectives = (retention, float(cost["flops"]), float(cost["memory_bytes"]))
        objective.field.enter(rung, Standing(trial=trial.number, objectives=objectives))
        if rung + 1 in rungs:
            objective.field.go_on(rung, trial.number)


def candidate_of(setup: Setup, trial: Any) -> dict[str, StudentSpec]:
    """The candidate of a stored trial, by its parameters."""
    import optuna

    return setup.space.sample(optuna.trial.FixedTrial(trial.params))


def enqueue_anchors(drafts: Drafts, setup: Setup, gate: Gate, report: Preflight) -> None:
    """Begin with the teams that are tried first, behind those that wait already, as far as they were not tried."""
    anchors = first_teams(setup.space, gate, report.largest_feasible)
    drafts.enqueue_new([setup.space.parameters(anchor) for anchor in anchors])
