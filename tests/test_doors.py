"""Every room has a door: `__init__.py` with re-exports and a sorted `__all__`, and nothing else to be seen."""

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "kdnas"

ROOMS = sorted(folder.name for folder in PACKAGE.iterdir() if any(folder.glob("*.py")))
DOORS = ["kdnas", *(f"kdnas.{room}" for room in ROOMS if (PACKAGE / room / "__init__.py").is_file())]


def in_order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Types, then functions, as ruff's RUF022 sorts them."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def test_every_room_has_a_door():
    assert [room for room in ROOMS if not (PACKAGE / room / "__init__.py").is_file()] == []


@pytest.mark.parametrize("door", DOORS)
def test_all_is_there_sorted_and_without_repeats(door):
    names = importlib.import_module(door).__all__
    assert list(names) == sorted(names, key=in_order)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("door", DOORS)
def test_every_name_resolves(door):
    module = importlib.import_module(door)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("door", DOORS)
def test_nothing_else_is_public(door):
    module = importlib.import_module(door)
    # `dir` and not `vars`: a lazy door says in `__dir__` what it shows.
    seen = {name for name in dir(module) if name[:1] != "_" and not isinstance(getattr(module, name), ModuleType)}
    assert sorted(seen - set(module.__all__)) == []


def test_no_name_hides_a_room():
    """`kdnas.search` is a function, so no room may be called so."""
    modules = {*ROOMS, *(file.stem for file in PACKAGE.glob("*.py"))}
    assert sorted(modules & set(importlib.import_module("kdnas").__all__)) == []


@pytest.mark.parametrize("door", DOORS)
def test_what_is_exported_can_be_imported_from_its_own_place(door):
    """So that it can be sent to another process."""
    module = importlib.import_module(door)
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, type) or callable(thing):
            home = getattr(thing, "__module__", None)
            if home is not None and home.startswith("kdnas"):
                assert getattr(importlib.import_module(home), thing.__qualname__) is thing, name


@pytest.mark.parametrize("door", DOORS[1:])
def test_a_room_shows_only_what_is_its_own(door):
    """Its door imports from its own files; another room's nouns have their own door."""
    room = PACKAGE.joinpath(*door.split(".")[1:])
    tree = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    foreign = [node.module for node in froms if not (node.module or "").startswith(f"{door}.") and node.level == 0]
    assert [name for name in foreign if (name or "").startswith("kdnas")] == []
