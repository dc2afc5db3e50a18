import pytest

from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.profiling import bops, memory_bytes, parameters
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import LayerShape, load_family


def _layers(bits: str, *hidden: int) -> list[LayerShape]:
    spec = StudentSpec(family="mlp", base=hidden, hidden=hidden, bits=parse_bits(bits))
    return load_family("mlp").layers(spec, AgentSpec(observation_size=18, actions=Discrete(5)))


def test_an_integer_network_by_hand() -> None:
    layers = _layers("w4a8i8", 16)
    # Weights: 18*16 = 288 and 16*5 = 80, in 4 bits 144 and 40 bytes. Biases: (16 + 5) * 4 = 84. Scales: rows of both
    # layers, and of the inputs: (16 + 5 + 18) * 4 = 156. Live: 18 + 16 bytes, then 16 + 5 * 4 = 36.
    assert memory_bytes(layers) == 144 + 40 + 84 + 156 + 36 == 460
    assert parameters(layers) == 288 + 16 + 80 + 5 == 389
    assert bops(layers) == 288 * 4 * 8 + 80 * 4 * 8 == 11_776


def test_a_float_network_by_hand() -> None:
    layers = _layers("float", 24, 24)
    # 4 bytes each of 1128 weights, 53 biases and the largest pair, 24 + 24; no scales.
    assert memory_bytes(layers) == 4 * (1128 + 53 + 48) == 4916
    assert bops(layers) == 1128 * 32 * 32


def test_bits_are_rounded_up_to_bytes_once_a_layer() -> None:
    layer = LayerShape(rows=1, columns=3, weight_bits=3, input_bits=4, output_bits=8, bias=False)
    # 9 bits of weights are 2 bytes; activations below 8 bits still take a byte each: 3 + 1.
    assert memory_bytes([layer]) == 2 + 4
    assert parameters([layer]) == 3
    assert bops([layer]) == 3 * 3 * 4


def test_inputs_have_bits_of_their_own() -> None:
    # 288 MACs read 8-bit inputs, 80 read 4-bit activations.
    assert bops(_layers("w2a4i8", 16)) == 288 * 2 * 8 + 80 * 2 * 4


def test_bits_of_each_layer_by_hand() -> None:
    layers = _layers("w4-8a5i8", 16)
    # 18*16 = 288 weights in 4 bits and 16*5 = 80 in 8: 144 and 80 bytes; the rest is that of w4a8i8.
    assert memory_bytes(layers) == 144 + 80 + 84 + 156 + 36 == 500
    assert bops(layers) == 288 * 4 * 8 + 80 * 8 * 5


def test_a_scale_that_is_a_power_of_two_takes_a_byte() -> None:
    layers = _layers("w4a8i8p", 16)
    # 21 rows store exponents, and 18 inputs scales of 4 bytes: 21 + 72 instead of 156.
    assert memory_bytes(layers) == 144 + 40 + 84 + 21 + 72 + 36 == 397
    assert bops(layers) == bops(_layers("w4a8i8", 16))


def test_normalisation_stores_a_shift_and_a_scale_a_feature() -> None:
    layers = _layers("w4a8i8", 16)
    assert memory_bytes(layers, 18) == 460 + 18 * 8


@pytest.mark.parametrize("family", ["mlp", "mlp_softsign", "gru"])
def test_where_inputs_stand_takes_two_bytes_each_where_not_all_are_read(family: str) -> None:
    spaces = AgentSpec(observation_size=18, actions=Discrete(5)).reading((0, 3, 4, 7, 9, 17)).inputs
    spec = StudentSpec(family=family, base=(8, 8), hidden=(8, 8), bits=parse_bits("w8a8i8"), inputs=6)
    every = StudentSpec(family=family, base=(8, 8), hidden=(8, 8), bits=parse_bits("w8a8i8"))
    known = load_family(family)
    assert memory_bytes(known.layers(spec, spaces)) == memory_bytes(known.layers(every, spaces)) + 6 * 2


def test_a_gru_by_hand() -> None:
    # 3-4-5-2 with a cell of 5: matrices 4*3, 15*4, 15*5 and 2*5, 157 weights, and 4 + 15 + 15 + 2 = 36 biases.
    spaces = AgentSpec(observation_size=3, actions=Discrete(2))
    layers = load_family("gru").layers(StudentSpec(family="gru", base=(4, 5), hidden=(4, 5)), spaces)
    # The largest pair is a state of 5 and its 15 sums; the state that is kept is 5 numbers more.
    assert memory_bytes(layers) == 4 * (157 + 36 + 20 + 5) == 872
    assert parameters(layers) == 157 + 36
    assert bops(layers) == 157 * 32 * 32
    spec = StudentSpec(family="gru", base=(4, 5), hidden=(4, 5), bits=parse_bits("w4a8i8"))
    # In 4 bits 6, 30, 38 (37.5) and 5 bytes; scales of 36 rows and 3 inputs; 65 places of tanh; sums of 32 bits:
    # 5 + 4*15 live; a kept state of 5 bytes.
    assert memory_bytes(load_family("gru").layers(spec, spaces)) == 79 + 4 * (36 + 39 + 65) + 65 + 5 == 709


def test_a_shared_encoder_by_hand() -> None:
    entities = Entities(own=(0,), sets=(EntitySet(name="walls", members=((1, 2), (3, 4), (5, 6))),))
    spaces = AgentSpec(observation_size=7, actions=Discrete(2), entities=entities)
    spec = StudentSpec(family="deepset", base=(4, 3), hidden=(4, 3), bits=parse_bits("w8a8i8"))
    layers = load_family("deepset").layers(spec, spaces)
    # An encoder 4*2 for all three walls, then 3*(1 + 4) and 2*3: 29 weights, 9 biases. Scales: 9 rows, 2 features of a
    # wall and 1 own. Where 7 features stand, in 16 bits. Live: three walls of 2, and what they become, 1 + 4.
    assert memory_bytes(layers) == 29 + 4 * (9 + 12) + 14 + 11 == 138
    assert parameters(layers) == 29 + 9
    assert bops(layers) == (3 * 8 + 15 + 6) * 64
