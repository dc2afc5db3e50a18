import subprocess
import sys

import pytest

HEAVY = {"brevitas", "fvcore", "gymnasium", "moocore", "mpe2", "onnx", "onnxruntime", "optuna"} | {
    "onnxscript",
    "pettingzoo",
    "scipy",
    "sqlalchemy",
    "torch_pruning",
}
"""Imported by the function that needs it, and not before."""


@pytest.mark.parametrize(
    ("door", "also"),
    [
        ("kdnas.study", set()),
        # What loads a student runs where only torch, numpy, brevitas, safetensors and pydantic are installed.
        ("kdnas.students.bundle", {"filelock", "rich", "tomli_w", "typer"}),
    ],
)
def test_a_door_opens_without_the_heavy_packages(door: str, also: set[str]) -> None:
    code = f"import sys, {door}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert (HEAVY | also) & set(loaded) == set()
