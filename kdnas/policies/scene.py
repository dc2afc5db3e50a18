"""`Scene`: what B copies of an environment show a team before it acts."""

from collections.abc import Mapping
from dataclasses import dataclass

from kdnas.policies.arrays import Bools, Floats


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that a joint policy may read, by group of A agents."""

    observations: Mapping[str, Floats]
    """Group -> (B, A, O): what the environment shows, which is what teachers see."""
    views: Mapping[str, Floats]
    """Group -> (B, A, V): what the group's student sees of it; the same arrays where the study limits nothing."""
    masks: Mapping[str, Bools | None]
    """Group -> (B, A, N) legal actions, or None where the environment sends none."""
    alive: Mapping[str, Bools]
    """Group -> (B, A): agents whose next action counts."""
    state: Floats
    """(B, S) global state."""
    first: bool
    """The episodes begin here: a policy that remembers forgets."""
