import pytest
import torch

from kdnas.distill.thresholds import AgreementThreshold, Plateau


def batch(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_the_threshold_follows_by_hand() -> None:
    threshold = AgreementThreshold(0.5, 0.75)
    # The median of the first batch is 3, so two of five rows are below; 5/3 each of the others.
    assert threshold.weights(batch(1, 2, 3, 4, 5)).tolist() == pytest.approx([0, 0, 5 / 3, 5 / 3, 5 / 3])
    assert threshold.threshold == 3
    # The median is 1: 3/4 x 3 + 1/4 x 1 = 2.5, and one of three is above.
    assert threshold.weights(batch(0, 1, 9)).tolist() == pytest.approx([0, 0, 3])
    assert threshold.threshold == 2.5
    # The quantile lies between rows: of 4 and 8 it is 6; 3/4 x 2.5 + 1/4 x 6 = 3.375, and both are above.
    assert threshold.weights(batch(4, 8)).tolist() == [1, 1]
    assert threshold.threshold == 3.375


def test_what_a_student_still_gets_wrong_by_its_own_standard_falls() -> None:
    threshold = AgreementThreshold(0.5, 0.5)
    threshold.weights(batch(1, 2, 3))
    assert threshold.weights(batch(0, 1, 1.6)).tolist() == pytest.approx([0, 0, 3])  # 1.5
    # 1/2 x 1.5 + 1/2 x 0.8 = 1.15
    assert threshold.weights(batch(0.5, 0.8, 1.2)).tolist() == pytest.approx([0, 0, 3])


def test_a_batch_that_is_wholly_below_is_kept_whole() -> None:
    threshold = AgreementThreshold(0.5, 0.99)
    threshold.weights(batch(10, 10, 10))
    assert threshold.weights(batch(1, 2, 3)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_rows_are_all_kept(value: float) -> None:
    threshold = AgreementThreshold(0.9, 0.9)
    for _ in range(5):
        assert threshold.weights(torch.full((4,), value)).tolist() == [1, 1, 1, 1]


def test_decisions_that_matter_weigh_more() -> None:
    threshold = AgreementThreshold(0.5, 0.5)
    weights = threshold.weights(batch(1, 3, 3, 3), batch(-100, 0, 1, -5))
    # The median is 3. Of the kept ones |A| = 0, 1, 5 of mean 2: 1, 1.5, 3.5 of sum 6, times 4 rows.
    assert weights.tolist() == pytest.approx([0, 2 / 3, 1, 7 / 3])
    # In another unit, the same.
    again = AgreementThreshold(0.5, 0.5).weights(batch(1, 3, 3, 3), batch(-100, 0, 1, -5) * 1e3)
    assert again.tolist() == pytest.approx(weights.tolist())


def test_without_any_advantage_all_weigh_alike() -> None:
    assert AgreementThreshold(0.5, 0.5).weights(batch(1, 3, 3), batch(7, 0, 0)).tolist() == [0, 1.5, 1.5]


def test_weights_carry_no_gradient() -> None:
    divergence = batch(1, 2).requires_grad_()
    assert not AgreementThreshold(0.5, 0.5).weights(divergence).requires_grad


def stops(plateau: Plateau, *divergences: float) -> list[bool]:
    return [plateau.should_stop(divergence) for divergence in divergences]


def test_it_stops_after_its_patience() -> None:
    # 0.89 is progress over 1; 0.85 is not over 0.89 (0.801 would be), and neither is 0.9.
    assert stops(Plateau(2, 0.1), 1.0, 0.89, 0.85, 0.9, 0.9) == [False, False, False, True, True]


def test_progress_starts_the_wait_again() -> None:
    assert stops(Plateau(2, 0.1), 1.0, 1.0, 0.9, 0.9, 0.9) == [False, False, False, False, True]


def test_small_steps_add_up() -> None:
    # Each is 4 % or so: every third lies 10 % below the last one that was progress (1, then 0.88).
    assert stops(Plateau(3, 0.1), 1.0, 0.96, 0.92, 0.88, 0.85, 0.81, 0.78) == [False] * 7


def test_patience_0_never_stops() -> None:
    assert not any(stops(Plateau(0, 0.1), *[1.0] * 50))


def test_perfect_agreement_is_progress_only_once() -> None:
    assert stops(Plateau(1, 0.1), 1.0, 0.0, 0.0) == [False, False, True]


def test_a_divergence_that_is_no_number_is_no_progress() -> None:
    assert stops(Plateau(1, 0.1), 1.0, float("nan")) == [False, True]
