"""Teams of lightly used students."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.policies.actions import Discrete
from kdnas.policies.arrays import Floats
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Normalisation, Student, StudentTeam, Team, load_family, load_student
from kdnas.students.bundle import group_cards, save_weights, write_card
from kdnas.students.card import ArtifactCard, Hashes, StudentCard, TargetCard

MakeStudent = Callable[..., Student]

SCOUT = AgentSpec(observation_size=6, actions=Discrete(4), masked=True)
DRONE = AgentSpec(observation_size=3, actions=Discrete(5))
ENV = EnvSpec(
    name="test",
    agents={"scout": SCOUT, "drone_0": DRONE, "drone_1": DRONE},
    groups={"scout": ("scout",), "drones": ("drone_0", "drone_1")},
    state_size=12,
)


def rows(count: int, features: int) -> Floats:
    return np.random.default_rng(7).standard_normal((count, features)).astype(np.float32)


@pytest.fixture(scope="session")
def make_student() -> MakeStudent:
    def make(
        bits: str = "float",
        spaces: AgentSpec = DRONE,
        hidden: tuple[int, ...] = (8, 6),
        normalisation: Normalisation | None = None,
        kind: str = "mlp",
    ) -> Student:
        generator = torch.Generator().manual_seed(0)
        base, inputs = (16,) * len(hidden), len(spaces.kept) if spaces.pruned else None
        spec = StudentSpec(family=kind, base=base, hidden=hidden, bits=parse_bits(bits), inputs=inputs)
        family = load_family(kind)
        network = family.build(spec.floating, spaces.inputs, generator)
        if spec.bits.quantized:
            network = family.quantize(network, spec).train()
            for _ in range(40):  # brevitas takes its first activation scales from 30 batches
                network(torch.randn(64, spaces.inputs.observation_size, generator=generator))
        return Student(spec, spaces, network, normalisation).eval()

    return make


@pytest.fixture(scope="session")
def team(make_student: MakeStudent) -> Team:
    """A quantized scout, and drones with a normalisation."""
    normalisation = Normalisation(shift=(0.5, 0.0, -1.0), scale=(2.0, 1.0, 0.1))
    students = {"scout": make_student("w4a8i8", SCOUT), "drones": make_student(normalisation=normalisation)}
    return Team(ENV, students)


@pytest.fixture
def folder(team: Team, tmp_path: Path) -> Path:
    write_card(tmp_path, card_of(team, save_weights(tmp_path, team)))
    return tmp_path


@pytest.fixture
def loaded(folder: Path) -> StudentTeam:
    return load_student(folder)


BOARD = TargetCard(
    name="board@10MHz", exporter="onnx", fingerprint={"core": "small"}, note="Times are instructions."
)


def card_of(team: Team, weights: str) -> StudentCard:
    cost = {
        "flops": 1000,
        "macs": 500,
        "bops": 16_000,
        "params": 120,
        "memory_bytes": 512,
        "latency_s": {"p50": 1e-5, "p95": 2e-5, "p99": 4e-5, "reference": 1e-6},
        "flash_bytes": 0,
        "ram_bytes": 0,
    }
    teacher = cost | {"flops": 50_000, "macs": 25_000, "params": 6_000, "memory_bytes": 2048}
    interval = {"mean": 0.951, "low": 0.93, "high": 0.97, "episodes": 500}
    return StudentCard(
        kdnas_version="0.1.0",
        environment="test",
        trial=7,
        state_size=team.spec.state_size,
        groups=group_cards(team),
        cost=cost | {"worst_agent": cost, "teacher": teacher, "groups": dict.fromkeys(team.students, cost)},
        score={"retention": interval, "return": interval | {"mean": -8.5, "low": -9.0, "high": -8.0}, "seeds": "final"},
        hashes=Hashes(teacher={"scout": "a", "drones": "b"}, study="c", weights=weights),
        target=BOARD,
        artifacts=(
            ArtifactCard(
                format="onnx",
                files=("team.onnx",),
                checked_rows=4000,
                agreed_rows=3999,
                max_error=0.0123,
                hashes={"team.onnx": "e"},
            ),
        ),
    )
