"""The contract of families passes on every built-in, and fails on those that break it."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

import kdnas
from kdnas import plugins
from kdnas.spaces.spec import StudentSpec
from kdnas.students.fake_quant import FakeQuantMlp
from kdnas.students.family import LayerShape, Place, Units
from kdnas.students.gru import Gru, GruFamily
from kdnas.students.mlp import Mlp, MlpFamily, QuantMlp
from kdnas.testing import check_family
from kdnas.testing.family import EIGHT


@pytest.mark.parametrize("name", sorted(plugins.installed("kdnas.students")))
def test_built_in_families(name):
    check_family(plugins.load("kdnas.students", name))


class Unseeing(MlpFamily):
    """Draws its weights from the global generator."""

    def build(self, spec: StudentSpec, spaces: kdnas.AgentSpec, generator: torch.Generator) -> Mlp:
        network = super().build(spec, spaces, generator)
        nn.init.normal_(network.linears[0].weight)
        return network


class Fixed(MlpFamily):
    def build(self, spec: StudentSpec, spaces: kdnas.AgentSpec, generator: torch.Generator) -> Mlp:
        return super().build(spec, spaces, torch.Generator().manual_seed(0))


class Wider(MlpFamily):
    def build(self, spec: StudentSpec, spaces: kdnas.AgentSpec, generator: torch.Generator) -> Mlp:
        return super().build(replace(spec, hidden=spec.base), spaces, generator)


class Early(MlpFamily):
    """Builds less where few bits are asked for."""

    def build(self, spec: StudentSpec, spaces: kdnas.AgentSpec, generator: torch.Generator) -> Mlp:
        network = super().build(spec, spaces, generator)
        if spec.bits.quantized:
            nn.init.zeros_(network.linears[0].weight)
        return network


class Cheap(MlpFamily):
    """Prices all but the last layer."""

    def layers(self, spec: StudentSpec, spaces: kdnas.AgentSpec) -> list[LayerShape]:
        return super().layers(spec, spaces)[:-1]


class Unbiased(MlpFamily):
    def layers(self, spec: StudentSpec, spaces: kdnas.AgentSpec) -> list[LayerShape]:
        return [replace(layer, bias=False) for layer in super().layers(spec, spaces)]


class Loose(MlpFamily):
    def layers(self, spec: StudentSpec, spaces: kdnas.AgentSpec) -> list[LayerShape]:
        return [replace(layer, input_bits=8) for layer in super().layers(spec, spaces)]


class NeverSmaller(MlpFamily):
    def layers(self, spec: StudentSpec, spaces: kdnas.AgentSpec) -> list[LayerShape]:
        return super().layers(spec.floating, spaces)


class Generous(MlpFamily):
    """Prices every layer as the first, and scales as if they were none."""

    def layers(self, spec: StudentSpec, spaces: kdnas.AgentSpec) -> list[LayerShape]:
        widest = max(spec.bits.weights(3))
        return [replace(layer, weight_bits=widest) for layer in super().layers(spec, spaces)]


class Undecided(GruFamily):
    def layers(self, spec: StudentSpec, spaces: kdnas.AgentSpec) -> list[LayerShape]:
        return super().layers(spec if spec.bits == EIGHT else spec.floating, spaces)


class Careless(MlpFamily):
    """Quantizes the float network in place."""

    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantMlp:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(16).round_().div_(16)
        return super().quantize(network, spec)


class Borrowing(MlpFamily):
    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantMlp:
        quantized = super().quantize(network, spec)
        quantized.linears[1].weight = network.linears[1].weight
        return quantized


class Forgetful(MlpFamily):
    """Quantizes other weights than the float ones."""

    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantMlp:
        quantized = super().quantize(network, spec)
        nn.init.ones_(quantized.linears[1].weight)
        return quantized


class Frozen(MlpFamily):
    def quantize(self, network: nn.Module, spec: StudentSpec) -> QuantMlp:
        quantized = super().quantize(network, spec)
        quantized.linears[0].weight.requires_grad_(False)
        return quantized


class Partial(GruFamily):
    """Declares the units of the cell and forgets those of the encoder."""

    def units(self, spec: StudentSpec, spaces: kdnas.AgentSpec) -> list[Units]:
        return super().units(spec, spaces)[1:]


class Lost(GruFamily):
    def units(self, spec: StudentSpec, spaces: kdnas.AgentSpec) -> list[Units]:
        places = (Place(parameter="head.weight", axis=0),)
        return [replace(each, places=places) for each in super().units(spec, spaces)]


class Stateless(GruFamily):
    def hidden_size(self, spec: StudentSpec) -> int:
        return 3


class Hasty(Gru):
    """Forgets between two steps of an episode that is seen at once."""

    def unroll(self, views: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return torch.stack([self(seen, hidden)[0] for seen in views.unbind(1)], 1)


class Hastening(GruFamily):
    def build(self, spec: StudentSpec, spaces: kdnas.AgentSpec, generator: torch.Generator) -> Gru:
        return Hasty([spaces.observation_size, *spec.hidden, spaces.actions.outputs], generator)


class Rounder(FakeQuantMlp):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations) * 1.0001


class Approximate(MlpFamily):
    """Trains something that is nearly the network."""

    def training_twin(self, quantized: nn.Module) -> FakeQuantMlp:
        assert isinstance(quantized, QuantMlp)
        return Rounder(quantized)


class Copying(MlpFamily):
    """Trains a copy, so that the network learns nothing."""

    def training_twin(self, quantized: nn.Module) -> FakeQuantMlp:
        return super().training_twin(copy.deepcopy(quantized))


class Shy(Mlp):
    """Part of what it computes with is in no parameter and no buffer."""

    def __init__(self, sizes: Sequence[int], generator: torch.Generator) -> None:
        super().__init__(sizes, generator)
        self.offset = torch.zeros(sizes[-1])

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.offset = self.offset + 1
        return super().forward(observations) + self.offset


class Shying(MlpFamily):
    def build(self, spec: StudentSpec, spaces: kdnas.AgentSpec, generator: torch.Generator) -> Mlp:
        return Shy([spaces.observation_size, *spec.hidden, spaces.actions.outputs], generator)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Unseeing, "built twice from one seed, it has other weights; draw from the generator that is given"),
        (Fixed, "the seed changes nothing"),
        (Wider, "mlp 9x5 float: the outputs of prunable() are (16, 12) wide, the spec says (9, 5)"),
        (Early, "build() makes a float network, whatever the bits"),
        (Cheap, "layers() has the matrices [(12, 16), (16, 7)], the network [(4, 12), (12, 16), (16, 7)]"),
        (Unbiased, "layers() has biases of [] numbers, the network of [4, 12, 16]"),
        (Loose, "a float layer has 32 bits everywhere"),
        # 16*7 + 12*16 + 4*12 = 352 weights, 32 biases, and 16 + 12 live activations, 4 bytes each.
        (NeverSmaller, "at 8 bits its memory is 1648, in float 1648"),
        # 352 weights, 4 x 32 biases, 4 x (32 + 7) scales, and 16 + 12 bytes of activations.
        (Generous, "mlp 16x12 w8-4-4a8-4i8: its memory is 664, that of 8 bits everywhere 664; price the bits"),
        (Undecided, "layers() and quantize() both refuse such bits, or neither of them"),
        (Careless, "quantize() changed the float network"),
        (Borrowing, "the quantized network shares memory with the float one"),
        (Forgetful, "of their deviation; quantize() must keep the float weights"),
        (Frozen, "no finite gradient reaches linears.0.weight"),
        (Partial, "gru 16x12 float: units() are of the hidden layers [1], not all"),
        (Lost, "but that parameter is (4, 12)"),  # 16 units do not stand in its four rows
        (Stateless, "family 'gru': RuntimeError"),
        (Hastening, "whole episodes are answered otherwise than their steps"),
        (Approximate, "in evaluation mode training_twin() answers differently from the network"),
        (Copying, "training_twin() has input_ranges, which is no parameter of the network"),
        (Shying, "rebuilt from its saved weights it answers differently"),
    ],
)
def test_a_family_that_breaks_the_contract(said_by, monkeypatch, kind, said):
    family = kind()
    monkeypatch.setattr(plugins, "load", lambda group, name: family)
    assert said in said_by(check_family, family)


def test_a_family_that_is_not_registered(said_by):
    assert "no plugin 'own' in kdnas.students" in said_by(check_family, MlpFamily("own"))


def test_a_family_under_anothers_name(said_by):
    class Impostor(MlpFamily):
        pass

    assert "kdnas.students has MlpFamily under this name" in said_by(check_family, Impostor())
