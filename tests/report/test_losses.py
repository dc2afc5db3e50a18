from kdnas.evaluation.score import Interval
from kdnas.report.losses import losses_table


def loss(mean: float) -> Interval:
    return Interval(mean=mean, low=mean - 0.004, high=mean + 0.004, episodes=64)


def test_the_group_that_loses_most_comes_first() -> None:
    table = losses_table({7: {"b": loss(0.01), "a": loss(0.01), "c": loss(0.0125)}, 3: {"a": loss(-0.002)}})
    assert table.rows == (
        ("3", "-0.002", "a -0.002 ± 0.004"),
        ("7", "0.033", "c 0.013 ± 0.004, a 0.010 ± 0.004, b 0.010 ± 0.004"),
    )
