"""`SearchSpace`: the declared set of candidates, per agent group."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Protocol, Self

from pydantic import AfterValidator, Field, model_validator

from kdnas.config.strict import Strict
from kdnas.errors import ConfigError, name_nearest
from kdnas.spaces.choices import distinct
from kdnas.spaces.mixed import MIXED, MixedTable
from kdnas.spaces.spec import Bits, StudentSpec

MAX_SPECS = 20_000
"""Choices of one group; beyond it pre-flight could not list them all."""

_BITS = re.compile(r"w([0-9]+(?:-[0-9]+)*)a([0-9]+(?:-[0-9]+)*)i([0-9]+)(p?)")


def parse_bits(text: str) -> Bits:
    """Read `float` or `w4a8i8`; `w8-4a4i8` has bits of each layer, `w4a8i8p` scales that are powers of two.

    Raises:
        ConfigError: anything else, or widths outside 2 to 8.
    """
    if text == "float":
        return Bits()
    match = _BITS.fullmatch(text)
    if match is None:
        raise ConfigError(f"bits {text!r}: write 'float' or for example 'w4a8i8' (weights, activations, inputs)")
    weight, activation = (tuple(map(int, widths.split("-"))) for widths in match.groups()[:2])
    return Bits(input=int(match[3]), weight=weight, activation=activation, power_of_two=bool(match[4]))


def _readable(text: str) -> str:
    try:
        parse_bits(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


def _distinct_formats(texts: tuple[str, ...]) -> tuple[str, ...]:
    """However they are spelt: `w8a8i8` and `w08a8i8` are one format."""
    distinct(tuple(str(parse_bits(text)) for text in texts))
    return texts


Width = Annotated[int, Field(ge=1, le=4096, strict=True)]
Ratio = Annotated[float, Field(ge=0.0, lt=1.0, strict=True)]
Share = Annotated[float, Field(gt=0.0, le=1.0, strict=True)]
Format = Annotated[str, AfterValidator(_readable)]


class BaseTable(Strict):
    """`[[groups.NAME.bases]]`: a dense network from which candidates are pruned."""

    family: str = "mlp"
    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)]
    """Widths of its hidden layers; their number is the depth."""
    prune: Annotated[tuple[Ratio, ...], Field(min_length=1), AfterValidator(distinct)]
    """Pruning ratios to choose from, for each hidden layer on its own: the share of units that is removed."""
    round_to: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    """Widths become multiples of this, which a target's vector unit may like; never more than the base's."""
    inputs: Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(distinct)] = (1.0,)
    """Shares of the inputs to choose from: so many are kept of those that change. The family has to be one that can do
    without some (`kdnas.students.Selective`)."""

    @property
    def widths(self) -> str:
        """`64x64`."""
        return "x".join(map(str, self.hidden))


class GroupTable(Strict):
    """`[groups.NAME]`: the choices of one agent group; `default` is for groups without a table of their own."""

    bases: Annotated[tuple[BaseTable, ...], Field(min_length=1)]
    bits: Annotated[tuple[Format, ...], AfterValidator(_distinct_formats)] = ("float",)
    """Number formats: `float`, or `wWaAiI` with the bits of weights, activations and inputs, for example `w4a8i8`. `W`
    and `A` may be those of each layer, `w8-4-8a8-4i8`; a `p` at the end makes scales powers of two. None is enough
    beside `mixed`."""
    mixed: MixedTable | None = None
    """Bits that are chosen for each layer on its own, as one more number format."""

    @model_validator(mode="after")
    def _some_format(self) -> Self:
        if not self.formats:
            raise ValueError("bits must name at least one number format where there is no mixed")
        return self

    @property
    def formats(self) -> tuple[str, ...]:
        """What `GROUP.bits` is chosen from."""
        return self.bits + (MIXED,) * (self.mixed is not None)


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


def kept_inputs(features: int, share: float) -> int | None:
    """Inputs left of those that change when a share of them is kept: at least one, halves rounded up; None for all.

    Example: three quarters of 14 are 10.5, which is 11; 0.99 of 14 are all.
    """
    kept = max(1, int(features * share + 0.5 + 1e-9))
    return kept if kept < features else None


@dataclass(frozen=True, kw_only=True)
class GroupSpace:
    """The choices of one group. Parameters are named `GROUP.base`, `GROUP.B.prune.LAYER`, `GROUP.B.inputs` where a base
    has a choice of them, and `GROUP.bits`; where that is `mixed`, those of `MixedTable` follow."""

    group: str
    table: GroupTable
    features: int = 0
    """Inputs that change, of which a share is kept: see `SearchSpace.seeing`."""

    def sample(self, trial: Suggests) -> StudentSpec:
        """Ask an Optuna trial for one student; only the chosen base's pruning ratios are asked."""
        base = trial.suggest_categorical(f"{self.group}.base", list(range(len(self.table.bases))))
        dense = self.table.bases[base]
        ratios = [
            trial.suggest_categorical(f"{self.group}.{base}.prune.{layer}", list(dense.prune))
            for layer in range(len(dense.hidden))
        ]
        share = dense.inputs[0]
        if len(dense.inputs) > 1:
            share = trial.suggest_categorical(f"{self.group}.{base}.inputs", list(dense.inputs))
        bits = trial.suggest_categorical(f"{self.group}.bits", list(self.table.formats))
        if bits != MIXED or self.table.mixed is None:
            return self._realise(base, ratios, share, parse_bits(bits))
        depth, mixed = len(dense.hidden), self.table.mixed
        answers = {
            name: trial.suggest_categorical(f"{self.group}.{name}", list(choices))
            for name, choices in mixed.asked(base, depth).items()
        }
        return self._realise(base, ratios, share, mixed.format(base, depth, answers))

    @cached_property
    def parameters(self) -> dict[StudentSpec, dict[str, Any]]:
        """Every realised spec with the (first) parameters that lead to it, in the order of the file."""
        found: dict[StudentSpec, dict[str, Any]] = {}
        for base, dense in enumerate(self.table.bases):
            formats = self._formats(base)
            for ratios in product(dense.prune, repeat=len(dense.hidden)):
                for share, (asked, bits) in product(dense.inputs, formats):
                    spec = self._realise(base, ratios, share, bits)
                    if spec not in found:
                        own = {f"{self.group}.{base}.prune.{layer}": ratio for layer, ratio in enumerate(ratios)}
                        if len(dense.inputs) > 1:
                            own[f"{self.group}.{base}.inputs"] = share
                        found[spec] = {f"{self.group}.base": base, **own, **asked}
        return found

    def _formats(self, base: int) -> list[tuple[dict[str, Any], Bits]]:
        """Of a base, the parameters that say which format, and the format."""
        listed = [({f"{self.group}.bits": text}, parse_bits(text)) for text in self.table.bits]
        if self.table.mixed is None:
            return listed
        mixed = self.table.mixed.formats(base, len(self.table.bases[base].hidden))
        return listed + [
            ({f"{self.group}.bits": MIXED} | {f"{self.group}.{name}": value for name, value in answers.items()}, bits)
            for answers, bits in mixed
        ]

    def describe(self, parameter: str) -> str:
        """A parameter, without its group, in words; one of another kind stays as it is.

        Example: `1.prune.0`, where base 1 has one layer of 64, is `64: pruned from layer 1`.
        """
        found = re.fullmatch(r"([0-9]+)\.(prune|weights|activations)\.([0-9]+)", parameter)
        if found is None:
            return parameter
        what = {"prune": "pruned from", "weights": "bits of the weights of", "activations": "bits of what comes out of"}
        return f"{self.table.bases[int(found[1])].widths}: {what[found[2]]} layer {int(found[3]) + 1}"

    def describe_choice(self, parameter: str, value: Any) -> str:
        """A value of a parameter; a base, which is a place in the list, by its family and widths."""
        if parameter != "base":
            return str(value)
        return f"{self.table.bases[value].family} {self.table.bases[value].widths}"

    def _realise(self, base: int, ratios: Sequence[float], share: float, bits: Bits) -> StudentSpec:
        dense = self.table.bases[base]
        hidden = tuple(
            pruned_width(width, ratio, dense.round_to) for width, ratio in zip(dense.hidden, ratios, strict=True)
        )
        inputs = kept_inputs(self.features, share)
        return StudentSpec(family=dense.family, base=dense.hidden, hidden=hidden, bits=bits, inputs=inputs)


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

    @cached_property
    def most_parameters(self) -> int:
        """The most that a candidate has."""
        return sum(max(map(len, group.parameters.values())) for group in self.groups.values())

    def parameters(self, candidate: Candidate) -> dict[str, Any]:
        """The Optuna parameters that lead to a candidate of this space."""
        return {
            name: value
            for group, spec in candidate.items()
            for name, value in self.groups[group].parameters[spec].items()
        }

    def seeing(self, features: Mapping[str, int]) -> "SearchSpace":
        """The same where each group sees so many inputs that change; before, every share of the inputs is all."""
        groups = {group: replace(space, features=features[group]) for group, space in self.groups.items()}
        return replace(self, groups=groups)

    @property
    def digest(self) -> str:
        """Content hash of the choices, group by group; names and descriptions may change without changing it."""
        choices = {group: space.table.model_dump() for group, space in self.groups.items()}
        return hashlib.sha256(json.dumps(choices).encode()).hexdigest()[:16]


def make_space(config: SpaceConfig, groups: Sequence[str]) -> SearchSpace:
    """Give every group of an environment its table, or `default`.

    Raises:
        ConfigError: a table for a group that is not there, a group without one, bits of each layer for a base that has
            not as many, or too many specs.
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
        _check_depths(table, f"space {config.name!r}: group {group!r}")
        size = sum(_size(base, table) for base in table.bases)
        if size > MAX_SPECS:
            raise ConfigError(
                f"space {config.name!r}: group {group!r} has {size:,} choices, {MAX_SPECS:,} at most; "
                "offer fewer pruning ratios, shares of inputs, bases or bits"
            )
        spaces[group] = GroupSpace(group=group, table=table)
    return SearchSpace(config=config, groups=spaces)


def _size(base: BaseTable, table: GroupTable) -> int:
    """Choices of a base."""
    depth = len(base.hidden)
    formats = len(table.bits) + (table.mixed.count(depth) if table.mixed else 0)
    widths: int = len(base.prune) ** depth
    return widths * len(base.inputs) * formats


def _check_depths(table: GroupTable, where: str) -> None:
    for text, base in product(table.bits, table.bases):
        bits, depth = parse_bits(text), len(base.hidden)
        if (len(bits.weights(depth + 1)), len(bits.activations(depth))) != (depth + 1, depth):
            raise ConfigError(
                f"{where}: bits {text!r} must have one width, or {depth + 1} of weights and {depth} of activations, "
                f"for the base {base.widths}; write mixed for bases of several depths"
            )
