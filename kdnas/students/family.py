"""The contract of a student family: how its networks are built, shrunk, quantized and priced."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kdnas import plugins
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.arrays import Floats
from kdnas.spaces.spec import StudentSpec
from kdnas.students.activation import Activation

PLACE_BYTES = 2
"""Of where one input stands, in the table of a student that was pruned of others."""


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """One matrix-vector product of a network, as far as its price goes: `rows` outputs, `columns` inputs."""

    rows: int
    columns: int
    weight_bits: int
    input_bits: int
    """Bits of the vector that it reads."""
    output_bits: int
    """Bits of the vector that it writes: an integer layer's logits stay in their 32-bit accumulators."""
    bias: bool = True
    scales: int = 0
    """Scale factors that the layer stores: of its weights (one, or one a row) and of the vector it writes (and, first
    layer, reads)."""
    exponents: int = 0
    """Of those that are powers of two it stores the exponents, a byte each."""
    times: int = 1
    """How often one decision applies it: once for each of the entities that share an encoder."""
    writes: int | None = None
    """Entries of the vector that it writes, where those are not `rows` each time: what encoders of entities say is
    averaged, and stands beside what other layers wrote."""
    table_bytes: int = 0
    """Of constants that are no weights, biases or scales: where inputs stand, and curves that are looked up."""
    recurrent: bool = False
    """The vector that it reads was written in the step before and is kept in between."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one decision."""
        return self.times * self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where units stand in a parameter: unit k at `start` + k of an axis."""

    parameter: str
    """As `named_parameters` names it."""
    axis: int
    start: int = 0


@dataclass(frozen=True, kw_only=True)
class Units:
    """Hidden units that compete for places in the pruned network, and all places in which each of them stands.

    Example: unit k of a GRU cell of H stands in rows k, k + H and k + 2H of its two matrices and biases, in column k of
    the matrix that reads the hidden state, and in column k of the layer after the cell.
    """

    layer: int
    """Index of their width in `spec.hidden`."""
    places: tuple[Place, ...]


class Family(Protocol):
    """A kind of student network.

    A spec may give each layer bits of its own and ask for scales that are powers of two (`Bits`); a family that has no
    such students says so in `quantize` and `layers`, as `common_bits` does.

    One object a family, without state; it is registered under `kdnas.students`. Networks map observations (rows, O) to
    outputs (rows, N), with N = `spaces.actions.outputs`; recurrent ones map them and a hidden state (rows, H), zeros at
    the beginning of an episode, to outputs and the next hidden state. Recurrent networks may have
    `unroll(views (K, T, V), hidden (K, H)) -> (K, T, N)`, which answers as T steps would and is faster.

    `spaces` are those of a network, `AgentSpec.inputs`: what never changes, and what it was pruned of, is kept from it
    by the student.

    Nothing here may train, and nothing may draw from a global generator.
    """

    name: str
    chain: Activation | None
    """What stands between `layers` where they, one after the other, are the whole network, so that its latency can be
    told from them alone; None for other networks."""

    def build(self, spec: StudentSpec, spaces: AgentSpec, generator: torch.Generator) -> nn.Module:
        """A fresh float network of `spec.hidden` widths; `spec.bits` is left alone.

        Raises:
            StudentError: no network of this family has such widths, or reads such observations.
        """
        ...

    def prunable(self, network: nn.Module) -> list[nn.Module]:
        """The layers whose outputs are the hidden units of `spec.hidden`, in its order.

        torch-pruning finds by itself what else belongs to a unit. Not asked where `units` answers.
        """
        ...

    def units(self, spec: StudentSpec, spaces: AgentSpec) -> list[Units] | None:
        """The units of `spec.hidden` by their places, for families that torch-pruning does not understand, or None.

        The parameters of a pruned network are those of the dense one, less the entries of the units that it lost.
        """
        ...

    def quantize(self, network: nn.Module, spec: StudentSpec) -> nn.Module:
        """A quantized network of the same shape with the float one's weights; the float one is left as it is."""
        ...

    def hidden_size(self, spec: StudentSpec) -> int:
        """Numbers that a recurrent network remembers from one step to the next; 0 for one that remembers nothing."""
        ...

    def layers(self, spec: StudentSpec, spaces: AgentSpec) -> list[LayerShape]:
        """What the network of a spec computes, for the memory formula and the BOPs."""
        ...


@runtime_checkable
class TwinMaker(Protocol):
    """What a family may have besides: a cheaper way to train its quantized networks, which are slow in brevitas."""

    def training_twin(self, quantized: nn.Module) -> nn.Module:
        """A module on the very parameters of a calibrated quantized network, so that training it trains the network.

        In evaluation mode it answers as the network does, to the last bit, before it is trained and afterwards. It may
        be a `Settling` one.
        """
        ...


@runtime_checkable
class Selective(Protocol):
    """What a family may have besides: networks that can be pruned of inputs.

    `layers` of a spec with `inputs` has `PLACE_BYTES` of table for each of them, which says where it stands.
    """

    def inputs(self, spec: StudentSpec) -> tuple[Place, ...]:
        """All places in which inputs stand in the parameters of a float network: input k at `start` + k of an axis."""
        ...


@runtime_checkable
class Gathering(Protocol):
    """What a family may have besides: networks that read some features only of what they are shown."""

    def gathered(self, spaces: AgentSpec) -> int:
        """How many."""
        ...


class IntegerForm(Protocol):
    """A quantized network as a device computes it, in NumPy: `kdnas.students.integer` says how everything is rounded.

    The C exporter knows those of `integer_mlp`, `integer_gru` and `integer_deepset`, whatever family they are of.
    """

    def begin(self, rows: int) -> NDArray[np.int32] | None:
        """The integers of hidden states (rows, H) at the beginning of an episode; None if it remembers nothing."""
        ...

    def step(self, inputs: Floats, hidden: NDArray[np.int32] | None) -> tuple[Floats, NDArray[np.int32] | None]:
        """Inputs (B, O) and hidden states (B, H) or None -> outputs (B, N) and the next states."""
        ...


@runtime_checkable
class IntegerMaker(Protocol):
    """What a family may have besides: its quantized networks in integers, so that they can be written in C."""

    def integers(self, network: nn.Module, spec: StudentSpec) -> IntegerForm:
        """The integers of a calibrated quantized network of finite weights.

        Raises:
            StudentError: it is not calibrated, or its sums may leave 32 bits.
        """
        ...


@runtime_checkable
class Settling(Protocol):
    """A twin that turns from float into integers while it is trained."""

    def settle(self, progress: float) -> None:
        """Called in training at growing progress: 0 before the first step, 1 after the last."""
        ...

    def hold(self) -> None:
        """Hold every weight at its nearest integer until `settle(1.0)`, while everything else is trained."""
        ...


def common_bits(spec: StudentSpec) -> tuple[int, int]:
    """Bits of all weights and of all activations, for a family whose layers have them in common.

    Raises:
        StudentError: the spec has bits of each layer, or scales that are powers of two.
    """
    weight, activation = spec.bits.weight, spec.bits.activation
    if isinstance(weight, tuple) or isinstance(activation, tuple) or spec.bits.power_of_two:
        what = "bits of each layer" if spec.bits.mixed else "scales that are powers of two"
        raise StudentError(
            f"student {spec}: the family {spec.family!r} has no {what}; write for example w4a8i8, or take mlp or "
            "mlp_softsign"
        )
    return weight, activation


def read_features(family: Family, spaces: AgentSpec) -> int:
    """How many features of an observation the networks of a family read, and so how many are normalised for them."""
    return family.gathered(spaces) if isinstance(family, Gathering) else spaces.observation_size


def load_family(name: str) -> Family:
    """The family registered under a name.

    Raises:
        PluginError: there is none.
    """
    family: Family = plugins.load("kdnas.students", name)
    return family
