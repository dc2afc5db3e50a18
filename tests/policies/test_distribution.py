import math

import pytest
import torch

from kdnas.policies import (
    Box,
    Discrete,
    MultiDiscrete,
    entropy,
    greedy,
    log_prob,
    mask_logits,
    mode,
    sample,
    to_actions,
)
from kdnas.policies.distribution import LOG_STD_RANGE, factors

THREE = Discrete(3)
# Weights 1 : 2 : 5, so probabilities 1/8, 2/8 and 5/8.
LOGITS = torch.tensor([0.0, math.log(2), math.log(5)])

TWO_FACTORS = MultiDiscrete((2, 3))
# Weights 1 : 3, so probabilities 1/4 and 3/4; and as above.
FACTORED = torch.cat([torch.tensor([0.0, math.log(3)]), LOGITS])

PLANE = Box((-math.inf, -1.0), (1.0, 4.0))
# Means 1 and -2, deviations 1 and 2.
GAUSSIAN = torch.tensor([1.0, -2.0, 0.0, math.log(2)])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_greedy_takes_the_most_likely():
    assert greedy(THREE, torch.stack([LOGITS, -LOGITS])).tolist() == [2, 0]


@pytest.mark.parametrize("size", [2, 5, 14, 64, 1000])
def test_among_equals_greedy_takes_the_lowest(size):
    # Every place of the first maximum, in vectorised and in leftover lanes.
    logits = torch.zeros(size, size)
    for row in range(size):
        logits[row, row:] = 1.0
    assert greedy(Discrete(size), logits).tolist() == list(range(size))


def test_greedy_decides_each_factor_by_itself():
    chosen = greedy(TWO_FACTORS, torch.stack([FACTORED, -FACTORED, torch.zeros(5)]))
    # 3/4 and 5/8 are the largest; of the negatives the first; among equals the lowest.
    assert chosen.tolist() == [[1, 2], [0, 0], [0, 0]]
    assert chosen.dtype == torch.int64
    assert greedy(TWO_FACTORS, FACTORED.expand(4, 7, 5)).shape == (4, 7, 2)


def test_factors_stand_side_by_side():
    first, second = factors(TWO_FACTORS, torch.arange(5))
    assert (first.tolist(), second.tolist()) == ([0, 1], [2, 3, 4])


def test_the_mode_of_a_gaussian_is_its_mean_and_a_student_says_no_more():
    assert mode(PLANE, GAUSSIAN).tolist() == [1.0, -2.0]
    assert mode(PLANE, GAUSSIAN[:2]).tolist() == [1.0, -2.0]
    # Clipped to at least -1 in the second dimension.
    assert greedy(PLANE, GAUSSIAN).tolist() == greedy(PLANE, GAUSSIAN[:2]).tolist() == [1.0, -1.0]


def test_choices_of_discrete_actions_are_the_actions():
    for space, choices in ((THREE, torch.tensor([2, 0])), (TWO_FACTORS, torch.tensor([[1, 2]]))):
        assert to_actions(space, choices) is choices


def test_choices_are_clipped_to_the_bounds():
    choices = torch.tensor([[2.0, -3.0], [0.25, 4.5], [-1e9, 3.0]])
    taken = to_actions(PLANE, choices)
    # At most 1; at least -1 and at most 4; nothing bounds the first from below.
    assert taken.tolist() == [[1.0, -1.0], [0.25, 4.0], [-1e9, 3.0]]
    assert taken.dtype == torch.float32


def test_choices_are_squashed_to_the_bounds():
    space = Box((-2.0, 0.0), (2.0, 10.0), squashed=True)
    # tanh(x) = (e^2x - 1) / (e^2x + 1): with e^2x = 3 it is 1/2, so 3/4 of the way from low to high.
    half = math.log(3) / 2
    rows = torch.tensor([[0.0, 0.0], [half, half], [-half, -half], [50.0, 50.0], [-50.0, -50.0]])
    torch.testing.assert_close(
        to_actions(space, rows), torch.tensor([[0.0, 5.0], [1.0, 7.5], [-1.0, 2.5], [2.0, 10.0], [-2.0, 0.0]])
    )
    torch.testing.assert_close(greedy(space, torch.tensor([half, -half, 9.0, 9.0])), torch.tensor([1.0, 2.5]))


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.3), (0.7, 1e6), (-3e-5, 1.0), (1000.0, 1000.001)])
def test_squashed_actions_never_leave_the_bounds(low, high):
    """Also where the sum would round to a number beyond: an environment may refuse it."""
    bounds = torch.tensor([low, high]).tolist()  # as float32
    space = Box((bounds[0],), (bounds[1],), squashed=True)
    taken = to_actions(space, torch.linspace(-40, 40, 4001)[:, None])
    assert bounds[0] <= taken.min() < taken.max() <= bounds[1]


def test_samples_have_the_distributions_frequencies():
    counts = sample(THREE, LOGITS.expand(20_000, 3), generator()).bincount(minlength=3) / 20_000
    # Standard deviation of a frequency p: sqrt(p (1 - p) / 20,000) <= 0.0034; four of them are 0.014.
    assert counts.tolist() == pytest.approx([0.125, 0.25, 0.625], abs=0.014)


def test_factors_are_sampled_independently():
    drawn = sample(TWO_FACTORS, FACTORED.expand(20_000, 5), generator())
    together = (3 * drawn[:, 0] + drawn[:, 1]).bincount(minlength=6) / 20_000
    # (1/4, 3/4) times (1/8, 2/8, 5/8), in 32nds; standard deviations are at most sqrt(15/32 17/32 / 20,000) = 0.0035.
    assert together.tolist() == pytest.approx([share / 32 for share in (1, 2, 5, 3, 6, 15)], abs=0.014)


def test_gaussian_samples_have_mean_and_deviation():
    drawn = sample(PLANE, GAUSSIAN.expand(20_000, 4), generator())
    # Four standard deviations of a mean are 4 / sqrt(20,000) = 0.028 of the deviation, of a deviation 0.020 of it.
    # Nothing is clipped: a choice lies before the bounds.
    assert drawn.mean(0).tolist() == pytest.approx([1.0, -2.0], abs=0.057)
    assert drawn.std(0).tolist() == pytest.approx([1.0, 2.0], rel=0.02)
    assert drawn[:, 0].max() > 1
    assert abs(drawn.T.corrcoef()[0, 1].item()) < 0.028


def test_samples_are_never_illegal():
    masked = mask_logits(LOGITS, torch.tensor([True, False, True])).expand(20_000, 3)
    counts = sample(THREE, masked, generator()).bincount(minlength=3) / 20_000
    assert counts[1] == 0
    assert counts[0].item() == pytest.approx(1 / 6, abs=0.011)  # four times sqrt(1/6 * 5/6 / 20,000) = 0.0026


@pytest.mark.parametrize(
    ("space", "parameters", "shape"), [(THREE, LOGITS, ()), (TWO_FACTORS, FACTORED, (2,)), (PLANE, GAUSSIAN, (2,))]
)
def test_samples_come_from_the_generator_alone(space, parameters, shape):
    state = torch.random.get_rng_state()
    said = parameters.expand(4, 7, -1)
    first = sample(space, said, generator(1))
    assert first.shape == (4, 7, *shape)
    assert torch.equal(first, sample(space, said, generator(1)))
    assert not torch.equal(first, sample(space, said, generator(2)))
    assert torch.equal(state, torch.random.get_rng_state())


def test_log_prob_by_hand():
    actions = torch.tensor([[0, 1], [2, 2]])
    expected = [[math.log(1 / 8), math.log(2 / 8)], [math.log(5 / 8), math.log(5 / 8)]]
    assert torch.allclose(log_prob(THREE, LOGITS.expand(2, 2, 3), actions), torch.tensor(expected))


def test_log_prob_of_factors_by_hand():
    # 1/4 times 5/8, 3/4 times 1/8.
    said = log_prob(TWO_FACTORS, FACTORED.expand(2, 5), torch.tensor([[0, 2], [1, 0]]))
    assert said.exp().tolist() == pytest.approx([5 / 32, 3 / 32])


def test_log_density_by_hand():
    # Choices at 1 and 2 deviations: -1/2 - 0 - ln(2 pi) / 2 = -1.41894 and -4/2 - ln 2 - 0.91894 = -3.61209.
    said = log_prob(PLANE, GAUSSIAN.expand(2, 4), torch.tensor([[2.0, 2.0], [1.0, -2.0]]))
    # At the means: -0.91894 and -0.91894 - 0.69315.
    assert said.tolist() == pytest.approx([-5.03102, -2.53102], abs=1e-5)


def test_entropy_by_hand():
    # -(1/8 ln 1/8 + 2/8 ln 2/8 + 5/8 ln 5/8) = 0.25993 + 0.34657 + 0.29375 = 0.90026
    assert entropy(THREE, LOGITS).item() == pytest.approx(0.90026, abs=1e-5)
    assert entropy(Discrete(4), torch.zeros(4)).item() == pytest.approx(math.log(4))
    # 1/4 ln 4 + 3/4 ln 4/3 = 0.34657 + 0.21576 besides.
    assert entropy(TWO_FACTORS, FACTORED.expand(3, 5)).tolist() == pytest.approx([0.90026 + 0.56234] * 3, abs=1e-5)
    # ln(2 pi e) / 2 = 1.41894 a dimension, and ln 2 for the deviation of 2.
    assert entropy(PLANE, GAUSSIAN).item() == pytest.approx(2 * 1.41894 + 0.69315, abs=1e-5)


def test_deviations_are_kept_in_a_range():
    line = Box((-1.0,), (1.0,))
    assert LOG_STD_RANGE == (-5.0, 2.0)
    # ln(2 pi e) / 2 - 5 and + 2, however far beyond.
    extremes = torch.tensor([[0.0, -80.0], [0.0, -5.0], [0.0, 2.0], [0.0, 80.0]])
    assert entropy(line, extremes).tolist() == pytest.approx([-3.58106, -3.58106, 3.41894, 3.41894], abs=1e-5)
    # At one deviation of e^2: -1/2 - 2 - 0.91894.
    assert log_prob(line, extremes[3], torch.tensor([math.exp(2)])).item() == pytest.approx(-3.41894, abs=1e-5)
    assert sample(line, extremes[:1].expand(1000, 2), generator()).std().item() == pytest.approx(math.exp(-5), rel=0.1)
