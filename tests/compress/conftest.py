from collections.abc import Callable

import pytest
import torch

from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Family, Normalisation, Student, load_family

ENTITIES = Entities(
    own=(0, 1, 2, 3),
    sets=(
        EntitySet(name="landmarks", members=((4, 5), (6, 7), (8, 9))),
        EntitySet(name="others", members=((10, 11), (12, 13))),
    ),
)
SPREAD = AgentSpec(observation_size=18, actions=Discrete(5), entities=ENTITIES)
TRACKS = torch.randn(24, 6, 18, generator=torch.Generator().manual_seed(2))
"""Episodes of six steps."""

MakeFamily = Callable[..., tuple[Family, Student]]


@pytest.fixture
def make_dense() -> Callable[..., Student]:
    def make(*hidden: int, normalisation: Normalisation | None = None) -> Student:
        spec = StudentSpec(family="mlp", base=hidden, hidden=hidden)
        network = load_family("mlp").build(spec, SPREAD, torch.Generator().manual_seed(0))
        return Student(spec, SPREAD, network, normalisation).eval()

    return make


@pytest.fixture
def make_family() -> MakeFamily:
    """A family and a dense student of it."""

    def make(name: str, *hidden: int) -> tuple[Family, Student]:
        spec = StudentSpec(family=name, base=hidden, hidden=hidden)
        family = load_family(name)
        return family, Student(spec, SPREAD, family.build(spec, SPREAD, torch.Generator().manual_seed(0))).eval()

    return make
