"""A recurrent student whose numbers can be worked out by hand."""

import pytest
import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.policies.actions import Discrete
from kdnas.spaces.spec import StudentSpec
from kdnas.students import MlpFamily, Normalisation, Student, student

SPACES = AgentSpec(observation_size=1, actions=Discrete(2))
ENV = EnvSpec(name="test", agents={"x": SPACES, "y": SPACES}, groups={"all": ("x", "y")}, state_size=2)


class Sum(nn.Module):
    """Says (1.5, the sum of all that it has seen)."""

    def forward(self, rows: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        total = hidden + rows
        return torch.cat([torch.full_like(total, 1.5), total], -1), total


class Remembering(MlpFamily):
    def hidden_size(self, spec: StudentSpec) -> int:
        return 1


def remembering(
    monkeypatch: pytest.MonkeyPatch, normalisation: Normalisation | None = None
) -> tuple[EnvSpec, dict[str, Student]]:
    """Two agents with one such student; it is a family of its own, for as long as the test lasts."""
    monkeypatch.setattr(student, "load_family", lambda name: Remembering())
    spec = StudentSpec(family="sum", base=(1,), hidden=(1,))
    return ENV, {"all": Student(spec, SPACES, Sum(), normalisation)}
