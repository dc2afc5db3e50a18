"""`Field`: everyone who has come to a rung of the race, by rung."""

from dataclasses import dataclass, field

from kdnas.study.race import Standing, bands, order, promotable

PATIENCE = 2
"""A trial is out of the race when so many times as many stand before it in its band as may go on."""


@dataclass(kw_only=True)
class Field:
    """Who stands at each rung of a race, and who has gone on.

    Trials that ended keep their place, so that those who come later are compared with them.
    """

    reduction: int
    """One of so many goes on, rounded up."""
    margin: float = 0.0
    """How far predictions of retention were off."""
    standings: dict[int, dict[int, Standing]] = field(default_factory=dict)
    """Rung -> trial -> where it stands."""
    promoted: dict[int, set[int]] = field(default_factory=dict)
    """Rung -> trials that went on."""

    def enter(self, rung: int, standing: Standing) -> None:
        """A trial has come to a rung."""
        self.standings.setdefault(rung, {})[standing.trial] = standing

    def go_on(self, rung: int, trial: int) -> None:
        """A trial has left a rung for the next."""
        self.promoted.setdefault(rung, set()).add(trial)

    def may_go_on(self, rung: int) -> list[int]:
        """Trials of a rung that may go on, best first."""
        standings = list(self.standings.get(rung, {}).values())
        promoted = self.promoted.get(rung, set())
        return promotable(standings, promoted, reduction=self.reduction, margin=self.margin)

    def hopeless(self, rung: int) -> list[int]:
        """Trials of a rung that only a crowd of far worse ones would still bring on.

        Example: of 6 in a band 2 go on (reduction 3), and those behind the fourth are out.
        """
        promoted, willing = self.promoted.get(rung, set()), set(self.may_go_on(rung))
        out = []
        for band in bands(list(self.standings.get(rung, {}).values())):
            places = -(-len(band) // self.reduction)
            behind = [standing.trial for standing in order(band)[PATIENCE * places :]]
            out += [trial for trial in behind if trial not in promoted and trial not in willing]
        return out
