"""`Entities`: which features of an observation speak of the agent itself, and which of each thing that it sees."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdnas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EntitySet:
    """Entities of one kind, in no order that means anything: each is given by the indices of its features."""

    name: str
    members: tuple[tuple[int, ...], ...]
    """Entity -> indices of its features in the observation, of equal length and in the same order for all entities."""

    def __post_init__(self) -> None:
        lengths = sorted({len(member) for member in self.members})
        if len(lengths) != 1 or lengths == [0]:
            have = "no member" if not self.members else f"members of {' and '.join(map(str, lengths))} features"
            raise ConfigError(
                f"entities: the members of a set have one and the same number of features, at least 1, but "
                f"{self.name!r} has {have}; leave out an empty set, or declare each kind of entity as a set of its own"
            )

    @property
    def width(self) -> int:
        """Features of one entity."""
        return len(self.members[0])


@dataclass(frozen=True, kw_only=True)
class Entities:
    """How an observation is made up of entities; features that it does not name belong to none.

    Example: simple_spread with three agents, whose positions are relative to the agent's own, is
    `Entities(own=(0, 1, 2, 3), sets=(EntitySet(name="landmarks", members=((4, 5), (6, 7), (8, 9))),
    EntitySet(name="others", members=((10, 11), (12, 13)))))`.
    """

    own: tuple[int, ...]
    """Indices of the features of the agent itself."""
    sets: tuple[EntitySet, ...]

    def __post_init__(self) -> None:
        names = [each.name for each in self.sets]
        for what, given in [("a set named", names), ("feature", self.features)]:
            twice = next((one for index, one in enumerate(given) if one in given[:index]), None)
            if twice is not None:
                raise ConfigError(f"entities: {what} {twice!r} stands twice; each belongs to one entity")
        below = next((feature for feature in self.features if feature < 0), None)
        if below is not None:
            raise ConfigError(f"entities: features are counted from 0, but got {below}")

    @property
    def features(self) -> tuple[int, ...]:
        """All features that it names: the agent's own first, then set by set and member by member."""
        return (*self.own, *(feature for each in self.sets for member in each.members for feature in member))

    def keep(self, features: Sequence[int]) -> "Entities":
        """The declaration of an observation of which only these features are left, in this order; all sets are whole.

        Example: `Entities(own=(0, 1), sets=(EntitySet(name="others", members=((3,), (4,))),)).keep((1, 3, 4))` has
        `own=(0,)` and the members `((1,), (2,))`.
        """
        places = {feature: place for place, feature in enumerate(features)}
        return Entities(
            own=tuple(places[feature] for feature in self.own if feature in places),
            sets=tuple(
                EntitySet(
                    name=each.name,
                    members=tuple(tuple(places[feature] for feature in member) for member in each.members),
                )
                for each in self.sets
            ),
        )

    def check_fits(self, observation_size: int) -> None:
        """Refuse a declaration of features that an observation does not have.

        Raises:
            ConfigError: naming the first of them.
        """
        beyond = next((feature for feature in self.features if feature >= observation_size), None)
        if beyond is not None:
            raise ConfigError(
                f"entities: feature {beyond} is declared, but the observation has {observation_size} features, "
                f"0 to {observation_size - 1}; declare the entities of this observation"
            )
