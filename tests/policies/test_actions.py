import math

import pytest

from kdnas.errors import ConfigError
from kdnas.policies import Box, Discrete, MultiDiscrete


def test_sizes_by_hand():
    for space, outputs, parameters, shape in (
        (Discrete(5), 5, 5, ()),
        # 5 + 10 logits, two integers.
        (MultiDiscrete((5, 10)), 15, 15, (2,)),
        (MultiDiscrete((3,)), 3, 3, (1,)),
        # Three means, and three deviations besides.
        (Box((-1.0,) * 3, (1.0,) * 3), 3, 6, (3,)),
    ):
        assert (space.outputs, space.parameters, space.shape) == (outputs, parameters, shape)


def test_factors_and_bounds():
    assert Discrete(5).counts == (5,)
    assert MultiDiscrete((5, 10)).counts == (5, 10)
    assert Box((-1.0, -math.inf), (2.0, 0.0)).bounds == [(-1.0, 2.0), (-math.inf, 0.0)]


def test_spaces_are_values():
    """By which equal agents are put into one group."""
    assert len({Discrete(3), Discrete(3), MultiDiscrete((3,)), Box((0.0,), (1.0,)), Box((0.0,), (1.0,), True)}) == 4


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Discrete(0), "Discrete: at least one choice is needed, but got 0"),
        (lambda: MultiDiscrete(()), r"MultiDiscrete: each factor needs at least one choice, but got \(\)"),
        (lambda: MultiDiscrete((3, 0)), r"MultiDiscrete: each factor .* got \(3, 0\)"),
        (lambda: Box((), ()), r"Box: low < high must hold in each dimension, but got low=\(\), high=\(\)"),
        (lambda: Box((0.0,), (1.0, 2.0)), r"low=\(0.0,\), high=\(1.0, 2.0\)"),
        (lambda: Box((0.0, 1.0), (1.0, 1.0)), "low < high must hold"),
        (lambda: Box((0.0,), (math.nan,)), "low < high must hold"),
        (lambda: Box((0.0,), (math.inf,), squashed=True), "squashed actions need finite bounds.* leave out env.squash"),
    ],
)
def test_spaces_that_are_none(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
