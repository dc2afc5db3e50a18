"""The contract of a student family: how its networks are built, shrunk, quantized and priced."""

from dataclasses import dataclass
from typing import Protocol

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
    """Scale factors that the layer stores: of its weights and of the vector it writes (and, first layer, reads)."""


class Family(Protocol):
    """A kind of student network.

    One object a family, without state; it is registered under `kdnas.students`. Networks map observations (rows, O) to
    outputs (rows, N), with N = `spaces.actions.outputs`; recurrent ones map them and a hidden state (rows, H), zeros at
    the beginning of an episode, to outputs and the next hidden state. Nothing here may train, and nothing may draw from
    a global generator.
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

    def hidden_size(self, spec: StudentSpec) -> int:
        """Numbers that a recurrent network remembers from one step to the next; 0 for one that remembers nothing."""
        ...

    def layers(self, spec: StudentSpec, spaces: AgentSpec) -> list[LayerShape]:
        """What the network of a spec computes, for the memory formula and the BOPs."""
        ...


def load_family(name: str) -> Family:
    """The family registered under a name.

    Raises:
        PluginError: there is none.
    """
    family: Family = plugins.load("kdnas.students", name)
    return family
