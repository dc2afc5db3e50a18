import pytest
import torch

from kdnas.distill import kl_with_temperature

LN3 = 1.0986122886681098


def test_two_actions_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2) = 0.304099 - 0.173287
    loss = kl_with_temperature(torch.zeros(1, 2), torch.tensor([[LN3, 0.0]]), None, 1.0)
    assert float(loss) == pytest.approx(0.130812, abs=1e-6)
    # The other way round it is another number: 1/2 ln(2/3) + 1/2 ln(2) = 0.143841
    loss = kl_with_temperature(torch.tensor([[LN3, 0.0]]), torch.zeros(1, 2), None, 1.0)
    assert float(loss) == pytest.approx(0.143841, abs=1e-6)


def test_temperature_by_hand() -> None:
    # p = (sqrt 3, 1) / (sqrt 3 + 1) = (.633975, .366025): 4 (.633975 ln 1.267949 + .366025 ln .732051) = 4 x .0363415
    loss = kl_with_temperature(torch.zeros(1, 2), torch.tensor([[LN3, 0.0]]), None, 2.0)
    assert float(loss) == pytest.approx(0.145366, abs=1e-5)


def test_the_mean_over_the_batch() -> None:
    teacher = torch.tensor([[LN3, 0.0], [0.0, 0.0]])
    assert float(kl_with_temperature(torch.zeros(2, 2), teacher, None, 1.0)) == pytest.approx(0.130812 / 2, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_masked_actions_count_for_nothing(temperature: float) -> None:
    mask = torch.tensor([[True, False, True]])
    student = torch.tensor([[0.0, 7.0, 0.0]], requires_grad=True)
    loss = kl_with_temperature(student, torch.tensor([[LN3, 1e6, 0.0]]), mask, temperature)
    want = kl_with_temperature(torch.zeros(1, 2), torch.tensor([[LN3, 0.0]]), None, temperature)
    assert float(loss.detach()) == pytest.approx(float(want), abs=1e-6)
    loss.backward()
    assert student.grad is not None
    assert student.grad[0, 1] == 0
    assert student.grad.isfinite().all()


def test_one_legal_action_teaches_nothing() -> None:
    student = torch.tensor([[3.0, 1.0]], requires_grad=True)
    loss = kl_with_temperature(student, torch.tensor([[0.0, 5.0]]), torch.tensor([[True, False]]), 1.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert student.grad.abs().max() == 0


def test_equal_up_to_a_constant_is_equal() -> None:
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert float(kl_with_temperature(logits + 3.0, logits, None, 2.0)) == pytest.approx(0, abs=1e-5)
