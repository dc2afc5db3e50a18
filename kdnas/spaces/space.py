"""`SearchSpace`: the declared set of candidates, per agent group."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field

from kdnas.config.strict import Strict
from kdnas.errors import ConfigError, name_nearest
from kdnas.spaces.spec import Bits, StudentSpec

MAX_SPECS = 20_000
"""Choices of one group; beyond it pre-flight could not list them all."""

_BITS = re.compile(r"w([0-9]+)a([0-9]+)i([0-9]+)")


def parse_bits(text: str) -> Bits:
    """Read `float` or `w4a8i8`.

    Raises:
        ConfigError: anything else, or widths outside 2 to 8.
    """
    if text == "float":
        return Bits()
    match = _BITS.fullmatch(text)
    if match is None:
        raise ConfigError(f"bits {text!r}: write 'float' or for example 'w4a8i8' (weights, activations, inputs)")
    weight, activation, inputs = (int(width) for width in match.groups())
    return Bits(input=inputs, weight=weight, activation=activation)


def _readable(text: str) -> str:
    try:
        parse_bits(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


def _distinct(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    # Optuna records the choice by its place in the list, so a value in two places would be two parameters.
    twice = [choice for index, choice in enumerate(choices) if choice in choices[:index]]
    if twice:
        raise ValueError(f"each choice must stand once, but {twice[0]!r} stands twice")
    return choices


Width = Annotated[int, Field(ge=1, le=4096, strict=True)]
Ratio = Annotated[float, Field(ge=0.0, lt=1.0, strict=True)]
Format = Annotated[str, AfterValidator(_readable)]


class BaseTable(Strict):
    """`[[groups.NAME.bases]]`: a dense network from which candidates are pruned."""

    family: str = "mlp"
    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
    """Widths of its hidden layers; their number is the depth."""
    prune: Annotated[tuple[Ratio, ...], Field(min_length=1), AfterValidator(_distinct)]
    """Pruning ratios to choose from, for each hidden layer on its own: the share of units that is removed."""
    round_to: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    """Widths become multiples of this, which a target's vector unit may like; never more than the base's."""


class GroupTable(Strict):
    """`[groups.NAME]`: the choices of one agent group; `default` is for groups without a table of their own."""

    bases: Annotated[tuple[BaseTable, ...], Field(min_length=1)]
    bits: Annotated[tuple[Format, ...], Field(min_length=1), AfterValidator(_distinct)] = ("float",)
    """Number formats: `float`, or `wWaAiI` with the bits of weights, activations and inputs, for example `w4a8i8`."""


class SpaceConfig(Strict):
    """A search-space file."""

    name: str
    description: str = ""
    groups: dict[str, GroupTable]


class Suggests(Protocol):
    """The part of an Optuna trial that sampling needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


def pruned_width(dense: int, ratio: float, round_to: int = 1) -> int:
    """Units left when a share of them is removed: a multiple of `round_to`, at least one of it, halves rounded up.

    Example: 64 units less 0.7 of them are 19.2, which is 19, or 20 rounded to multiples of 4. A base that is itself no
    multiple keeps all its units where it would have to grow.
    """
    # 15 * (1 - 0.9) is 1.4999999999999998 in floats; the decimal 1.5 that was written rounds up.
    return min(dense, round_to * max(1, int(dense * (1.0 - ratio) / round_to + 0.5 + 1e-9)))


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
        hidden = tuple(
            pruned_width(width, ratio, dense.round_to) for width, ratio in zip(dense.hidden, ratios, strict=True)
        )
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
            name: value
            for group, spec in candidate.items()
            for name, value in self.groups[group].parameters[spec].items()
        }

    @property
    def digest(self) -> str:
        """Content hash of the choices, group by group; names and descriptions may change without changing it."""
        choices = {group: space.table.model_dump() for group, space in self.groups.items()}
        return hashlib.sha256(json.dumps(choices).encode()).hexdigest()[:16]


def make_space(config: SpaceConfig, groups: Sequence[str]) -> SearchSpace:
    """Give every group of an environment its table, or `default`.

    Raises:
        ConfigError: a table for a group that is not there, a group without one, or too many specs.
    """
    for name in config.groups:
        if name != "default" and name not in groups:
            raise ConfigError(
                f"space {config.name!r}: [groups.{name}] is no group here: {name_nearest(name, [*groups, 'default'])}"
            )
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
