"""Students with lightly used quantizers, and teams of them."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.policies.actions import Discrete
from kdnas.policies.arrays import Floats
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.student import Normalisation, Student
from kdnas.students.team import Team

SPREAD = AgentSpec(observation_size=18, actions=Discrete(5))

MakeStudent = Callable[..., Student]
MakeTeam = Callable[..., Team]


@pytest.fixture
def make_student() -> MakeStudent:
    def make(
        bits: str = "float",
        spaces: AgentSpec = SPREAD,
        hidden: tuple[int, ...] = (24, 16),
        normalisation: Normalisation | None = None,
        kind: str = "mlp",
    ) -> Student:
        generator = torch.Generator().manual_seed(0)
        inputs = len(spaces.kept) if spaces.pruned else None
        spec = StudentSpec(family=kind, base=hidden, hidden=hidden, bits=parse_bits(bits), inputs=inputs)
        family = load_family(kind)
        network = family.build(spec, spaces.inputs, generator)
        if spec.bits.quantized:
            network = family.quantize(network, spec)
            used = Student(spec, spaces.inputs, network).train()
            with torch.no_grad():
                for _ in range(40):  # brevitas takes its first activation scales from 30 batches
                    used(torch.randn(64, spaces.inputs.observation_size, generator=generator))
        return Student(spec, spaces, network, normalisation).eval()

    return make


@pytest.fixture
def make_team() -> MakeTeam:
    def make(students: Mapping[str, Student], agents: Mapping[str, tuple[str, ...]]) -> Team:
        """`agents`: group -> its agents."""
        spaces = {agent: students[group].spaces for group, own in agents.items() for agent in own}
        return Team(EnvSpec(name="test", agents=spaces, groups=agents, state_size=1), students)

    return make


@pytest.fixture
def observe() -> Callable[[int, int], Floats]:
    """Random observations (rows, O)."""
    return lambda rows, features: np.random.default_rng(7).standard_normal((rows, features)).astype(np.float32)
