import math

import numpy as np
import pytest
import torch

from kdnas.policies import ILLEGAL, Discrete, MultiDiscrete, entropy, greedy, log_prob, mask_logits
from kdnas.policies.masks import allows_all_factors

# Weights 1 : 2 : 5, so probabilities 1/8, 2/8 and 5/8.
LOGITS = torch.tensor([0.0, math.log(2), math.log(5)])
THREE = Discrete(3)


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


def test_greedy_never_takes_an_illegal_action():
    assert greedy(THREE, mask_logits(LOGITS, torch.tensor([True, False, False]))) == 0


def test_entropy_counts_legal_actions_alone():
    masked = mask_logits(torch.zeros(4), torch.tensor([True, True, False, False]))
    assert entropy(Discrete(4), masked).item() == pytest.approx(math.log(2))
    assert entropy(Discrete(4), mask_logits(torch.zeros(4), torch.tensor([True, False, False, False]))).item() == 0.0


def test_each_factor_is_masked_by_its_own_part():
    # Factors of 2 (1 : 3) and 3 (1 : 2 : 5) actions; what is left are 1 of the first and 1 : 2 of the second.
    space, logits = MultiDiscrete((2, 3)), torch.cat([torch.tensor([0.0, math.log(3)]), LOGITS])
    masked = mask_logits(logits, torch.tensor([True, False, True, True, False]))
    assert greedy(space, masked).tolist() == [0, 1]
    # 1 times 2/3; and nothing is left to the others.
    assert log_prob(space, masked, torch.tensor([0, 1])).exp().item() == pytest.approx(2 / 3)
    assert log_prob(space, masked, torch.tensor([1, 1])).exp() == 0
    assert log_prob(space, masked, torch.tensor([0, 2])).exp() == 0
    # 1/3 ln 3 + 2/3 ln 3/2 = 0.36620 + 0.27031; of the first factor none.
    assert entropy(space, masked).item() == pytest.approx(0.63651, abs=1e-5)


def test_every_factor_needs_a_legal_choice():
    space = MultiDiscrete((2, 3))
    masks = np.array([[1, 0, 0, 0, 1], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], np.bool_)
    assert allows_all_factors(space, masks).tolist() == [True, False, False, False]
    assert allows_all_factors(Discrete(5), masks).tolist() == [True, True, True, False]
    assert allows_all_factors(space, masks[0])


def test_gradients_do_not_pass_through_illegal_actions():
    logits = LOGITS.clone().requires_grad_()
    masked = mask_logits(logits, torch.tensor([True, True, False]))
    log_prob(THREE, masked, torch.tensor(0)).backward()
    # d log p_0 / d z = 1 - p_0 for the action itself and -p_1 for the other: 2/3, -2/3.
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([2 / 3, -2 / 3, 0.0])
