"""`[observe]`: what students see, of what their environment shows."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from kdnas.config.numbers import Count, Features, NonNegative, Positive
from kdnas.config.strict import Strict


class EntitySetTable(Strict):
    """`[observe.GROUP.entities.SET]`: things of one kind that the agents see, for example the landmarks."""

    members: Annotated[tuple[Features, ...], Field(min_length=1)]
    """The features of each of them, equally many and in the same order, for example `["4-5", "6-7"]`."""
    position: Features | None = None
    """Which features of a member, counted from 0, are its position relative to the agent: its length is the distance.
    For example `[0, 1]`; `nearest` and `radius` need it."""


class EntitiesTable(Strict):
    """`[observe.GROUP.entities]`: whose the features are. Features that are named nowhere are not seen."""

    # Every key but `own` is a set by name.
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, EntitySetTable]

    own: Features | None = None
    """Features of the agent itself."""

    @property
    def sets(self) -> dict[str, EntitySetTable]:
        """Name -> set, in the order of the file."""
        return dict(self.__pydantic_extra__)


class ObserveTable(Strict):
    """`[observe.GROUP]`: what the students of a group see of what the environment shows; its teacher sees all of it.

    `[observe.default]` is for groups without a table of their own. Features are counted in the environment's
    observation. A view holds the features in the environment's order; with entities, the agent's own first, and then
    set by set and member by member.
    """

    keep: Features | None = None
    """Only these features are seen."""
    drop: Features | None = None
    """Or all but these."""
    entities: EntitiesTable | None = None
    """Whose the features are; without it the environment's own declaration counts, where it has one."""
    nearest: dict[str, Count] = Field(default_factory=dict)
    """Set -> k: only its k nearest members are seen, the nearest first; of equally near ones the first declared."""
    radius: Positive | dict[str, Positive] | None = None
    """How far the agents see, in the environment's units: for all sets, or set -> radius. Of a member farther away
    zeros are seen; a flag behind each member's features, 1 if it is seen and 0 if not, tells "nothing" from "here"."""
    noise: NonNegative = 0.0
    """Standard deviation of the Gaussian noise on every feature that is seen, flags excepted. Who is near and within
    sight is decided without it. It derives from the episode's seed."""

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.keep is not None and self.drop is not None:
            raise ValueError("give either keep (the features that are seen) or drop (those that are not)")
        return self
