import math

import pytest
import torch

from kdnas.distill.losses import (
    Projector,
    cross_entropy,
    divergence,
    q_error,
    relation,
    representation,
    role_alignment,
    similarity,
    weighted_mean,
)
from kdnas.policies.actions import Box, Discrete, MultiDiscrete

LN3 = math.log(3)
TWO, THREE = Discrete(2), Discrete(3)
PAIR = MultiDiscrete((2, 3))
PLANE = Box((-1.0, -1.0), (1.0, 1.0))


def rows(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# Divergence.


def test_two_actions_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2) = 0.304099 - 0.173287
    loss = divergence(TWO, rows([0.0, 0.0]), rows([LN3, 0.0]), None, 1.0)
    assert loss.tolist() == pytest.approx([0.130812], abs=1e-6)
    # The other way round it is another number: 1/2 ln(2/3) + 1/2 ln(2) = 0.143841
    loss = divergence(TWO, rows([LN3, 0.0]), rows([0.0, 0.0]), None, 1.0)
    assert loss.tolist() == pytest.approx([0.143841], abs=1e-6)


def test_temperature_by_hand() -> None:
    # p = (sqrt 3, 1) / (sqrt 3 + 1) = (.633975, .366025): 4 (.633975 ln 1.267949 + .366025 ln .732051) = 4 x .0363415
    loss = divergence(TWO, rows([0.0, 0.0]), rows([LN3, 0.0]), None, 2.0)
    assert loss.tolist() == pytest.approx([0.145366], abs=1e-5)


def test_each_row_has_its_own() -> None:
    loss = divergence(TWO, torch.zeros(2, 2), rows([LN3, 0.0], [0.0, 0.0]), None, 1.0)
    assert loss.tolist() == pytest.approx([0.130812, 0.0], abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_masked_actions_count_for_nothing(temperature: float) -> None:
    mask = torch.tensor([[True, False, True]])
    student = torch.tensor([[0.0, 7.0, 0.0]], requires_grad=True)
    loss = divergence(THREE, student, rows([LN3, 1e6, 0.0]), mask, temperature)
    want = divergence(TWO, torch.zeros(1, 2), rows([LN3, 0.0]), None, temperature)
    torch.testing.assert_close(loss.detach(), want)
    loss.sum().backward()
    assert student.grad is not None
    assert student.grad[0, 1] == 0
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("legal", [[True, False], [False, False]])
def test_one_legal_action_or_none_teaches_nothing(legal: list[bool]) -> None:
    student = torch.tensor([[3.0, 1.0]], requires_grad=True)
    loss = divergence(TWO, student, rows([0.0, 5.0]), torch.tensor([legal]), 1.0)
    loss.sum().backward()
    assert loss.tolist() == [0]
    assert student.grad is not None
    assert student.grad.abs().max() == 0


def test_equal_up_to_a_constant_is_equal() -> None:
    logits = noise(50, 3)
    assert float(divergence(THREE, logits + 3.0, logits, None, 2.0).abs().max()) == pytest.approx(0, abs=1e-5)


def test_factors_add_up() -> None:
    # The first factor as above, 0.130812; p = (2/4, 1/4, 1/4) in the second: 1/2 ln(3/2) + 1/2 ln(3/4) = 0.058892
    teacher = rows([LN3, 0.0, math.log(2), 0.0, 0.0])
    loss = divergence(PAIR, torch.zeros(1, 5), teacher, None, 1.0)
    assert loss.tolist() == pytest.approx([0.130812 + 0.058892], abs=1e-6)
    # The first choice of the second factor forbidden: (1/2, 1/2) on both sides.
    mask = torch.tensor([[True, True, False, True, True]])
    assert divergence(PAIR, torch.zeros(1, 5), teacher, mask, 1.0).tolist() == pytest.approx([0.130812], abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("space", [PLANE, Box(PLANE.low, PLANE.high, squashed=True)])
def test_gaussians_by_hand(space: Box, temperature: float) -> None:
    # sigma = (1, 2): (3 - 1)^2 / 2 + (0 - 4)^2 / (2 x 4) = 2 + 2
    loss = divergence(space, rows([3.0, 0.0]), rows([1.0, 4.0, 0.0, math.log(2)]), None, temperature)
    assert loss.tolist() == pytest.approx([4.0])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gaussians_are_those_of_torch_with_wider_deviations(temperature: float) -> None:
    student, teacher = noise(20, 2).double(), noise(20, 4).double().clamp(-2, 2)
    deviation = temperature * teacher[:, 2:].exp()
    ours, theirs = (torch.distributions.Normal(mean, deviation) for mean in (student, teacher[:, :2]))
    want = temperature**2 * torch.distributions.kl_divergence(theirs, ours).sum(-1)
    torch.testing.assert_close(divergence(PLANE, student, teacher, None, temperature), want)


def test_deviations_are_clipped() -> None:
    # log sigma = -5 at least: 0.001^2 / 2 x e^10 = 5e-7 x 22026.466
    loss = divergence(PLANE, rows([0.001, 0.0]), rows([0.0, 0.0, -80.0, 0.0]), None, 1.0)
    assert loss.tolist() == pytest.approx([0.011013233], rel=1e-5)


# Cross-entropy and action values.


def test_cross_entropy_by_hand() -> None:
    # The student gives 3/4 and 1/4; the teacher is greedy in either direction: ln(4/3) and ln 4.
    loss = cross_entropy(TWO, rows([LN3, 0.0], [LN3, 0.0]), rows([9.0, 8.0], [8.0, 9.0]), None)
    assert loss.tolist() == pytest.approx([math.log(4 / 3), math.log(4)])
    # Forbidden is what the teacher likes best and the student too: of the others (3/4, 1/4), its choice is the second.
    mask = torch.tensor([[False, True, True]])
    assert cross_entropy(THREE, rows([9.0, LN3, 0.0]), rows([9.0, 1.0, 2.0]), mask).tolist() == pytest.approx(
        [math.log(4)]
    )


def test_cross_entropy_adds_up_over_factors() -> None:
    loss = cross_entropy(PAIR, torch.zeros(1, 5), noise(1, 5), None)
    assert loss.tolist() == pytest.approx([math.log(2) + math.log(3)])  # a half, and a third


def test_q_error_by_hand() -> None:
    # Q = 0.5 x (4, 2, 100), the student says 0.5 x (2, 2, 0): ((1)^2 + 0 + 50^2) / 3, and ((1)^2 + 0) / 2 legal ones.
    student, teacher = rows([2.0, 2.0, 0.0]), rows([4.0, 2.0, 100.0])
    assert q_error(THREE, student, teacher, None, 0.5).tolist() == pytest.approx([2501 / 3])
    assert q_error(THREE, student, teacher, torch.tensor([[True, True, False]]), 0.5).tolist() == [0.5]
    assert q_error(THREE, student, teacher, torch.zeros(1, 3, dtype=torch.bool), 0.5).tolist() == [0.0]


# Relation.


def test_representations_by_hand() -> None:
    # Less the mean of each factor: (1, 3) - 2 and (0, 3, 6) - 3; of the legal ones only: (3, 6) - 4.5.
    logits = rows([1.0, 3.0, 0.0, 3.0, 6.0])
    assert representation(PAIR, logits, None).tolist() == [[-1, 1, -3, 0, 3]]
    mask = torch.tensor([[True, True, False, True, True]])
    assert representation(PAIR, rows([1.0, 3.0, 1e6, 3.0, 6.0]), mask).tolist() == [[-1, 1, 0, -1.5, 1.5]]
    assert representation(PLANE, rows([1.0, 2.0, 3.0, 4.0]), None).tolist() == [[1, 2]]
    assert representation(PLANE, rows([1.0, 2.0]), None).tolist() == [[1, 2]]


def test_one_column_by_hand() -> None:
    # CKA of single columns is the squared correlation. x = (-1, 0, 1), y = (1, 0, 2) - 1 = (0, -1, 1): x.y = 1,
    # |x|^2 = |y|^2 = 2, so 1^2 / (2 x 2).
    x, y = rows([-1.0], [0.0], [1.0]), rows([1.0], [0.0], [2.0])
    assert float(similarity(x, y)) == pytest.approx(1 / 4)


def test_two_columns_by_hand() -> None:
    # X = (x, e) and Y = (x), with x = (1, 1, -1, -1) and e = (1, -1, 1, -1): X'X = 4 I, of norm 4 sqrt 2; Y'Y = 4;
    # Y'X = (4, 0): 16 / (4 sqrt 2 x 4) = 1 / sqrt 2.
    x, e = [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]
    both, one = torch.tensor([x, e]).T, torch.tensor([x]).T
    assert float(similarity(both, one)) == pytest.approx(2**-0.5)
    assert float(similarity(one, both)) == pytest.approx(2**-0.5)
    assert float(similarity(torch.tensor([e]).T, one)) == 0


def test_neither_scale_nor_rotation_nor_shift_changes_it() -> None:
    left, right = noise(40, 3), noise(40, 5).flip(0)
    turn = torch.linalg.qr(noise(5, 5)).Q
    want = similarity(left, right)
    for scale in (1e-6, 1e6):
        torch.testing.assert_close(similarity(left * scale, right @ turn * 7 + 2), want, rtol=1e-4, atol=1e-5)
    assert float(similarity(left, 3 * left)) == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e5])
def test_a_constant_is_similar_to_nothing_and_has_no_gradient(value: float) -> None:
    student = torch.full((100, 4), value, requires_grad=True)
    loss = relation(student, noise(100, 4), [noise(100, 3), torch.full((100, 2), 0.3)])
    # Of itself and the first three columns of it, to nothing of the second.
    want = float(similarity(noise(100, 4), noise(100, 3))) ** 2 / 2
    assert float(loss.detach()) == pytest.approx(want)
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().max() == 0


def test_relation_by_hand() -> None:
    # Columns x, e and x + e of the test above. To x: the student is x, 1, and the teacher is e, 0; to x + e: both
    # have the squared correlation 4^2 / (4 x 8) = 1/2. The mean of (1 - 0)^2 and (1/2 - 1/2)^2.
    x, e = torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]).unsqueeze(-1)
    assert float(relation(x, e, [x, x + e])) == pytest.approx(0.5)
    assert float(relation(3 * e, e, [x, x + e])) == 0


def test_the_gradient_of_relation_is_right() -> None:
    student = noise(6, 3).double().requires_grad_()
    teacher, other = noise(6, 2).double(), noise(6, 4).double()
    assert torch.autograd.gradcheck(lambda said: relation(said, teacher, [other]), (student,))


# Roles.


def test_alignment_by_hand() -> None:
    projected = rows([3.0, 4.0], [1.0, 0.0], [-2.0, 0.0], [0.0, 0.0])
    roles = rows([6.0, 8.0], [1.0, 1.0], [5.0, 0.0], [1.0, 1.0])
    # The same direction, 45 degrees, the opposite, and nothing.
    assert role_alignment(projected, roles).tolist() == pytest.approx([0, 1 - 2**-0.5, 2, 1], abs=1e-6)


def test_a_row_of_zeros_has_a_small_gradient() -> None:
    projected = torch.zeros(1, 2, requires_grad=True)
    role_alignment(projected, rows([3.0, 4.0])).sum().backward()
    assert projected.grad is not None
    # -role / (|role| 0.001) = -(0.6, 0.8) / 0.001
    assert projected.grad.tolist()[0] == pytest.approx([-600, -800], rel=1e-3)


def test_a_projector_is_its_generator_s() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (Projector(8, 3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)
    torch.testing.assert_close(first.linear.weight @ first.linear.weight.T, torch.eye(3))
    assert first(torch.zeros(5, 8)).tolist() == [[0, 0, 0]] * 5


# Rows to one number.


def test_weighted_mean_by_hand() -> None:
    assert float(weighted_mean(torch.tensor([1.0, 2.0, 6.0]), None)) == 3
    assert float(weighted_mean(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([3.0, 0.0, 2.0]))) == 5  # (3 + 0 + 12) / 3
    assert float(weighted_mean(torch.tensor([1.0, 2.0]), torch.zeros(2))) == 0
