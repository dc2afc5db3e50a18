"""`StudentCard`: what `student.json` says of a team, as strict data."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kdnas.budgets.cost import Cost
from kdnas.config.strict import Strict
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.errors import ConfigError
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.students.refinement import Hindsight, IntervalCard, Refinement

Width = Annotated[int, Field(ge=1, le=65536)]


class ActionsCard(Strict):
    """An action space: the choices of each factor, or the bounds of continuous actions."""

    kind: Literal["discrete", "multi-discrete", "box"]
    counts: tuple[Width, ...] = ()
    low: tuple[float | None, ...] = ()
    """None is no bound, here and in `high`."""
    high: tuple[float | None, ...] = ()
    squashed: bool = False

    @classmethod
    def of(cls, space: ActionSpace) -> Self:
        """The card of an action space."""
        if isinstance(space, Box):
            low, high = (
                tuple(value if math.isfinite(value) else None for value in bound) for bound in (space.low, space.high)
            )
            return cls(kind="box", low=low, high=high, squashed=space.squashed)
        return cls(kind="discrete" if isinstance(space, Discrete) else "multi-discrete", counts=space.counts)

    @model_validator(mode="after")
    def _is_a_space(self) -> Self:
        if self.kind == "discrete" and len(self.counts) != 1:
            raise ValueError(f"discrete actions have one count, but got {self.counts}")
        try:
            _ = self.space
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def space(self) -> ActionSpace:
        """The action space of the card."""
        if self.kind == "box":
            low = tuple(-math.inf if value is None else value for value in self.low)
            high = tuple(math.inf if value is None else value for value in self.high)
            return Box(low, high, self.squashed)
        return Discrete(self.counts[0]) if self.kind == "discrete" else MultiDiscrete(self.counts)


class EntitySetCard(Strict):
    """Entities of one kind, as `kdnas.envs.entities.EntitySet` says."""

    name: str
    members: tuple[tuple[int, ...], ...]


class EntitiesCard(Strict):
    """What the features of an observation speak of, as `kdnas.envs.entities.Entities` says."""

    own: tuple[int, ...]
    sets: tuple[EntitySetCard, ...]

    @classmethod
    def of(cls, entities: Entities) -> Self:
        """The card of a declaration."""
        return cls(own=entities.own, sets=tuple(EntitySetCard(name=s.name, members=s.members) for s in entities.sets))

    @property
    def entities(self) -> Entities:
        """The declaration of the card.

        Raises:
            ConfigError: it contradicts itself.
        """
        return Entities(own=self.own, sets=tuple(EntitySet(name=s.name, members=s.members) for s in self.sets))


class SpacesCard(Strict):
    """The spaces of one agent."""

    observation_size: Width
    actions: ActionsCard
    masked: bool
    entities: EntitiesCard | None = None
    constant: tuple[int, ...] = ()
    """Features that never changed in the demonstrations: shown to the student, and not read."""
    pruned: tuple[int, ...] = ()
    """Features that the student was pruned of: shown, and not read either."""

    @model_validator(mode="after")
    def _are_spaces(self) -> Self:
        try:
            _ = self.spec
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @classmethod
    def of(cls, spaces: AgentSpec) -> Self:
        """The card of spaces."""
        return cls(
            observation_size=spaces.observation_size,
            actions=ActionsCard.of(spaces.actions),
            masked=spaces.masked,
            entities=None if spaces.entities is None else EntitiesCard.of(spaces.entities),
            constant=spaces.constant,
            pruned=spaces.pruned,
        )

    @property
    def spec(self) -> AgentSpec:
        """The spaces of the card."""
        return AgentSpec(
            observation_size=self.observation_size,
            actions=self.actions.space,
            masked=self.masked,
            entities=None if self.entities is None else self.entities.entities,
            constant=self.constant,
            pruned=self.pruned,
        )


class NormalisationCard(Strict):
    """Shift and scale of each feature that the network reads."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]


class GroupCard(Strict):
    """One group of the team: its agents, their spaces, and the student that they share."""

    agents: Annotated[tuple[str, ...], Field(min_length=1)]
    spaces: SpacesCard
    spec: dict[str, Any]
    """As `StudentSpec.as_json` writes it."""
    view: dict[str, Any] | None = None
    """What the students see of what the environment shows, as `View.as_json` writes it; null sees all."""
    normalisation: NormalisationCard | None = None


class Hashes(Strict):
    """What the students come from, by content."""

    teacher: dict[str, str]
    """Group -> hash of the teacher's network."""
    study: str
    weights: str
    """SHA-256 of `student.safetensors`."""


class ArtifactCard(Strict):
    """An exported form, and what it was checked on."""

    format: str
    files: tuple[str, ...]
    checked_rows: int
    agreed_rows: int
    max_error: float
    note: str = ""
    """What could not be checked, in a sentence."""
    hashes: dict[str, str]
    """File -> its SHA-256."""


class TargetCard(Strict):
    """Where the students were measured."""

    name: str
    exporter: str
    """The form in which they run there."""
    fingerprint: dict[str, str]
    note: str
    """What the figures are."""


class StudentCard(Strict):
    """`student.json`."""

    schema_version: Literal[1] = 1
    kdnas_version: str
    environment: str
    trial: int
    state_size: int
    groups: Annotated[dict[str, GroupCard], Field(min_length=1)]
    cost: dict[str, Any]
    """Team sums, `worst_agent`, `teacher` and `groups`, in base units."""
    score: dict[str, Any]
    """`retention` and `return` with their intervals, and on which seeds they were played."""
    refinements: tuple[Refinement, ...] = ()
    """What was done to the students after the search, all of them in their seats, in this order."""
    hindsight: Hindsight | None = None
    """How good the search's estimate was."""
    hashes: Hashes
    target: TargetCard
    artifacts: tuple[ArtifactCard, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Whoever reads a card may count on its prices and its score."""
        try:
            groups = [self.cost["groups"][group] for group in self.groups]
            for entry in (self.cost, self.cost["worst_agent"], self.cost["teacher"], *groups):
                Cost.from_json(entry)
                for number in (entry["flops"], entry["latency_s"]["p99"], entry["latency_s"]["reference"]):
                    float(number)
            for what in ("retention", "return"):
                IntervalCard(**self.score[what])
            str(self.score["seeds"])
        except KeyError as error:
            raise ValueError(f"cost or score lack {error}") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"cost or score are no tables of numbers ({error})") from error
        return self
