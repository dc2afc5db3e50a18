"""The contract of a student family: how its networks are built, shrunk, quantized and priced."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from kdnas import plugins
from kdnas.envs.spec import AgentSpec
from kdnas.spaces.spec import StudentSpec


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


class Family(Protocol):
    """A kind of student network.

    One object a family, without state; it is registered under `kdnas.students`. Networks map observations (rows, O) to
    logits (rows, N). Nothing here may train, and nothing may draw from a global generator.
    """

    name: str

    def build(self, spec: StudentSpec, spaces: AgentSpec, generator: torch.Generator) -> nn.Module:
        """A fresh float network of `spec.hidden` widths; `spec.bits` is left alone."""
        ...

    def prunable(self, network: nn.Module) -> list[nn.Module]:
        """The layers whose outputs are the hidden units of `spec.hidden`, in its order."""
        ...

    def quantize(self, network: nn.Module, spec: StudentSpec) -> nn.Module:
        """A quantized network of the same shape with the float one's weights; the float one is left as it is."""
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
        have a method `settle(progress)` (see `Settling`).
        """
        ...


@runtime_checkable
class Settling(Protocol):
    """A twin that turns from float into integers while it is trained."""

    def settle(self, progress: float) -> None:
        """Called in training at growing progress: 0 before the first step, 1 after the last."""
        ...


def load_family(name: str) -> Family:
    """The family registered under a name.

    Raises:
        PluginError: there is none.
    """
    family: Family = plugins.load("kdnas.students", name)
    return family
