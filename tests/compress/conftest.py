from collections.abc import Callable

import pytest
import torch

from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Normalisation, Student, load_family

SPREAD = AgentSpec(observation_size=18, actions=Discrete(5))


@pytest.fixture
def make_dense() -> Callable[..., Student]:
    def make(*hidden: int, normalisation: Normalisation | None = None) -> Student:
        spec = StudentSpec(family="mlp", base=hidden, hidden=hidden)
        network = load_family("mlp").build(spec, SPREAD, torch.Generator().manual_seed(0))
        return Student(spec, SPREAD, network, normalisation).eval()

    return make
