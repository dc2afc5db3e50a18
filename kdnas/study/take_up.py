"""Where a search begins: what an earlier part of it told, or else the teams that are tried first."""

from typing import TYPE_CHECKING, Any

from kdnas.evaluation.score import Score
from kdnas.spaces.spec import StudentSpec
from kdnas.study.anchors import first_teams
from kdnas.study.gate import Gate
from kdnas.study.objective import Objective
from kdnas.study.preflight import Preflight
from kdnas.study.setup import Setup

if TYPE_CHECKING:
    import optuna


def take_up(study: "optuna.Study", setup: Setup, objective: Objective) -> None:
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
        elif trial.state == TrialState.FAIL and trial.number not in repeated and (params := _asked(trial)):
            study.enqueue_trial(params, user_attrs={"repeats": trial.number})
        elif trial.state == TrialState.COMPLETE:
            retention, flops, memory = trial.values
            score = Score.from_json(trial.user_attrs["score"])
            objective.remember(candidate_of(setup, trial), score, (retention, flops, memory))


def _asked(trial: Any) -> dict[str, Any]:
    """The parameters of a trial that was cut off: those that it was given, and those that it had sampled."""
    given: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return {**given, **trial.params}


def candidate_of(setup: Setup, trial: Any) -> dict[str, StudentSpec]:
    """The candidate of a stored trial, by its parameters."""
    import optuna

    return setup.space.sample(optuna.trial.FixedTrial(trial.params))


def enqueue_anchors(study: "optuna.Study", setup: Setup, gate: Gate, report: Preflight) -> None:
    """Let a new study begin with the teams that are tried first; if it was cut off at that, with the rest of them."""
    if study.user_attrs.get("anchored"):
        return
    for anchor in first_teams(setup.space, gate, report.largest_feasible):
        study.enqueue_trial(setup.space.parameters(anchor), skip_if_exists=True)
    study.set_user_attr("anchored", True)
