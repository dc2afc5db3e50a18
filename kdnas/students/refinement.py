"""What the end of a search did to a team, as strict data: each stage of it, and how good the estimates were."""

from kdnas.config.strict import Strict


class IntervalCard(Strict):
    """A mean over episodes with its 95 % interval."""

    mean: float
    low: float
    high: float
    episodes: int


class Refinement(Strict):
    """One stage that all students of a team went through together, and whether its weights were kept."""

    stage: str
    kept: bool
    gain: IntervalCard | None = None
    """How much more retention the team had afterwards on the validation episodes; None where it could not be played."""
    failure: str = ""
    """Why it could not."""

    def __str__(self) -> str:
        done = f"{self.stage} was {'kept' if self.kept else 'refused'}"
        if self.gain is None:
            return f"{done}: {self.failure}"
        gain = self.gain
        return (
            f"{done}: retention {gain.mean:+.4f} (95 % interval {gain.low:+.4f} to {gain.high:+.4f}) on "
            f"{gain.episodes:,} validation episodes"
        )


class Hindsight(Strict):
    """What the search thought of a team, and what the final episodes, on which nothing was chosen, say."""

    search: IntervalCard
    """Retention of the weights of the search on its own episodes, by which the team came to the front."""
    final: IntervalCard
    """Retention of the same weights on the final episodes."""
    refinement: IntervalCard | None = None
    """How much more retention the refined weights have on the final episodes; None where none were kept."""

    @property
    def excess(self) -> float:
        """How much the search overrated the team: the best of many estimates is too high (the winner's curse)."""
        return self.search.mean - self.final.mean
