from collections.abc import Sequence
from typing import Any

import pytest

from kdnas.config.toml import validate
from kdnas.errors import ConfigError
from kdnas.spaces.space import (
    MAX_SPECS,
    BaseTable,
    GroupTable,
    SearchSpace,
    SpaceConfig,
    kept_inputs,
    make_space,
    parse_bits,
    pruned_width,
)
from kdnas.spaces.spec import Bits, StudentSpec

W4 = Bits(weight=4, activation=8, input=8)

CONFIG = {
    "name": "small",
    "groups": {
        "default": {
            "bases": [{"hidden": [64, 64], "prune": [0.5, 0.75]}, {"hidden": [32], "prune": [0.0, 0.5]}],
            "bits": ["float", "w4a8i8"],
        },
        "speaker": {"bases": [{"hidden": [8], "prune": [0.0]}]},
    },
}


class FakeTrial:
    """Answers as an Optuna trial would that was enqueued with these parameters."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.parameters = parameters
        self.asked: dict[str, list[Any]] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        assert self.asked.setdefault(name, list(choices)) == list(choices), f"{name} was asked with other choices"
        assert self.parameters[name] in choices
        return self.parameters[name]


def space(config: dict[str, Any] = CONFIG, groups: Sequence[str] = ("speaker", "listener")) -> SearchSpace:
    return make_space(validate(config, SpaceConfig, where="space"), groups)


def only(hidden: list[int], prune: list[float], bits: Sequence[str] = ("float",)) -> SearchSpace:
    table = {"bases": [{"hidden": hidden, "prune": prune}], "bits": list(bits)}
    return space({"name": "x", "groups": {"default": table}}, ["a"])


# Widths and bits.


@pytest.mark.parametrize(
    ("dense", "ratio", "left"),
    [
        (64, 0.0, 64),
        (64, 0.5, 32),
        (64, 0.625, 24),  # 64 * 0.375
        (64, 0.75, 16),
        (64, 0.8, 13),  # 12.8
        (10, 0.75, 3),  # 2.5, halves up
        (15, 0.9, 2),  # 1.5, which is 1.4999999999999998 in floats
        (25, 0.9, 3),  # 2.5
        (64, 0.99, 1),  # 0.64
        (8, 0.99, 1),  # 0.08: at least one
        (1, 0.9, 1),
    ],
)
def test_pruned_width(dense, ratio, left):
    assert pruned_width(dense, ratio) == left


@pytest.mark.parametrize(
    ("dense", "ratio", "left"),
    [
        (64, 0.7, 20),  # 19.2 are 4.8 fours
        (64, 0.72, 16),  # 17.92 are 4.48
        (64, 0.99, 4),  # one four at least
        (64, 0.0, 64),
        (10, 0.0, 10),  # 2.5 fours would be 12, and there are no more than 10
        (3, 0.5, 3),  # nor can there be four here
    ],
)
def test_widths_that_a_vector_unit_likes(dense, ratio, left):
    assert pruned_width(dense, ratio, 4) == left


@pytest.mark.parametrize(
    ("features", "share", "left"),
    [
        (14, 1.0, None),
        (14, 0.75, 11),  # 10.5, halves up
        (14, 0.5, 7),
        (14, 0.99, None),  # 13.86: all of them
        (14, 0.96, 13),  # 13.44
        (15, 0.1, 2),  # 1.5
        (14, 0.01, 1),  # 0.14: at least one
        (1, 0.5, None),
    ],
)
def test_kept_inputs(features, share, left):
    assert kept_inputs(features, share) == left


def test_bits_are_written_weights_activations_inputs():
    assert parse_bits("float") == Bits()
    assert parse_bits("w4a8i6") == Bits(weight=4, activation=8, input=6)


def test_bits_of_each_layer_and_powers_of_two():
    assert parse_bits("w8-4-8a8-4i8") == Bits(weight=(8, 4, 8), activation=(8, 4), input=8)
    assert parse_bits("w4a8i8p") == Bits(weight=4, activation=8, input=8, power_of_two=True)
    assert str(parse_bits("w4-4-4a8-8i8")) == "w4a8i8"


@pytest.mark.parametrize("text", ["w4a8i8", "w2a2i2", "float", "w8-4-8a8-4i8", "w4a8i8p", "w2-3a4i5p"])
def test_bits_are_written_as_they_are_read(text):
    assert str(parse_bits(text)) == text


@pytest.mark.parametrize("text", ["", "w4", "4a8i8", "w4a8", "w4a8i8 ", "w+4a8i8", "w4a8i8i8", "W4A8I8", "int8",
                                  "w4-a8i8", "w-4a8i8", "w4a8i8-4", "floatp", "w4a8pi8", "w4--8a8i8"])  # fmt: skip
def test_text_that_is_no_bits(text):
    with pytest.raises(ConfigError) as raised:
        parse_bits(text)
    assert str(raised.value) == (f"bits {text!r}: write 'float' or for example 'w4a8i8' (weights, activations, inputs)")


@pytest.mark.parametrize("text", ["w8-1a8i8", "w8a8-9i8", "w1a8i8", "w4a9i8", "w4a8i16", "w32a8i8"])
def test_bits_outside_two_to_eight(text):
    with pytest.raises(ConfigError, match="2 to 8"):
        parse_bits(text)


# Realised specs.


def test_sizes():
    groups = space().groups
    # The first base: 2 ratios in each of 2 layers, 2 formats: 2 * 2 * 2 = 8; the second: 2 * 2 = 4; none coincide.
    assert len(groups["listener"].parameters) == 12
    assert len(groups["speaker"].parameters) == 1


def test_realised_specs_in_the_order_of_the_file():
    specs = list(space().groups["listener"].parameters)
    assert [(spec.hidden, str(spec.bits)) for spec in specs] == [
        ((32, 32), "float"),
        ((32, 32), "w4a8i8"),
        ((32, 16), "float"),
        ((32, 16), "w4a8i8"),
        ((16, 32), "float"),
        ((16, 32), "w4a8i8"),
        ((16, 16), "float"),
        ((16, 16), "w4a8i8"),
        ((32,), "float"),
        ((32,), "w4a8i8"),
        ((16,), "float"),
        ((16,), "w4a8i8"),
    ]


def test_ratios_that_realise_equal_widths_are_one_spec():
    # 8 units: 0.5 leaves 4 and 0.55 leaves 3.6, rounded to 4.
    group = only([8], [0.5, 0.55]).groups["a"]
    assert list(group.parameters) == [StudentSpec(family="mlp", base=(8,), hidden=(4,))]
    first, second = (
        group.sample(FakeTrial({"a.base": 0, "a.0.prune.0": ratio, "a.bits": "float"})) for ratio in (0.5, 0.55)
    )
    assert first == second
    assert hash(first) == hash(second)


def test_the_first_parameters_stand_for_equal_specs():
    group = only([8], [0.5, 0.55]).groups["a"]
    assert list(group.parameters.values()) == [{"a.base": 0, "a.0.prune.0": 0.5, "a.bits": "float"}]


def test_equal_widths_of_different_ancestors_are_two_specs():
    table = {"bases": [{"hidden": [64], "prune": [0.5]}, {"hidden": [32], "prune": [0.0]}]}
    specs = list(space({"name": "x", "groups": {"default": table}}, ["a"]).groups["a"].parameters)
    assert [(spec.base, spec.hidden) for spec in specs] == [((64,), (32,)), ((32,), (32,))]


# Sampling.


def test_only_the_chosen_bases_ratios_are_asked():
    trial = FakeTrial({"a.base": 1, "a.1.prune.0": 0.5, "a.bits": "w4a8i8"})
    spec = space(groups=["speaker", "a"]).groups["a"].sample(trial)
    assert spec == StudentSpec(family="mlp", base=(32,), hidden=(16,), bits=W4)
    assert trial.asked == {"a.base": [0, 1], "a.1.prune.0": [0.0, 0.5], "a.bits": ["float", "w4a8i8"]}


def test_every_layer_is_pruned_on_its_own():
    parameters = {"a.base": 0, "a.0.prune.0": 0.75, "a.0.prune.1": 0.5, "a.bits": "float"}
    assert space(groups=["speaker", "a"]).groups["a"].sample(FakeTrial(parameters)).hidden == (16, 32)


def test_every_candidate_comes_back_from_its_parameters():
    team = space()
    for speaker in team.groups["speaker"].parameters:
        for listener in team.groups["listener"].parameters:
            candidate = {"speaker": speaker, "listener": listener}
            trial = FakeTrial(team.parameters(candidate))
            assert team.sample(trial) == candidate
            assert set(trial.asked) == set(trial.parameters)  # nothing is enqueued that is not asked


# Inputs.


def sharing(*inputs: float, features: int = 14) -> SearchSpace:
    table = {"bases": [{"hidden": [8], "prune": [0.5], "inputs": list(inputs)}, {"hidden": [4], "prune": [0.5]}]}
    return space({"name": "x", "groups": {"default": table}}, ["a"]).seeing({"a": features})


def test_a_choice_of_inputs_is_a_parameter_of_its_base():
    group = sharing(1.0, 0.5).groups["a"]
    trial = FakeTrial({"a.base": 0, "a.0.prune.0": 0.5, "a.0.inputs": 0.5, "a.bits": "float"})
    assert group.sample(trial) == StudentSpec(family="mlp", base=(8,), hidden=(4,), inputs=7)
    assert trial.asked["a.0.inputs"] == [1.0, 0.5]
    other = FakeTrial({"a.base": 1, "a.1.prune.0": 0.5, "a.bits": "float"})
    assert group.sample(other).inputs is None
    assert [spec.inputs for spec in group.parameters] == [None, 7, None]
    for spec, parameters in group.parameters.items():
        assert group.sample(FakeTrial(parameters)) == spec


def test_without_a_choice_nothing_is_asked():
    group = sharing(0.5).groups["a"]
    trial = FakeTrial({"a.base": 0, "a.0.prune.0": 0.5, "a.bits": "float"})
    assert group.sample(trial).inputs == 7
    assert set(trial.asked) == {"a.base", "a.0.prune.0", "a.bits"}
    assert next(iter(group.parameters.values())) == trial.parameters


def test_shares_that_keep_as_many_inputs_are_one_spec():
    # Of 3 inputs 0.99 are 2.97 and 1.0 are 3: all; 0.6 are 1.8 and 0.5 are 1.5: 2.
    group = sharing(1.0, 0.99, 0.6, 0.5, features=3).groups["a"]
    assert [spec.inputs for spec in group.parameters] == [None, 2, None]
    assert list(group.parameters.values())[1]["a.0.inputs"] == 0.6


def test_shares_are_counted_of_what_a_group_sees():
    table = {"bases": [{"hidden": [8], "prune": [0.5], "inputs": [0.5]}]}
    both = space({"name": "x", "groups": {"default": table}}, ["a", "b"]).seeing({"a": 14, "b": 4})
    assert [next(iter(group.parameters)).inputs for group in both.groups.values()] == [7, 2]


@pytest.mark.parametrize(("inputs", "said"), [([0.0], "greater than 0"), ([1.5], "less than or equal to 1"),
                                              ([], "at least 1"), ([0.5, 0.5], "0.5 stands twice")])  # fmt: skip
def test_shares_of_inputs_that_are_none(inputs, said):
    with pytest.raises(ConfigError, match=said):
        sharing(*inputs)


def test_formats_that_are_spelt_otherwise_are_no_others():
    with pytest.raises(ConfigError, match="'w8a8i8' stands twice"):
        mixing([{"hidden": [8], "prune": [0.0]}], bits=("w8a8i8", "w08a8i8"))


# Bits of each layer.

MIX = {"weights": [4, 8], "activations": [4, 8], "inputs": [8]}


def mixing(bases: list[dict[str, Any]], bits: Sequence[str] = ("float", "w8a8i8"), **changes: Any) -> SearchSpace:
    table = {"bases": bases, "bits": list(bits), "mixed": MIX | changes}
    return space({"name": "x", "groups": {"default": table}}, ["a"])


def test_every_layer_is_asked_for_its_bits():
    group = mixing([{"hidden": [8, 8], "prune": [0.5]}, {"hidden": [4], "prune": [0.5]}]).groups["a"]
    given = {"a.base": 0, "a.0.prune.0": 0.5, "a.0.prune.1": 0.5, "a.bits": "mixed"}
    given |= {"a.0.weights.0": 8, "a.0.weights.1": 4, "a.0.weights.2": 8}
    given |= {"a.0.activations.0": 4, "a.0.activations.1": 8}
    trial = FakeTrial(given)
    assert str(group.sample(trial)) == "mlp 4x4 w8-4-8a4-8i8"
    assert set(trial.asked) == set(given)
    assert trial.asked["a.bits"] == ["float", "w8a8i8", "mixed"]
    assert trial.asked["a.0.weights.2"] == [4, 8]
    # One width of inputs is no choice.
    wide = mixing([{"hidden": [4], "prune": [0.5]}], inputs=[4, 8], activations=[8]).groups["a"]
    given = {"a.base": 0, "a.0.prune.0": 0.5, "a.bits": "mixed", "a.0.weights.0": 4, "a.0.weights.1": 8}
    given |= {"a.input_bits": 4}
    trial = FakeTrial(given)
    assert str(wide.sample(trial)) == "mlp 2 w4-8a8i4"
    assert set(trial.asked) == set(given)


def test_mixed_bits_that_are_equal_are_a_format_of_the_list():
    group = mixing([{"hidden": [8, 8], "prune": [0.5]}, {"hidden": [4], "prune": [0.5]}]).groups["a"]
    # Of three layers 2^5 formats, of two 2^3; w8a8i8 is among them, float is not.
    assert len(group.parameters) == 33 + 9
    eight = StudentSpec(family="mlp", base=(8, 8), hidden=(4, 4), bits=parse_bits("w8a8i8"))
    assert group.parameters[eight]["a.bits"] == "w8a8i8"
    for spec, parameters in group.parameters.items():
        trial = FakeTrial(parameters)
        assert group.sample(trial) == spec
        assert set(trial.asked) == set(parameters)


def test_mixed_bits_alone_and_as_powers_of_two():
    group = mixing([{"hidden": [4], "prune": [0.5]}], [], activations=[8], power_of_two=True).groups["a"]
    assert [str(spec.bits) for spec in group.parameters] == ["w4a8i8p", "w4-8a8i8p", "w8-4a8i8p", "w8a8i8p"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"weights": []}, "at least 1"), ({"weights": [4, 4]}, "4 stands twice"), ({"weights": [9]}, "less than or equal"),
     ({"activations": [1]}, "greater than or equal"), ({"inputs": [8.0]}, "must be a whole number"),
     ({"input": [8]}, "input: unknown key")],
)  # fmt: skip
def test_mixed_bits_that_are_none(changes, said):
    with pytest.raises(ConfigError, match=said):
        mixing([{"hidden": [4], "prune": [0.5]}], **changes)


def test_a_group_has_some_format():
    with pytest.raises(ConfigError, match="bits must name at least one number format where there is no mixed"):
        only([8], [0.5], [])


def test_mixed_bits_are_counted():
    # 4 ratios in 5 layers, and 3^6 bits of weights: 1,024 x (729 + 1).
    table = {"hidden": [64] * 5, "prune": [0.0, 0.1, 0.2, 0.3]}
    with pytest.raises(ConfigError, match="has 747,520 choices"):
        mixing([table], ["float"], weights=[2, 4, 8], activations=[8])


def test_listed_bits_of_layers_fit_every_base():
    assert str(next(iter(only([8, 8], [0.5], ["w8-4-8a8i8"]).groups["a"].parameters))) == "mlp 4x4 w8-4-8a8i8"
    with pytest.raises(ConfigError) as raised:
        only([8], [0.5], ["w8-4-8a8i8"])
    assert str(raised.value) == (
        "space 'x': group 'a': bits 'w8-4-8a8i8' must have one width, or 2 of weights and 1 of activations, for the "
        "base 8; write mixed for bases of several depths"
    )


def test_parameters_of_a_team_do_not_collide():
    assert space().parameters({group: next(iter(one.parameters)) for group, one in space().groups.items()}) == {
        "speaker.base": 0,
        "speaker.0.prune.0": 0.0,
        "speaker.bits": "float",
        "listener.base": 0,
        "listener.0.prune.0": 0.5,
        "listener.0.prune.1": 0.5,
        "listener.bits": "float",
    }


# Spaces for an environment's groups.


def test_a_group_has_its_own_table_or_the_default():
    groups = space().groups
    assert groups["speaker"].table.bases[0].hidden == (8,)
    assert [base.hidden for base in groups["listener"].table.bases] == [(64, 64), (32,)]


def test_a_table_for_no_group_names_the_nearest():
    with pytest.raises(ConfigError) as raised:
        space(groups=["speakers", "listener"])
    assert str(raised.value) == (
        "space 'small': [groups.speaker] is no group here: did you mean 'speakers'? "
        "(known: default, listener, speakers)"
    )


def test_a_group_without_a_table():
    config = {"name": "x", "groups": {"speaker": CONFIG["groups"]["speaker"]}}
    with pytest.raises(ConfigError) as raised:
        space(config)
    assert str(raised.value) == "space 'x': neither [groups.listener] nor [groups.default] is there"


def test_too_many_choices():
    # 6 ratios in 6 layers: 6^6 = 46,656.
    with pytest.raises(ConfigError) as raised:
        only([64] * 6, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert str(raised.value) == (
        "space 'x': group 'a' has 46,656 choices, 20,000 at most; offer fewer pruning ratios, shares of inputs, bases "
        "or bits"
    )
    assert MAX_SPECS == 20_000


def test_shares_of_inputs_are_choices_too():
    # 20^3 widths and 3 shares: 24,000.
    base = {"hidden": [64] * 3, "prune": [index / 100 for index in range(20)], "inputs": [1.0, 0.75, 0.5]}
    with pytest.raises(ConfigError, match="has 24,000 choices"):
        space({"name": "x", "groups": {"default": {"bases": [base]}}}, ["a"])


def test_a_huge_space_is_counted_and_not_listed():
    # 100^8 * 2 = 2e16 choices, refused at once.
    with pytest.raises(ConfigError, match="has 20,000,000,000,000,000 choices"):
        only([64] * 8, [index / 100 for index in range(100)], ["float", "w4a8i8"])


# The digest.


def test_the_digest_knows_choices_and_not_words():
    words = CONFIG | {"name": "renamed", "description": "other words"}
    assert space(words).digest == space().digest
    changed = CONFIG | {"groups": CONFIG["groups"] | {"speaker": {"bases": [{"hidden": [8], "prune": [0.1]}]}}}
    assert space(changed).digest != space().digest
    assert space(groups=["speaker", "other"]).digest != space().digest  # other parameter names


def test_parameters_in_words() -> None:
    bases = (BaseTable(hidden=(64, 32), prune=(0.5,)), BaseTable(family="gru", hidden=(16,), prune=(0.5,)))
    space = make_space(SpaceConfig(name="words", groups={"default": GroupTable(bases=bases)}), ["pair"]).groups["pair"]
    assert space.describe("0.prune.1") == "64x32: pruned from layer 2"
    assert space.describe("0.weights.2") == "64x32: bits of the weights of layer 3"
    assert space.describe("1.activations.0") == "16: bits of what comes out of layer 1"
    assert [space.describe(name) for name in ("base", "bits", "other.1")] == ["base", "bits", "other.1"]
    assert space.describe_choice("base", 1) == "gru 16"
    assert [space.describe_choice("bits", "float"), space.describe_choice("1.prune.0", 0.5)] == ["float", "0.5"]


def test_the_most_parameters_of_a_candidate():
    # Of the deeper base: itself, a ratio for each of two layers, and the bits; for each of two groups.
    bases = (BaseTable(hidden=(64, 64), prune=(0.5, 0.75)), BaseTable(hidden=(64,), prune=(0.5,)))
    config = SpaceConfig(name="two", groups={"default": GroupTable(bases=bases, bits=("float", "w8a8i8"))})
    assert make_space(config, ["a", "b"]).most_parameters == 2 * (1 + 2 + 1)
