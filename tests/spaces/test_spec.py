import json

import pytest

from kdnas.errors import ConfigError
from kdnas.spaces.spec import Bits, StudentSpec

W4 = Bits(input=8, weight=4, activation=8)
SPEC = StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=W4)


def test_bits_are_all_float_or_all_narrow():
    assert not Bits().quantized
    assert W4.quantized
    assert (str(Bits()), str(W4)) == ("float", "w4a8i8")


@pytest.mark.parametrize("width", [1, 0, -4, 9, 16])
def test_widths_are_two_to_eight(width):
    with pytest.raises(ConfigError) as raised:
        Bits(input=8, weight=width, activation=8)
    assert str(raised.value) == f"bits: each must be 2 to 8, or 32 for float, but got (8, {width}, 8)"


def test_half_float_is_refused():
    with pytest.raises(ConfigError) as raised:
        Bits(weight=4, activation=8)
    assert str(raised.value) == "bits: input, weight and activation are all 32 or all 2 to 8, but got (32, 4, 8)"


def test_bits_of_layers_that_are_equal_are_one_number():
    mixed = Bits(input=8, weight=(8, 4, 8), activation=(8, 4))
    assert (str(mixed), mixed.mixed, mixed.narrowest) == ("w8-4-8a8-4i8", True, 4)
    assert (mixed.weights(3), mixed.activations(2)) == ((8, 4, 8), (8, 4))
    narrow = Bits(input=2, weight=(8, 5, 8), activation=(4, 8))
    assert (narrow.narrowest, narrow.narrowest_weight) == (4, 5)
    same = Bits(input=8, weight=(4, 4, 4), activation=(8, 8))
    assert (same, str(same), same.mixed) == (W4, "w4a8i8", False)
    assert (W4.weights(3), W4.activations(2)) == ((4, 4, 4), (8, 8))
    assert str(Bits(input=8, weight=(8, 4), activation=8, power_of_two=True)) == "w8-4a8i8p"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight": (8, 9)}, r"each must be 2 to 8, or 32 for float, but got \(8, \(8, 9\), 8\)"),
        ({"activation": (8, 32)}, r"all 32 or all 2 to 8, but got \(8, 8, \(8, 32\)\)"),
        ({"weight": ()}, "at least one width"),
        ({"input": 32, "weight": 32, "activation": 32, "power_of_two": True}, "a float student has none"),
    ],
)
def test_bits_of_layers_that_are_none(changes, said):
    with pytest.raises(ConfigError, match=said):
        Bits(**{"input": 8, "weight": 8, "activation": 8} | changes)


@pytest.mark.parametrize(("weight", "activation"), [((8, 4), 8), ((8, 4, 8, 4), 8), (8, (8, 4, 8))])
def test_bits_of_layers_are_as_many_as_there_are_layers(weight, activation):
    with pytest.raises(ConfigError) as raised:
        StudentSpec(family="mlp", base=(8, 8), hidden=(8, 8), bits=Bits(input=8, weight=weight, activation=activation))
    said = str(raised.value)
    assert said.endswith("must have one width, or 3 of weights and 2 of activations, for hidden (8, 8)")


@pytest.mark.parametrize("hidden", [(24,), (24, 16, 8), (65, 16), (24, 0), (24, -1), ()])
def test_hidden_fits_into_the_base(hidden):
    with pytest.raises(ConfigError) as raised:
        StudentSpec(family="mlp", base=(64, 64), hidden=hidden)
    assert str(raised.value).startswith(f"spec: hidden {hidden} must have the depth of base (64, 64)")


def test_a_student_reads_something():
    with pytest.raises(ConfigError, match="a student reads at least one input, but got inputs 0"):
        StudentSpec(family="mlp", base=(64,), hidden=(24,), inputs=0)


def test_the_ancestor_reads_all_and_the_parent_as_much():
    fewer = StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=W4, inputs=10)
    assert fewer.dense == SPEC.dense
    assert fewer.floating == StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), inputs=10)


def test_relatives():
    assert SPEC.dense == StudentSpec(family="mlp", base=(64, 64), hidden=(64, 64))
    assert SPEC.floating == StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16))
    assert SPEC.dense.dense == SPEC.dense


def test_equal_specs_are_one():
    twin = StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=Bits(weight=4, activation=8, input=8))
    assert twin == SPEC
    assert hash(twin) == hash(SPEC)
    assert twin.digest == SPEC.digest


def test_every_field_is_in_the_digest():
    others = [
        SPEC,
        StudentSpec(family="gru", base=(64, 64), hidden=(24, 16), bits=W4),
        StudentSpec(family="mlp", base=(64, 48), hidden=(24, 16), bits=W4),
        StudentSpec(family="mlp", base=(64, 64), hidden=(16, 24), bits=W4),
        SPEC.floating,
        StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=W4, inputs=10),
        StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=W4, inputs=9),
        *(
            StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=bits)
            for bits in (
                Bits(input=8, weight=8, activation=4),
                Bits(input=4, weight=8, activation=8),
                Bits(input=8, weight=8, activation=8),
                Bits(input=8, weight=4, activation=8, power_of_two=True),
                Bits(input=8, weight=(4, 8, 4), activation=8),
                Bits(input=8, weight=(4, 4, 8), activation=8),
                Bits(input=8, weight=4, activation=(8, 4)),
            )
        ),
    ]
    assert len({spec.digest for spec in others}) == len(others)


def test_the_digest_is_the_same_in_every_process():
    # Folders of the bank are named by it. As `sha256sum` gives it for
    # {"base": [64, 64], "bits": {"activation": 8, "input": 8, "weight": 4}, "family": "mlp", "hidden": [24, 16]}
    assert SPEC.digest == "787394d8867b3b5f"


def test_text():
    assert str(SPEC) == "mlp 24x16 w4a8i8"
    assert str(SPEC.dense) == "mlp 64x64 float"
    fewer = StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=W4, inputs=10)
    assert str(fewer) == "mlp 24x16 w4a8i8 on 10 inputs"


def test_json_round_trip():
    written = json.loads(json.dumps(SPEC.as_json()))
    assert written == {
        "family": "mlp",
        "base": [64, 64],
        "hidden": [24, 16],
        "bits": {"input": 8, "weight": 4, "activation": 8},
    }
    assert StudentSpec.from_json(written) == SPEC
    bits = Bits(input=8, weight=(4, 8, 4), activation=(8, 4), power_of_two=True)
    mixed = StudentSpec(family="mlp", base=(64, 64), hidden=(24, 16), bits=bits)
    said = json.loads(json.dumps(mixed.as_json()))
    assert said["bits"] == {"input": 8, "weight": [4, 8, 4], "activation": [8, 4], "power_of_two": True}
    assert (StudentSpec.from_json(said), said) == (mixed, mixed.as_json())
    fewer = StudentSpec.from_json(written | {"inputs": 10})
    assert (fewer.inputs, fewer.as_json()) == (10, written | {"inputs": 10})


@pytest.mark.parametrize(
    "change",
    [
        {"bits": None},
        {"bits": {"weight": 4, "activation": 8, "inputs": 8}},
        {"bits": {"weight": "4", "activation": 8, "input": 8}},
        {"bits": {"weight": [4, "8", 4], "activation": 8, "input": 8}},
        {"bits": {"weight": 4, "activation": 8, "input": [8]}},
        {"bits": {"weight": 4, "activation": 8, "input": 8, "power_of_two": 1}},
        {"hidden": None},
        {"hidden": [24.7, 16]},
        {"hidden": [True, 16]},
        {"base": ["64", 64]},
        {"inputs": 2.5},
        {"inputs": None},
    ],
)
def test_json_that_is_no_spec(change):
    with pytest.raises(ConfigError, match="is not a student spec"):
        StudentSpec.from_json(SPEC.as_json() | change)


@pytest.mark.parametrize("data", [{}, [1, 2], None, "mlp"])
def test_json_of_something_else(data):
    with pytest.raises(ConfigError, match="is not a student spec"):
        StudentSpec.from_json(data)
