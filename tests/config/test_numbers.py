import pytest

from kdnas.config.numbers import format_features


@pytest.mark.parametrize(
    ("features", "said"),
    [((), ""), ((4,), "4"), ((4, 5), "4-5"), ((0, 1, 2, 7, 9, 10), "0-2, 7, 9-10")],
)
def test_features_are_told_as_a_study_names_them(features: tuple[int, ...], said: str) -> None:
    assert format_features(features) == said
