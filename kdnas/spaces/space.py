"""`SearchSpace`: the declared set of candidates, per agent group."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Protocol, Self

from pydantic import Field, model_validator

from kdnas.config.study import Strict
from kdnas.errors import ConfigError, name_nearest
from kdnas.spaces.spec import FLOAT_BITS, Bits, StudentSpec

MAX_SPECS = 20_000
"""Realised specs of one group; beyond it pre-flight could not list them all."""


class BaseTable(Strict):
    """`[[groups.NAME.bases]]`: a dense network from which candidates are pruned."""

    family: str = "mlp"
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=8)]
    """Widths of its hidden layers; their number is the depth."""
    prune: Annotated[tuple[Annotated[float, Field(ge=0.0, lt=1.0)], ...], Field(min_length=1)]
    """Pruning ratios to choose from, for each hidden layer on its own: the share of units that is removed."""


class GroupTable(Strict):
    """`[groups.NAME]`: the choices of one agent group; `default` is for groups without a table of their own."""

    bases: Annotated[tuple[BaseTable, ...], Field(min_length=1)]
    bits: Annotated[tuple[str, ...], Field(min_length=1)] = ("float",)
    """Number formats: `float`, or `wWaAiI` with the bits of weights, activations and inputs, for example `w4a8i8`."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for text in self.bits:
            parse_bits(text)
        return self


class SpaceConfig(Strict):
    """A search-space file."""

    name: str
    description: str = ""
    groups: dict[str, GroupTable]


class Suggests(Protocol):
    """The part of an Optuna trial that sampling needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


def parse_bits(text: str) -> Bits:
    """Read `float` or `w4a8i8`.

    Raises:
        ConfigError: anything else, or widths outside 2 to 8.
    """
    if text == "float":
        return Bits()
    try:
        weight, rest = text.removeprefix("w").split("a")
        activation, inputs = rest.split("i")
        return Bits(input=int(inputs), weight=int(weight), activation=int(activation))
    except ValueError as error:
        raise ConfigError(f"bits {text!r}: write 'float' or for example 'w4a8i8' (weights, activations, inputs)") from error


def pruned_width(dense: int, ratio: float) -> int:
    """Units left when a share of them is removed: at least one, halves rounded up."""
    return max(1, int(dense * (1.0 - ratio) + 0.5))


@dataclass(frozen=True, kw_only=True)
class GroupSpace:
    """The choices of one group. Parameters are named `GROUP.base`, `GROUP.B.prune.LAYER`, `GROUP.bits`."""

    group: str
    table: GroupTable

    def sample(self, trial: Suggests) -> StudentSpec:
        """Ask an Optuna trial for one student; only the chosen base's pruning ratios are asked."""
        base = trial.suggest_categorical(f"{self.group}.base", list(range(len(self.table.bases))))
        dense = self.table.bases[base]
        ratios = [
            trial.suggest_categorical(f"{self.group}.{base}.prune.{layer}", list(dense.prune))
            for layer in range(len(dense.hidden))
        ]
        bits = trial.suggest_categorical(f"{self.group}.bits", list(self.table.bits))
        return self._realise(base, ratios, bits)

    @cached_property
    def parameters(self) -> dict[StudentSpec, dict[str, Any]]:
        """Every realised spec with the (first) parameters that lead to it, in the order of the file."""
        found: dict[StudentSpec, dict[str, Any]] = {}
        for base, dense in enumerate(self.table.bases):
            for ratios in product(dense.prune, repeat=len(dense.hidden)):
                for bits in self.table.bits:
                    spec = self._realise(base, ratios, bits)
                    if spec not in found:
                        layers = {f"{self.group}.{base}.prune.{layer}": ratio for layer, ratio in enumerate(ratios)}
                        found[spec] = {f"{self.group}.base": base, **layers, f"{self.group}.bits": bits}
        return found

    def _realise(self, base: int, ratios: Sequence[float], bits: str) -> StudentSpec:
        dense = self.table.bases[base]
        hidden = tuple(pruned_width(width, ratio) for width, ratio in zip(dense.hidden, ratios, strict=True))
        return StudentSpec(family=dense.family, base=dense.hidden, hidden=hidden, bits=parse_bits(bits))


Candidate = Mapping[str, StudentSpec]
"""One point of the space: group -> its student's spec."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All candidates of a team: one `GroupSpace` for each group of the environment."""

    config: SpaceConfig
    groups: Mapping[str, GroupSpace]

    def sample(self, trial: Suggests) -> dict[str, StudentSpec]:
        """Ask an Optuna trial for one candidate."""
        return {group: space.sample(trial) for group, space in self.groups.items()}

    def parameters(self, candidate: Candidate) -> dict[str, Any]:
        """The Optuna parameters that lead to a candidate of this space."""
        return {
            name: value for group, spec in candidate.items() for name, value in self.groups[group].parameters[spec].items()
        }

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()[:16]


def make_space(config: SpaceConfig, groups: Sequence[str]) -> SearchSpace:
    """Give every group of an environment its table, or `default`.

    Raises:
        ConfigError: a table for a group that is not there, a group without one, or too many specs.
    """
    for name in config.groups:
        if name != "default" and name not in groups:
            raise ConfigError(f"space {config.name!r}: [groups.{name}] is no group here: {name_nearest(name, [*groups, 'default'])}")
    spaces = {}
    for group in groups:
        table = config.groups.get(group, config.groups.get("default"))
        if table is None:
            raise ConfigError(f"space {config.name!r}: neither [groups.{group}] nor [groups.default] is there")
        size = sum(len(base.prune) ** len(base.hidden) for base in table.bases) * len(table.bits)
        if size > MAX_SPECS:
            raise ConfigError(
                f"space {config.name!r}: group {group!r} has {size:,} choices, {MAX_SPECS:,} at most; "
                "offer fewer pruning ratios, bases or bits"
            )
        spaces[group] = GroupSpace(group=group, table=table)
    return SearchSpace(config=config, groups=spaces)


__all__ = [
    "FLOAT_BITS", "BaseTable", "Bits", "Candidate", "GroupSpace", "GroupTable", "SearchSpace", "SpaceConfig",
    "StudentSpec", "Suggests", "make_space", "parse_bits", "pruned_width",
]  # fmt: skip
