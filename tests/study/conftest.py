"""Studies of the task in `echo.py`, small enough to be searched in seconds."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from kdnas.budgets import parse_budget
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.plugins import load_reference
from kdnas.policies.actions import Discrete
from kdnas.profiling import Measurement, Pricer, Target
from kdnas.spaces import BaseTable, GroupTable, SpaceConfig, StudentSpec, make_space, parse_bits
from kdnas.study.front import ParetoFront
from kdnas.study.gate import Gate
from kdnas.study.preflight import Preflight
from kdnas.study.run_folder import trials_of
from kdnas.study.search import search
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.watch import Progress
from kdnas.teachers import Teacher, make_mlp

WriteStudy = Callable[..., Path]


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many KiB, where one may be mounted."""
    point = tmp_path / "disk"

    def make(kibibytes: int) -> Path:
        point.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "kdnas-test", str(point)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
        return point

    yield make
    if point.is_mount():
        subprocess.run(["umount", "--lazy", str(point)], check=True)


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
        "flip_rounds": 4,
        "batch": 128,
        "learning_rate": 0.01,
        "on_policy_rounds": 1,
        "on_policy_episodes": 16,
    },
    "refine": {"joint": {"steps": 20, "rounds": 2, "episodes": 16, "flip_rounds": 1}, "validation_episodes": 128},
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
        """Write `FILE.toml`; tables are merged (None removes a key), dots go deeper: `**{"env.kwargs": {...}}`."""
        study = json.loads(json.dumps(STUDY))
        for key, value in changes.items():
            *tables, last = key.split(".")
            table = study
            for name in tables:
                table = table.setdefault(name, {})
            if isinstance(value, Mapping) and isinstance(table.get(last), dict):
                table[last] = {name: item for name, item in (table[last] | value).items() if item is not None}
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


class WidthTarget(Target):
    """One hidden unit takes a microsecond, and two at the 95th percentile; quantized networks take 10 us more."""

    name = "width"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def measure(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Measurement:
        self.asked.append(str(spec))
        units = sum(spec.hidden) + 10 * spec.bits.quantized
        return Measurement(p50_s=units * 1e-6, p95_s=2 * units * 1e-6, p99_s=1.0)

    def measure_module(self, network: Any, probe: Any) -> Measurement:
        self.asked.append("teacher")
        return Measurement(p50_s=64e-6, p95_s=128e-6, p99_s=1.0)

    def fingerprint(self) -> dict[str, str]:
        return {}

    def reference_s(self) -> float:
        return 1.0


TEACHER_MACS = 18 * 64 + 64 * 5
"""1,472 MACs, 2,944 FLOPs."""


class Home:
    """Groups `pair` (two seats) and `solo` with equal spaces, a teacher of 64 units, and a space to choose from."""

    def __init__(self, bases: Sequence[Mapping[str, Any]], bits: Sequence[str]) -> None:
        spread = AgentSpec(observation_size=18, actions=Discrete(5))
        self.spec = EnvSpec(
            name="home",
            agents={"a": spread, "b": spread, "c": spread},
            groups={"pair": ("a", "b"), "solo": ("c",)},
            state_size=54,
        )
        table = GroupTable(bases=tuple(BaseTable(**base) for base in bases), bits=tuple(bits))
        self.space = make_space(SpaceConfig(name="home", groups={"default": table}), list(self.spec.groups))
        actor = make_mlp(18, (64,), 5, generator=torch.Generator().manual_seed(0))
        self.teacher = Teacher(self.spec, {"pair": actor, "solo": actor})
        self.target = WidthTarget()

    def gate(self, *budget: str) -> Gate:
        return Gate(budget=parse_budget(budget), pricer=Pricer(self.spec, self.teacher, self.target))


@pytest.fixture
def make_home() -> Callable[..., Home]:
    def make(
        bases: Sequence[Mapping[str, Any]] = ({"hidden": [64], "prune": [0.0, 0.5, 0.75]},),
        bits: Sequence[str] = ("float", "w4a8i8"),
    ) -> Home:
        return Home(bases, bits)

    return make


def mlp(bits: str, *hidden: int) -> StudentSpec:
    """A student pruned from layers of 64."""
    return StudentSpec(family="mlp", base=(64,) * len(hidden), hidden=hidden, bits=parse_bits(bits))


class Notes:
    """A `Watch` that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.reports: list[Preflight] = []
        self.last: Progress | None = None

    def preflight(self, report: Preflight) -> None:
        self.reports.append(report)

    def message(self, text: str) -> None:
        self.messages.append(text)

    def progress(self, progress: Progress) -> None:
        self.last = progress


Finished = tuple[Path, ParetoFront, Notes]


def states(run: Path) -> list[str]:
    return [trial.state.name for trial in trials_of(run)]


BUDGET = ["flops<=96", "team.memory<1KiB"]
"""96 FLOPs are the 48 MACs of 8 hidden units: 12 are too many."""


@pytest.fixture(scope="session")
def finished(write_study: WriteStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ParetoFront, Notes]:
    """A search of 6 trials; read, or copied, but never continued in place."""
    run, notes = tmp_path_factory.mktemp("runs") / "echo", Notes()
    front = search(write_study("echo"), budget=BUDGET, trials=6, out=run, watch=notes)
    return run, front, notes


@pytest.fixture
def copied(finished: tuple[Path, ParetoFront, Notes], tmp_path: Path) -> Path:
    """The finished run, moved elsewhere."""
    return Path(shutil.copytree(finished[0], tmp_path / "moved"))
