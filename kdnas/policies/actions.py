"""Action spaces: what an agent does in one step, and with how many numbers a network says it.

Plain data, named as in gymnasium. `outputs` is the width of a student's last layer, `parameters` that of a teacher's:
they differ for continuous actions, where a student says where the distribution lies, the teacher also how wide it is.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

from kdnas.errors import ConfigError


@dataclass(frozen=True)
class Discrete:
    """One of `count` choices; an action is an integer () from 0."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"Discrete: at least one choice is needed, but got {self.count}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Choices of each factor: of the only one."""
        return (self.count,)

    @property
    def outputs(self) -> int:
        """Numbers that a student says: one logit a choice."""
        return self.count

    @property
    def parameters(self) -> int:
        """Numbers that a teacher says: the same."""
        return self.count

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return ()


@dataclass(frozen=True)
class MultiDiscrete:
    """One choice in each of K factors, made independently; an action is K integers (K,).

    Logits and masks of the factors stand side by side. Example: `MultiDiscrete((5, 10))` has 15 logits.
    """

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1:
            raise ConfigError(f"MultiDiscrete: each factor needs at least one choice, but got {self.counts}")

    @property
    def outputs(self) -> int:
        """Numbers that a student says: one logit a choice of each factor."""
        return sum(self.counts)

    @property
    def parameters(self) -> int:
        """Numbers that a teacher says: the same."""
        return self.outputs

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return (len(self.counts),)


@dataclass(frozen=True)
class Box:
    """D real numbers (D,) within bounds, from a diagonal Gaussian.

    A network's number becomes an action by clipping to the bounds, or, `squashed`, by
    low + (high - low) (tanh(x) + 1) / 2. A teacher says D means and then D logarithms of deviations, both before that
    map; a student says the means.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    squashed: bool = False

    def __post_init__(self) -> None:
        if not self.low or len(self.low) != len(self.high) or any(not a < b for a, b in self.bounds):
            raise ConfigError(f"Box: low < high must hold in each dimension, but got low={self.low}, high={self.high}")
        if self.squashed and not all(map(math.isfinite, (*self.low, *self.high))):
            raise ConfigError(
                f"Box: squashed actions need finite bounds, but got low={self.low}, high={self.high}; "
                "leave out env.squash, or give the environment bounds"
            )

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """(low, high) of each dimension."""
        return list(zip(self.low, self.high, strict=False))

    @property
    def outputs(self) -> int:
        """Numbers that a student says: one mean a dimension."""
        return len(self.low)

    @property
    def parameters(self) -> int:
        """Numbers that a teacher says: means and logarithms of deviations."""
        return 2 * len(self.low)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return (len(self.low),)


ActionSpace: TypeAlias = Discrete | MultiDiscrete | Box
