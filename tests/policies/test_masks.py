import math

import pytest
import torch

from kdnas.policies.categorical import ILLEGAL, entropy, greedy, log_prob, mask_logits, sample

# Weights 1 : 2 : 5, so probabilities 1/8, 2/8 and 5/8.
LOGITS = torch.tensor([0.0, math.log(2), math.log(5)])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_a_mask_logits_are_left_alone():
    assert mask_logits(LOGITS, None) is LOGITS


def test_illegal_actions_have_probability_zero():
    masked = mask_logits(LOGITS, torch.tensor([True, True, False]))
    # 1/8 and 2/8, renormalised.
    assert masked.softmax(-1).tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert masked.softmax(-1)[2] == 0.0
    assert masked[2] == ILLEGAL
    assert masked.dtype == torch.float32


def test_masks_are_batched():
    mask = torch.tensor([[True, False, True], [False, True, True]])
    assert mask_logits(LOGITS.expand(2, 3), mask).softmax(-1)[:, 2].tolist() == pytest.approx([5 / 6, 5 / 7])


def test_greedy_takes_the_most_likely():
    assert greedy(torch.stack([LOGITS, -LOGITS])).tolist() == [2, 0]


@pytest.mark.parametrize("size", [2, 5, 14, 64, 1000])
def test_among_equals_greedy_takes_the_lowest(size):
    # Every place of the first maximum, in vectorised and in leftover lanes.
    logits = torch.zeros(size, size)
    for row in range(size):
        logits[row, row:] = 1.0
    assert greedy(logits).tolist() == list(range(size))


def test_greedy_never_takes_an_illegal_action():
    assert greedy(mask_logits(LOGITS, torch.tensor([True, False, False]))) == 0


def test_samples_have_the_distributions_frequencies():
    counts = sample(LOGITS.expand(20_000, 3), generator()).bincount(minlength=3) / 20_000
    # Standard deviation of a frequency p: sqrt(p (1 - p) / 20,000) <= 0.0034; four of them are 0.014.
    assert counts.tolist() == pytest.approx([0.125, 0.25, 0.625], abs=0.014)


def test_samples_are_never_illegal():
    masked = mask_logits(LOGITS, torch.tensor([True, False, True])).expand(20_000, 3)
    counts = sample(masked, generator()).bincount(minlength=3) / 20_000
    assert counts[1] == 0
    assert counts[0].item() == pytest.approx(1 / 6, abs=0.011)  # four times sqrt(1/6 * 5/6 / 20,000) = 0.0026


def test_samples_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    logits = LOGITS.expand(4, 7, 3)
    first = sample(logits, generator(1))
    assert first.shape == (4, 7)
    assert torch.equal(first, sample(logits, generator(1)))
    assert not torch.equal(first, sample(logits, generator(2)))
    assert torch.equal(state, torch.random.get_rng_state())


def test_log_prob_by_hand():
    actions = torch.tensor([[0, 1], [2, 2]])
    expected = [[math.log(1 / 8), math.log(2 / 8)], [math.log(5 / 8), math.log(5 / 8)]]
    assert torch.allclose(log_prob(LOGITS.expand(2, 2, 3), actions), torch.tensor(expected))


def test_entropy_by_hand():
    # -(1/8 ln 1/8 + 2/8 ln 2/8 + 5/8 ln 5/8) = 0.25993 + 0.34657 + 0.29375 = 0.90026
    assert entropy(LOGITS).item() == pytest.approx(0.90026, abs=1e-5)
    assert entropy(torch.zeros(4)).item() == pytest.approx(math.log(4))


def test_entropy_counts_legal_actions_alone():
    masked = mask_logits(torch.zeros(4), torch.tensor([True, True, False, False]))
    assert entropy(masked).item() == pytest.approx(math.log(2))
    assert entropy(mask_logits(torch.zeros(4), torch.tensor([True, False, False, False]))).item() == 0.0


def test_gradients_do_not_pass_through_illegal_actions():
    logits = LOGITS.clone().requires_grad_()
    masked = mask_logits(logits, torch.tensor([True, True, False]))
    log_prob(masked, torch.tensor(0)).backward()
    # d log p_0 / d z = 1 - p_0 for the action itself and -p_1 for the other: 2/3, -2/3.
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([2 / 3, -2 / 3, 0.0])
