import pytest
import torch

from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Discrete
from kdnas.profiling.flops import count_macs
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.card import SpacesCard
from kdnas.students.deepset import FAMILY, DeepSet
from kdnas.students.family import load_family
from kdnas.students.student import Student

ENTITIES = Entities(
    own=(0, 1, 2, 3),
    sets=(
        EntitySet(name="landmarks", members=((4, 5), (6, 7), (8, 9))),
        EntitySet(name="others", members=((10, 11), (12, 13))),
    ),
)
SPREAD = AgentSpec(observation_size=18, actions=Discrete(5), entities=ENTITIES)
SEEN = torch.randn(200, 18, generator=torch.Generator().manual_seed(5))
SHUFFLED = [0, 1, 2, 3, 8, 9, 4, 5, 6, 7, 12, 13, 10, 11, 14, 15, 16, 17]


def spec(bits: str, *hidden: int) -> StudentSpec:
    return StudentSpec(family="deepset", base=hidden, hidden=hidden, bits=parse_bits(bits))


def student(bits: str, *hidden: int) -> Student:
    """A lightly used one, where it is quantized."""
    wanted = spec(bits, *hidden)
    network = FAMILY.build(wanted.floating, SPREAD, torch.Generator().manual_seed(3))
    made = Student(wanted, SPREAD, FAMILY.quantize(network, wanted) if wanted.bits.quantized else network).train()
    with torch.no_grad():
        for _ in range(40):
            made(SEEN)
    return made.eval()


def test_it_is_registered() -> None:
    assert load_family("deepset") is FAMILY
    assert (FAMILY.name, FAMILY.chain, FAMILY.hidden_size(spec("float", 4, 4))) == ("deepset", None, 0)


def test_numbers_by_hand() -> None:
    entities = Entities(own=(3,), sets=(EntitySet(name="walls", members=((0,), (2,))),))
    spaces = AgentSpec(observation_size=4, actions=Discrete(1), entities=entities)
    network = FAMILY.build(spec("float", 1, 2), spaces, torch.Generator())
    with torch.no_grad():
        network.encoders[0].weight.fill_(2.0)
        network.encoders[0].bias.fill_(-1.0)
        network.linears[0].weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, 0.5]]))  # own, mean
        network.linears[1].weight.copy_(torch.tensor([[10.0, 1.0]]))
    # Walls 3 and 0 are encoded as 5 and relu(-1) = 0, on average 2.5; own is 0.5. relu(3, 0.75) -> 30 + 0.75. The
    # feature 100 belongs to none.
    assert network(torch.tensor([[3.0, 100.0, 0.0, 0.5]])).item() == 30.75


def test_shapes_and_multiply_accumulates() -> None:
    network = student("float", 32, 24).network
    assert isinstance(network, DeepSet)
    assert [tuple(linear.weight.shape) for linear in network.encoders] == [(32, 2), (32, 2)]
    assert [tuple(linear.weight.shape) for linear in network.linears] == [(24, 4 + 2 * 32), (5, 24)]
    # Three landmarks and two others of 2*32 each, then 68*24 and 24*5.
    macs = 3 * 64 + 2 * 64 + 1632 + 120
    assert count_macs(network, (torch.zeros(1, 18),)) == macs == 2072
    layers = FAMILY.layers(spec("float", 32, 24), SPREAD)
    assert [layer.times for layer in layers] == [3, 2, 1, 1]
    assert sum(layer.macs for layer in layers) == macs


@torch.no_grad()
@pytest.mark.parametrize("bits", ["float", "w8a8i8", "w3a4i4"])
def test_the_order_of_members_makes_no_difference(bits: str) -> None:
    made = student(bits, 16, 12)
    torch.testing.assert_close(made(SEEN[:, SHUFFLED]), made(SEEN), rtol=0, atol=1e-6)
    swapped = SEEN[:, [*range(4), 10, 11, *range(6, 10), 4, 5, *range(12, 18)]]  # a landmark for another agent
    assert (made(swapped) - made(SEEN)).abs().max() > 1e-2


def test_scales_by_hand() -> None:
    layers = FAMILY.layers(spec("w4a8i8", 16, 12), SPREAD)
    # Rows of encoders and the two features of a member, in the first four own features too; then rows alone.
    assert [layer.scales for layer in layers] == [16 + 2 + 4, 16 + 2, 12, 5]
    learned = student("w4a8i8", 16, 12).network.named_parameters()
    sizes = [parameter.numel() for name, parameter in learned if "scaling_impl" in name or name == "input_ranges"]
    assert sum(sizes) == 22 + 18 + 12 + 5 + 1  # that of the activations is part of a row's ratio
    # Where 14 declared features stand, in 16 bits; both encoders write into own features and two means.
    assert [layer.table_bytes for layer in layers] == [28, 0, 0, 0]
    assert [layer.writes for layer in layers] == [4 + 2 * 16, 36, None, None]
    assert [(layer.input_bits, layer.output_bits) for layer in layers] == [(8, 8), (8, 8), (8, 8), (8, 32)]


@torch.no_grad()
def test_quantized_outputs_are_close_to_float_ones() -> None:
    floating = student("float", 32, 24)(SEEN)

    def distance(bits: str) -> float:
        return float((student(bits, 32, 24)(SEEN) - floating).square().mean().sqrt() / floating.std())

    assert 0 < distance("w8a8i8") < 0.06 < distance("w4a8i8") < 0.5


def test_an_observation_without_sets_is_refused() -> None:
    bare = Entities(own=(0, 1), sets=())
    for entities in (None, bare):
        spaces = AgentSpec(observation_size=18, actions=Discrete(5), entities=entities)
        for refuse in (FAMILY.layers, FAMILY.units, lambda s, p: FAMILY.build(s, p, torch.Generator())):
            with pytest.raises(StudentError, match=r"student deepset 8x4 float: .* a family that does not fit the obs"):
                refuse(spec("float", 8, 4), spaces)
    with pytest.raises(StudentError, match=r"student deepset 8 float: a deepset needs two hidden widths or more"):
        FAMILY.build(spec("float", 8), SPREAD, torch.Generator())


@pytest.mark.parametrize("bits", ["w8-4-8a8i8", "w4a8i8p"])
def test_layers_have_their_bits_and_free_scales_in_common(bits: str) -> None:
    own, network = spec(bits, 8, 4), FAMILY.build(spec("float", 8, 4), SPREAD, torch.Generator())
    for ask in (lambda: FAMILY.layers(own, SPREAD), lambda: FAMILY.quantize(network, own)):
        with pytest.raises(StudentError, match=r"the family 'deepset' has no .*; write for example w4a8i8"):
            ask()


def test_its_declaration_travels_in_the_card() -> None:
    card = SpacesCard.of(SPREAD)
    assert SpacesCard.model_validate_json(card.model_dump_json()).spec == SPREAD
