"""`Asking`: where the next candidate comes from: what was enqueued, what is proposed, or the sampler."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdnas.spaces.space import Candidate
from kdnas.spaces.spec import StudentSpec
from kdnas.study.attempt import Played, Signature, signature
from kdnas.study.board import Board, price_options
from kdnas.study.drafts import Drafts
from kdnas.study.front import non_dominated
from kdnas.study.gate import Gate
from kdnas.study.prediction import Correction
from kdnas.study.proposer import propose
from kdnas.study.samplers import freeze
from kdnas.study.schooling import Schooling
from kdnas.study.setup import Setup

if TYPE_CHECKING:
    import optuna

PROPOSALS = 4
"""Teams that are proposed at once; half as many as there are groups, where these are more."""
EVALUATIONS = 1200
"""Predicted teams that they are chosen from, times the groups: what each costs grows with these, and the starting teams
alone come nearer to the whole front the more there are (`benchmarks/proposals.py`)."""
LEAST_EVALUATIONS = 60


@dataclass(kw_only=True)
class Asking:
    """Draws the next candidate.

    Enqueued teams come first. Then the sampler, which brings new students into the bank, and teams of students that are
    complete, chosen by what they are predicted to retain, take turns.
    """

    setup: Setup
    drafts: Drafts
    gate: Gate
    schooling: Schooling
    correction: Correction | None = None
    turn: int = 0
    proposals: list[dict[str, StudentSpec]] = field(default_factory=list)
    frozen: int = 0
    """How often the sampler has chosen for some groups only."""

    def __post_init__(self) -> None:
        self._sampler = self.drafts.study.sampler

    def next_draft(
        self, played: Mapping[Signature, Played], active: Sequence[Candidate], beaten: Sequence[Candidate]
    ) -> "optuna.Trial":
        """Ask for one. What was `played`, is on its way or was `beaten` in its first episodes is not proposed again."""
        table = self.setup.config.search
        if self.drafts.some_wait:
            return self.drafts.ask()
        self.turn += 1
        if table.propose and self.turn % 2 == 0:
            known = {*played, *(signature(team) for team in (*active, *beaten))}
            self.proposals = [team for team in self.proposals if signature(team) not in known]
            if not self.proposals:
                self.proposals = self._propose(played, active, beaten)
            if self.proposals:
                team = self.proposals.pop(0)
                self.drafts.enqueue(self.setup.space.parameters(team), {"proposed": True})
                return self.drafts.ask()
        if table.free_groups and played:
            self._freeze(played)
        return self.drafts.ask()

    def _propose(
        self, played: Mapping[Signature, Played], active: Sequence[Candidate], beaten: Sequence[Candidate]
    ) -> list[dict[str, StudentSpec]]:
        """The best teams of complete students that add to the front, if there are any."""
        bank, losses = self.schooling.bank, self.schooling.losses
        complete: dict[str, dict[StudentSpec, float]] = {group: {} for group in self.setup.spec.groups}
        for group, spec, rung in losses.returns:
            if rung == bank.last(spec).rung:
                complete[group][spec] = losses.loss(group, spec, rung).mean
        options = price_options(self.gate, complete)
        if not all(options.values()):
            return []
        board = Board(
            options,
            budget=self.gate.budget,
            teacher=self.gate.pricer.teacher_cost(),
            correction=self.correction,
        )
        found = propose(
            board,
            played=[(team.candidate, team.objectives) for team in played.values()],
            asked=active,
            beaten=beaten,
            count=max(PROPOSALS, len(options) // 2),
            evaluations=max(EVALUATIONS // len(options), LEAST_EVALUATIONS),
            seed=self.setup.config.search.seed + self.turn,
        )
        return [proposal.candidate for proposal in found if proposal.improvement > 0]

    def _freeze(self, played: Mapping[Signature, Played]) -> None:
        """Let the sampler choose for some groups only; all others are as in a team of the front."""
        teams = list(played.values())
        front = [teams[place] for place in non_dominated([team.objectives for team in teams])]
        incumbent: Candidate = front[self.frozen % len(front)].candidate
        groups, free = list(self.setup.space.groups), self.setup.config.search.free_groups
        chosen = {groups[(self.frozen * free + index) % len(groups)] for index in range(free)}
        kept = {group: incumbent[group] for group in groups if group not in chosen}
        self.drafts.study.sampler = freeze(self._sampler, self.setup.space.parameters(kept))
        self.frozen += 1
