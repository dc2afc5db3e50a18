import math

import numpy as np
import pytest
from numpy.typing import NDArray

from kdnas.errors import EnvError
from kdnas.evaluation import make_score
from kdnas.study.prediction import Correction, MarginalLosses, Prediction, fit_correction, prediction_error

from .conftest import mlp

SMALL, LARGE = mlp("w4a8i8", 16), mlp("float", 64)
TEACHER, RANDOM = np.array([-6.0, -10.0]), np.array([-26.0, -30.0])
"""The teacher is 20 above random play in both episodes, and the second episode is 4 harder."""

RUNGS = {"pair": 1, "solo": 0}


@pytest.fixture
def losses() -> MarginalLosses:
    """One small student in `pair` loses 1 and 3, in `solo` 2 and 0; a large one in `solo` loses nothing."""
    made = MarginalLosses(teacher=TEACHER, random=RANDOM)
    made.record("pair", SMALL, 1, np.array([-7.0, -13.0]))
    made.record("solo", SMALL, 0, np.array([-8.0, -10.0]))
    made.record("solo", LARGE, 0, TEACHER)
    return made


def test_a_loss_by_hand(losses: MarginalLosses) -> None:
    loss = losses.loss("pair", SMALL, 1)
    # Lost are 1 and 3 of 20: 0.1 on average. Around it 1 - 2 and 3 - 2, a standard deviation of sqrt(2) over one
    # degree of freedom, sqrt(2) / sqrt(2) = 1 of the mean, 1 / 20 of retention; 1.96 of them to either side.
    assert (loss.mean, loss.low, loss.high) == pytest.approx((0.1, 0.1 - 0.098, 0.1 + 0.098), abs=1e-5)
    assert loss.episodes == 2


def test_a_student_that_plays_as_the_teacher_loses_nothing_for_certain(losses: MarginalLosses) -> None:
    loss = losses.loss("solo", LARGE, 0)
    assert (loss.mean, loss.low, loss.high) == (0.0, 0.0, 0.0)


def test_the_interval_is_that_of_the_score() -> None:
    """300 episodes of very different luck: the normal interval and the resampled one of `make_score` agree."""
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 30, 300)
    teacher, random = luck - 8, luck - 28 + rng.normal(0, 3, 300)
    student = teacher - rng.exponential(1.0, 300)
    losses = MarginalLosses(teacher=teacher, random=random, returns={("pair", SMALL, 0): student})
    loss, score = losses.loss("pair", SMALL, 0), make_score(student, teacher, random).retention
    assert loss.mean == pytest.approx(1 - score.mean)
    # 2,000 resamples know a bound of such an interval to about 5 % of its width.
    width = score.high - score.low
    assert (loss.low, loss.high) == pytest.approx((1 - score.high, 1 - score.low), abs=0.1 * width)
    assert width < 0.02  # unpaired, luck alone would make it 2 x 1.96 x 30 / sqrt(300) / 20 = 0.34


def test_a_team_is_predicted_by_hand(losses: MarginalLosses) -> None:
    prediction = losses.predict({"pair": SMALL, "solo": SMALL}, RUNGS)
    # Lost are 1 + 2 and 3 + 0: 3 of 20 in each episode. The ups and downs of the two cancel.
    assert (prediction.retention, prediction.standard_error) == pytest.approx((0.85, 0.0))
    alone = losses.predict({"pair": SMALL}, RUNGS)
    assert (alone.retention, alone.standard_error) == pytest.approx((0.9, 0.05))
    assert losses.predict({}, RUNGS) == Prediction(retention=1.0, standard_error=0.0)


def test_a_team_that_played_some_episodes_is_predicted_in_these(losses: MarginalLosses) -> None:
    first = losses.predict({"pair": SMALL}, RUNGS, episodes=1)
    assert (first.retention, first.standard_error) == (pytest.approx(0.95), math.inf)  # 1 of 20
    assert losses.predict({"pair": SMALL}, RUNGS, episodes=2) == losses.predict({"pair": SMALL}, RUNGS)


def test_the_prediction_is_one_less_the_sum_of_losses(losses: MarginalLosses) -> None:
    team = {"pair": SMALL, "solo": SMALL}
    assert losses.predict(team, RUNGS).retention == pytest.approx(
        1 - sum(losses.loss(group, spec, RUNGS[group]).mean for group, spec in team.items())
    )


def test_a_student_is_another_one_at_each_rung(losses: MarginalLosses) -> None:
    losses.record("pair", SMALL, 2, TEACHER)
    losses.record("pair", SMALL, 0, RANDOM)
    assert [losses.loss("pair", SMALL, rung).mean for rung in (0, 1, 2)] == pytest.approx([1.0, 0.1, 0.0])
    team = {"pair": SMALL, "solo": SMALL}
    retained = [losses.predict(team, {"pair": rung, "solo": 0}).retention for rung in (1, 2)]
    assert retained == pytest.approx([0.85, 0.95])


def test_what_was_not_played_is_not_predicted(losses: MarginalLosses) -> None:
    with pytest.raises(KeyError, match="pair mlp 64 float: was not played alone at rung 1'"):
        losses.predict({"pair": LARGE}, RUNGS)
    with pytest.raises(KeyError, match="pair mlp 16 w4a8i8: was not played alone at rung 0"):
        losses.loss("pair", SMALL, 0)


@pytest.mark.parametrize("returns", [np.zeros(3), np.zeros((2, 1)), np.array([0.0, np.nan])])
def test_returns_of_other_episodes_are_refused(losses: MarginalLosses, returns: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        losses.record("pair", SMALL, 0, returns)


def test_a_teacher_no_better_than_random_play_is_refused() -> None:
    with pytest.raises(EnvError, match="there is nothing to retain"):
        MarginalLosses(teacher=RANDOM, random=RANDOM)


def test_a_single_episode_says_nothing_of_the_error() -> None:
    losses = MarginalLosses(teacher=TEACHER[:1], random=RANDOM[:1], returns={("pair", SMALL, 1): np.array([-7.0])})
    assert losses.predict({"pair": SMALL}, RUNGS) == Prediction(retention=pytest.approx(0.95), standard_error=math.inf)


def teams(count: int, bend: float, noise: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted and played retentions of teams of three groups; what is played loses bend x loss^2 more."""
    rng = np.random.default_rng(seed)
    lost = rng.uniform(0.0, 0.12, (count, 3)).sum(1)
    return 1 - lost, 1 - lost - bend * lost**2 + rng.normal(0, noise, count)


@pytest.mark.parametrize("seed", range(5))
def test_where_bad_teams_are_worse_than_their_sum_the_correction_wins(seed: int) -> None:
    predicted, played = teams(20, bend=0.8, noise=0.004, seed=seed)
    correction = fit_correction(predicted, played)
    assert correction is not None
    # It is judged on teams that it has not seen: 2,000 others of the same kind.
    others, truth = teams(2000, bend=0.8, noise=0.004, seed=100 + seed)
    corrected = np.array([correction.apply(value) for value in others])
    after = prediction_error(corrected, truth)
    assert after < 0.6 * prediction_error(others, truth)
    # And its own estimate of that error is right within a factor of 1.5, with 20 teams to tell by.
    assert after / 1.5 < correction.error < after * 1.5
    assert correction.teams == 20


def test_where_losses_add_up_the_correction_is_refused() -> None:
    # Residuals +e, -e, -e, +e at each loss: no shift and no slope, and what leaving one out fits is wrong for that one.
    predicted = np.repeat([0.95, 0.9, 0.8], 4)
    played = predicted + np.tile([0.01, -0.01, -0.01, 0.01], 3)
    assert fit_correction(predicted, played) is None
    assert prediction_error(predicted, played) == pytest.approx(0.01)


def test_an_exact_sum_needs_no_correction() -> None:
    predicted, played = teams(20, bend=0.0, noise=0.0)
    assert fit_correction(predicted, played) is None


def test_few_teams_say_nothing() -> None:
    predicted, played = teams(8, bend=0.8, noise=0.0)
    assert fit_correction(predicted, played) is not None
    assert fit_correction(predicted[:7], played[:7]) is None
    assert math.isnan(prediction_error(predicted[:0], played[:0]))


def test_a_correction_that_would_reverse_the_order_is_refused() -> None:
    predicted = np.linspace(0.2, 0.9, 30)
    assert fit_correction(predicted, 1.5 - 2 * predicted) is None


def test_a_correction_by_hand() -> None:
    correction = Correction(shift=-0.01, steeper=0.2, error=0.0, teams=8)
    assert correction.apply(0.9) == pytest.approx(0.9 - 0.01 - 0.02)
    # Nine equal teams that lose 0.1 and 0.02 more. Both columns are then 1 and -1, and the ridge of one team shares
    # the residual: shift = -steeper x 0.1 = -0.02 x 9 / (2 x 9 + 1).
    predicted = np.full(9, 0.9)
    fitted = fit_correction(predicted, predicted - 0.02)
    assert fitted is not None
    assert (fitted.shift, fitted.steeper) == pytest.approx((-0.18 / 19, 1.8 / 19))
    assert fitted.apply(0.9) == pytest.approx(0.9 - 0.36 / 19)
    # With one left out eight are fitted: 0.02 - 0.32 / 17 is what each is off by.
    assert fitted.error == pytest.approx(0.02 - 0.32 / 17)
