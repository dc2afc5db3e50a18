"""Imports go strictly down the floors of docs/architecture.md, and heavy packages stay on theirs."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = {
    "errors": 0,
    "units": 0,
    "config": 0,
    "plugins": 0,
    "budgets": 1,
    "spaces": 1,
    "policies": 2,
    "envs": 3,
    "teachers": 4,
    "students": 4,
    "compress": 5,
    "export": 5,
    "evaluation": 5,
    "profiling": 6,
    "distill": 6,
    "study": 7,
    "report": 8,
    "cli": 9,
}
DOOR = "kdnas"
"""`kdnas/__init__.py`. It may import everything and nothing imports it; so too `kdnas.testing`, `kdnas.__main__`."""
ABOVE = {DOOR: 10, "testing": 10, "__main__": 10}

LIGHT = {*sys.stdlib_module_names, "kdnas", "pydantic", "pydantic_core"}
"""All that floors 0 and 1 may import."""
OUTER_LOOP = {"optuna": "study", "optuna_dashboard": "cli/dashboard.py"}
"""Package -> the one room or file that may import it."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import: where it stands, and the dotted name it reaches for."""

    file: Path
    """Relative to the folder that holds the package."""
    line: int
    name: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def imports_of(root: Path, file: Path) -> Iterator[Import]:
    """Every import of a file, at any depth: inside functions and under TYPE_CHECKING too."""
    relative = file.relative_to(root)
    package = list(relative.parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            # `from kdnas import plugins` reaches for a module, `from kdnas import Teacher` for the package's door.
            names = [
                f"{module}.{alias.name}" if is_module(root, module, alias.name) else module for alias in node.names
            ]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
            "import_module",
            "__import__",
        ):
            names = [value.value for value in node.args[:1] if isinstance(value, ast.Constant)]
        for name in dict.fromkeys(names):
            yield Import(file=relative, line=getattr(node, "lineno", 0), name=name)


def is_module(root: Path, module: str, name: str) -> bool:
    path = root.joinpath(*module.split("."), name)
    return path.is_dir() or path.with_suffix(".py").is_file()


def room_of_file(file: Path) -> str:
    """`kdnas/units.py` and `kdnas/envs/mpe.py` -> `units` and `envs`."""
    room = file.parts[1].removesuffix(".py")
    return DOOR if room == "__init__" else room


def room_of_name(name: str) -> str:
    return name.split(".")[1] if "." in name else DOOR


def floor(room: str) -> int | None:
    return (FLOORS | ABOVE).get(room)


def complaint(found: Import) -> str | None:
    """What is wrong with an import, in a sentence, or None."""
    room = room_of_file(found.file)
    own = floor(room)
    if own is None:
        return f"{found.place}: room {room!r} stands on no floor; give it one in docs/architecture.md and here"
    package = found.name.partition(".")[0]
    if package != "kdnas":
        return foreign_complaint(found, room, own, package)
    target = room_of_name(found.name)
    reached = floor(target)
    if reached is None:
        return f"{found.place}: {found.name} is in no room that is known"
    down = reached < own or target == room or (own == 0 and target == "errors")
    if down:
        return None
    way = "sideways" if reached == own else "up"
    return f"{found.place}: {room} (floor {own}) imports {found.name} of {target} (floor {reached}): it points {way}"


def foreign_complaint(found: Import, room: str, own: int, package: str) -> str | None:
    if own <= 1 and package not in LIGHT:
        return f"{found.place}: {room} (floor {own}) imports {package}; floors 0 and 1 have only Python and pydantic"
    owner = OUTER_LOOP.get(package)
    if owner is not None and owner not in (room, "/".join(found.file.parts[1:])):
        return f"{found.place}: {room} imports {package}, which only {owner} may"
    return None


def complaints(root: Path) -> list[str]:
    files = sorted(root.glob("kdnas/**/*.py"))
    return [said for file in files for found in imports_of(root, file) if (said := complaint(found)) is not None]


def test_imports_point_down():
    said = complaints(ROOT)
    assert not said, "\n" + "\n".join(said)


def test_every_room_stands_on_a_floor():
    files = (ROOT / "kdnas").glob("**/*.py")
    rooms = {room_of_file(file.relative_to(ROOT)) for file in files}
    assert rooms <= {*FLOORS, *ABOVE}


# The checker itself, on houses that are built wrong.


def house(root: Path, files: dict[str, str]) -> list[str]:
    """Complaints about a package of these files: path without `.py` -> source."""
    for room in FLOORS:
        (root / "kdnas" / room).mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        (root / "kdnas" / f"{name}.py").write_text(source)
    return complaints(root)


@pytest.mark.parametrize(
    "source",
    [
        "from kdnas.study.objective import run",
        "import kdnas.study",
        "import kdnas.study.objective as objective",
        "from kdnas import study",
        "from ..study import objective",
        "from .. import study",
        "from importlib import import_module\nimport_module('kdnas.study')",
        "def late():\n    from kdnas.study import objective",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from kdnas.study import objective",
        "class A:\n    def b(self):\n        if self:\n            import kdnas.study",
    ],
)
def test_it_catches_an_import_that_points_up(tmp_path, source):
    (said,) = house(tmp_path, {"envs/bad": source})
    line = len(source.splitlines())
    assert said.startswith(f"kdnas/envs/bad.py:{line}: envs (floor 3) imports kdnas.study")
    assert said.endswith("of study (floor 7): it points up")


@pytest.mark.parametrize(
    ("room", "other", "number"),
    [("teachers", "students", 4), ("budgets", "spaces", 1), ("distill", "profiling", 6), ("units", "config", 0)],
)
def test_it_catches_an_import_that_points_sideways(tmp_path, room, other, number):
    (said,) = house(tmp_path, {f"{room}/bad": f"\nimport kdnas.{other}"})
    assert said == (
        f"kdnas/{room}/bad.py:2: {room} (floor {number}) imports kdnas.{other} of {other} (floor {number}): "
        "it points sideways"
    )


@pytest.mark.parametrize("source", ["from kdnas import search", "import kdnas", "from .. import search"])
def test_nothing_goes_through_the_front_door(tmp_path, source):
    (said,) = house(tmp_path, {"cli/bad": source})
    assert said == "kdnas/cli/bad.py:1: cli (floor 9) imports kdnas of kdnas (floor 10): it points up"


def test_nothing_imports_the_contracts(tmp_path):
    (said,) = house(tmp_path, {"envs/bad": "from kdnas.testing import check_env", "testing": ""})
    assert said.endswith("envs (floor 3) imports kdnas.testing of testing (floor 10): it points up")


@pytest.mark.parametrize(
    ("file", "source", "said"),
    [
        ("spaces/bad", "import numpy as np", "spaces (floor 1) imports numpy"),
        ("config/bad", "def late():\n    import torch", "config (floor 0) imports torch"),
        ("units", "import optuna", "units (floor 0) imports optuna"),
        ("report/bad", "from optuna.trial import Trial", "report imports optuna, which only study may"),
        ("cli/search", "import optuna_dashboard", "cli imports optuna_dashboard, which only cli/dashboard.py may"),
        ("cli/dashboard", "import optuna", "cli imports optuna, which only study may"),
        ("attic/bad", "import json", "room 'attic' stands on no floor"),
        ("cli/bad", "import kdnas.attic", "kdnas.attic is in no room that is known"),
    ],
)
def test_it_catches_what_does_not_belong_there(tmp_path, file, source, said):
    (tmp_path / "kdnas/attic").mkdir(parents=True)
    (found,) = house(tmp_path, {file: source})
    assert said in found


def test_a_house_that_is_built_well_has_no_complaints(tmp_path):
    files = {
        "__init__": "from kdnas.study import search\nfrom kdnas.cli import app",
        "testing": "from kdnas.envs import spec",
        "errors": "import traceback",
        "units": "from kdnas.errors import BudgetError",
        "config/toml": "import tomllib\nfrom pydantic import BaseModel\nfrom kdnas import errors\nfrom . import study",
        "spaces/space": "from kdnas.config.toml import read_toml\nfrom .spec import Bits",
        "policies/team": "import torch\nimport numpy.typing",
        "study/objective": "import optuna\nfrom ..distill import recipe\nfrom kdnas import plugins",
        "cli/dashboard": "import optuna_dashboard\nfrom kdnas.study import front",
    }
    assert house(tmp_path, files) == []
