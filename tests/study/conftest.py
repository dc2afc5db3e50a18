"""Studies of the task in `echo.py`, small enough to be searched in seconds."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from kdnas.envs.spec import AgentSpec
from kdnas.plugins import load_reference
from kdnas.profiling import Latency
from kdnas.spaces.spec import StudentSpec
from kdnas.study.setup import Setup, open_study, read_study

WriteStudy = Callable[..., Path]

STUDY: dict[str, Any] = {
    "name": "echo",
    "space": "echo_space.toml",
    "env": {"factory": "echo_task:make", "max_steps": 5},
    "teacher": {"factory": "echo_task:teach"},
    "distill": {
        "demonstration_episodes": 64,
        "ancestor_steps": 150,
        "recovery_steps": 60,
        "qat_steps": 30,
        "batch": 128,
        "learning_rate": 0.01,
        "on_policy_rounds": 1,
        "on_policy_episodes": 16,
    },
    "evaluation": {"search_episodes": 64, "final_episodes": 64, "copies": 64},
    "search": {"trials": 5, "workers": 1},
}

SPACE: dict[str, Any] = {
    "name": "echo_space",
    "groups": {"default": {"bits": ["float"], "bases": [{"hidden": [16], "prune": [0.25, 0.5, 0.625, 0.75]}]}},
}
"""Widths 12, 8, 6 and 4, at 3 + 3 MACs a unit: 72, 48, 36 and 24."""


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all studies: a module is loaded from one place for as long as Python runs."""
    folder = tmp_path_factory.mktemp("studies")
    shutil.copy(Path(__file__).parents[1] / "echo.py", folder / "echo_task.py")
    load_reference("echo_task:make", folder)
    return folder


@pytest.fixture(scope="session")
def write_study(house: Path) -> WriteStudy:
    def write(file: str = "echo", *, space: Mapping[str, Any] = SPACE, **changes: Any) -> Path:
        """Write `FILE.toml`; a change of a table is merged into it, dots go deeper: `**{"env.kwargs": {...}}`."""
        study = json.loads(json.dumps(STUDY))
        for key, value in changes.items():
            *tables, last = key.split(".")
            table = study
            for name in tables:
                table = table.setdefault(name, {})
            if isinstance(value, Mapping) and isinstance(table.get(last), dict):
                table[last] |= value
            else:
                table[last] = value
        study["space"] = f"{file}_space.toml"
        (house / study["space"]).write_text(tomli_w.dumps(space))
        path = house / f"{file}.toml"
        path.write_text(tomli_w.dumps(study))
        return path

    return write


@pytest.fixture(scope="session")
def setup(write_study: WriteStudy) -> Setup:
    return open_study(read_study(write_study("plain")))


class WidthTarget:
    """One hidden unit takes a microsecond, and two at the 95th percentile; quantized networks take 10 us more."""

    name = "width"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def latency(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Latency:
        self.asked.append(str(spec))
        units = sum(spec.hidden) + 10 * spec.bits.quantized
        return Latency(p50_s=units * 1e-6, p95_s=2 * units * 1e-6)

    def module_latency(self, network: Any, observation_size: int) -> Latency:
        self.asked.append("teacher")
        return Latency(p50_s=64e-6, p95_s=128e-6)

    def fingerprint(self) -> dict[str, str]:
        return {}

    def reference_s(self) -> float:
        return 1.0
