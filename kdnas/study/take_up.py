"""Where a search begins: what an earlier part of it told, or else the teams that are tried first."""

from typing import Any

from kdnas.budgets.cost import Cost
from kdnas.evaluation.score import Score
from kdnas.spaces.spec import StudentSpec
from kdnas.study.anchors import first_teams
from kdnas.study.attempt import Lost, Played, signature
from kdnas.study.drafts import Drafts
from kdnas.study.gate import Gate
from kdnas.study.objective import Objective, team_name
from kdnas.study.preflight import Preflight
from kdnas.study.race import Standing
from kdnas.study.setup import Setup


def take_up(objective: Objective) -> None:
    """Count what an earlier part of this search told, and ask its unfinished trials again."""
    import optuna
    from optuna.trial import TrialState

    study = objective.drafts.stored
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get("repeats") for trial in trials}
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            optuna.trial.Trial(study, trial._trial_id).set_user_attr("interrupted", True)
            study.tell(trial.number, state=TrialState.FAIL)
    objective.drafts.recall()
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.PRUNED:
            _remember_lost(objective, trial)
        elif trial.state == TrialState.FAIL and not trial.user_attrs.get("interrupted"):
            objective.counts["failed"] += 1
        elif trial.state == TrialState.FAIL and trial.number not in repeated:
            objective.drafts.enqueue(trial.params, {"repeats": trial.number})
        elif trial.state == TrialState.COMPLETE:
            _remember_played(objective, trial)


def _remember_lost(objective: Objective, trial: Any) -> None:
    """Count a trial that the gate refused or that lost the race, and let it keep its place there."""
    ended = trial.user_attrs.get("ended", "rejected")
    objective.counts[ended] += 1
    if ended == "outraced" and "rungs" in trial.user_attrs:
        candidate = candidate_of(objective.setup, trial)
        objective.schooling.recall(candidate)
        objective.lost[signature(candidate)] = Lost(
            candidate=candidate,
            reason=trial.user_attrs["reason"],
            rung=max(int(rung) for rung in trial.user_attrs["rungs"]),
        )
        _stand(objective, trial)


def _remember_played(objective: Objective, trial: Any) -> None:
    retention, flops, memory = trial.values
    _stand(objective, trial)
    candidate = candidate_of(objective.setup, trial)
    objective.schooling.recall(candidate)
    known = objective.played.get(signature(candidate))  # told again with what was known of it
    objective.remember(
        known
        or Played(
            candidate=candidate,
            score=Score.from_json(trial.user_attrs["score"]),
            objectives=(retention, flops, memory),
            returns=objective.kept.load(team_name(trial.number)),
            predicted=trial.user_attrs["predicted"],
        )
    )


def _stand(objective: Objective, trial: Any) -> None:
    """Put a trial that ended where it stood in the race."""
    cost = Cost.from_json(trial.user_attrs["cost"])
    rungs = {int(rung): retention for rung, retention in trial.user_attrs.get("rungs", {}).items()}
    for rung, retention in rungs.items():
        if rung == objective.last_rung:
            continue
        objectives = (retention, float(cost.flops), float(cost.memory_bytes))
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
