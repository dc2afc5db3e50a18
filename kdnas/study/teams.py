"""`Teams`: what came of the teams of a search, whichever trials asked for them."""

from dataclasses import dataclass, field

from kdnas.evaluation.sequential import Rival
from kdnas.spaces.space import Candidate
from kdnas.study.attempt import Lost, Played, Signature, signature
from kdnas.study.front import Objectives


@dataclass(kw_only=True)
class Teams:
    """Those that were played, those that others left behind, and those that failed."""

    played: dict[Signature, Played] = field(default_factory=dict)
    lost: dict[Signature, Lost] = field(default_factory=dict)
    """In a race or in their first episodes."""
    failed: list[Candidate] = field(default_factory=list)
    """In a training or when they were played: nobody proposes them again."""

    def remember(self, played: Played) -> bool:
        """Take in a team that was played; says whether it was new."""
        team = signature(played.candidate)
        new = team not in self.played
        self.played.setdefault(team, played)
        return new

    def lose(self, lost: Lost) -> None:
        """Take in a team that was left behind: where it came furthest counts."""
        before = self.lost.get(signature(lost.candidate))
        if before is None or lost.rung > before.rung:
            self.lost[signature(lost.candidate)] = lost

    def hopeless(self, last_rung: int) -> list[Candidate]:
        """Teams that nobody need propose again: they lost in their episodes, or failed."""
        return [lost.candidate for lost in self.lost.values() if lost.rung == last_rung] + self.failed

    @property
    def points(self) -> list[Objectives]:
        """The objectives of those that were played."""
        return [team.objectives for team in self.played.values()]

    @property
    def rivals(self) -> list[Rival]:
        """Those that were played, as others are compared with them."""
        return [team.rival for team in self.played.values()]
