from pathlib import Path

import pytest

from kdnas.config import find_space, find_study
from kdnas.config import shipped as module
from kdnas.errors import ConfigError


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A package that ships the studies `spread` and `spread_tiny`, and a space of the first name."""
    for file in ("studies/spread.toml", "studies/spread_tiny.toml", "search_spaces/spread.toml"):
        path = tmp_path / "house" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "house" / "kdnas")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "house"


def test_a_shipped_name(checkout):
    assert find_study("spread") == checkout / "studies/spread.toml"
    assert find_space("spread", Path("elsewhere")) == checkout / "search_spaces/spread.toml"


def test_the_wheel_carries_them_inside(checkout):
    inside = checkout / "kdnas/shipped/studies/spread.toml"
    inside.parent.mkdir(parents=True)
    inside.write_text("")
    assert find_study("spread") == inside


def test_a_study_by_its_path(checkout, tmp_path):
    (tmp_path / "mine.toml").write_text("")
    assert find_study("mine.toml") == tmp_path / "mine.toml"
    assert find_study(str(tmp_path / "mine.toml")) == tmp_path / "mine.toml"


def test_a_space_is_relative_to_the_study(checkout, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/mine.toml").write_text("")
    assert find_space("mine.toml", tmp_path / "sub") == tmp_path / "sub/mine.toml"
    with pytest.raises(ConfigError):
        find_space("mine.toml", tmp_path)


def test_a_misspelt_name_names_the_nearest(checkout):
    with pytest.raises(ConfigError) as raised:
        find_study("spred")
    assert str(raised.value) == (
        "no study 'spred': did you mean 'spread'? (known: spread, spread_tiny); or give the path of a .toml file"
    )


def test_a_path_that_is_not_there(checkout):
    with pytest.raises(ConfigError, match=r"study file absent\.toml is not there; shipped: spread, spread_tiny"):
        find_study("absent.toml")
