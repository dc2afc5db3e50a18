"""`Drafts`: the study that the sampler works on, in memory, beside the one that is stored.

A sampler reads all trials again and again, and a stored trial takes a transaction for each of its parameters: with 56
of them and the default sampler that was .8 s a trial on SQLite. So candidates are drawn in memory, and one that has
its price is stored whole, in one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


@dataclass(kw_only=True)
class Drafts:
    """Asks the sampler of a stored study, and tells both of how a trial ended."""

    stored: "optuna.Study"
    study: "optuna.Study" = field(init=False)
    """In memory: the trials that the sampler knows."""

    def __post_init__(self) -> None:
        import optuna

        self.study = optuna.create_study(directions=self.stored.directions, sampler=self.stored.sampler)

    def recall(self) -> None:
        """Let the sampler know the trials that were stored before."""
        from optuna.samplers import BaseGASampler
        from optuna.trial import TrialState

        ended = [trial for trial in self.stored.get_trials() if trial.state.is_finished()]
        if isinstance(sampler := self.stored.sampler, BaseGASampler):
            # Those of another sampler come in generations too, in the order in which they were told.
            key, size = sampler._get_generation_key(), sampler.population_size or 1
            complete = [trial for trial in ended if trial.state == TrialState.COMPLETE]
            for place, trial in enumerate(complete):
                trial.system_attrs = {key: place // size, **trial.system_attrs}
        self.study.add_trials(ended)

    def enqueue(self, parameters: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> None:
        """Have a candidate asked next, behind those that wait already, with user attributes."""
        self.study.enqueue_trial(dict(parameters), user_attrs=dict(attributes or {}))

    def enqueue_new(self, candidates: Sequence[Mapping[str, Any]]) -> int:
        """Enqueue those that no trial has had and that do not wait already; says how many."""
        before = len(self.study.get_trials(deepcopy=False))
        for parameters in candidates:
            self.study.enqueue_trial(dict(parameters), skip_if_exists=True)
        return len(self.study.get_trials(deepcopy=False)) - before

    @property
    def some_wait(self) -> bool:
        """Whether a candidate is enqueued."""
        from optuna.trial import TrialState

        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def ask(self) -> "optuna.Trial":
        """A draft, which exists in memory alone: first those that are enqueued, then what the sampler says."""
        from optuna.samplers import BaseGASampler

        draft = self.study.ask()
        sampler = self.stored.sampler
        if isinstance(sampler, BaseGASampler):
            # Optuna puts only those into a generation that it draws itself; the others would have no children.
            sampler.get_trial_generation(self.study, self.study.get_trials(deepcopy=False)[draft.number])
        return draft

    def store(
        self,
        draft: "optuna.Trial",
        constraints: Mapping[str, float],
        attributes: Mapping[str, Any],
        state: "optuna.trial.TrialState | None" = None,
    ) -> "optuna.Trial":
        """Write a draft down with its parameters, constraints and user attributes: as a running trial, or as one that
        ends with a state here and now."""
        import optuna
        from optuna.trial import TrialState, create_trial

        for name, violation in constraints.items():
            draft.set_constraint(name, violation)
        own = self.study.get_trials(deepcopy=False)[draft.number]
        template = create_trial(
            state=state or TrialState.RUNNING,
            params=own.params,
            distributions=own.distributions,
            user_attrs={**own.user_attrs, **attributes},
            # A sampler's own notes and the constraints; `fixed_params` would be the parameters once more.
            system_attrs={key: value for key, value in own.system_attrs.items() if key != "fixed_params"},
        )
        trial = optuna.Trial(self.stored, self.stored._storage.create_new_trial(self.stored._study_id, template))
        if state is not None:
            self.study.tell(draft, state=state)
        return trial

    def tell(
        self,
        draft: "optuna.Trial",
        trial: "optuna.Trial",
        values: Sequence[float] | None = None,
        state: "optuna.trial.TrialState | None" = None,
    ) -> None:
        """End a trial, in the storage and for the sampler."""
        self.stored.tell(trial, values, state)
        self.study.tell(draft, values, state)
