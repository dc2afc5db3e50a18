"""The contract of teachers passes on the built-in one, and fails on those that break it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import kdnas
from kdnas import plugins
from kdnas.config import find_study
from kdnas.policies.actions import Discrete
from kdnas.policies.scene import Scene
from kdnas.study.setup import open_study, read_study
from kdnas.testing import check_teacher

SPACES = kdnas.AgentSpec(observation_size=3, actions=Discrete(2))
SPEC = kdnas.EnvSpec(name="pair", agents={"a": SPACES, "b": SPACES}, groups={"all": ("a", "b")}, state_size=6)


def test_the_built_in_teacher():
    setup = open_study(read_study("spread_tiny"))
    folder = find_study("spread").parent / "teachers/spread"
    check_teacher(plugins.load("kdnas.teachers", "checkpoint"), setup.spec, {"folder": folder})


def linear() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.sin(torch.arange(parameter.numel()) + index).reshape(parameter.shape))
    return network


class WholeBatch(nn.Linear):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows - rows.mean(0))


class Counts(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(rows)


class Dice(Counts):
    """Its generator stands outside its buffers."""

    generator = torch.Generator()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        noise = torch.rand((*rows.shape[:-1], 2), generator=self.generator)
        return nn.Linear.forward(self, rows) + noise


class Spectrum(Counts):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(rows).real


class Deaf(kdnas.Teacher):
    """Acts without looking at masks."""

    def act(self, scene: Scene) -> Any:
        return super().act(replace(scene, masks=dict.fromkeys(scene.masks)))


class HalfDeaf(kdnas.Teacher):
    """Looks at the first three entries of a mask only."""

    def act(self, scene: Scene) -> Any:
        masks = {group: mask | (np.arange(mask.shape[-1]) > 2) for group, mask in scene.masks.items()}
        return super().act(replace(scene, masks=masks))


class Memory(Counts):
    """Written with what can be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.keep = nn.utils.skip_init(nn.Linear, 2, 2)
        nn.init.constant_(self.keep.weight, 0.5)
        nn.init.zeros_(self.keep.bias)

    def forward(self, rows: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        following = (nn.Linear.forward(self, rows) + self.keep(hidden)).tanh()
        return following, following


class Hoarding(Memory):
    """Its memory is its own, and never forgotten."""

    def forward(self, rows: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.sum = getattr(self, "sum", 0.0) + float(rows.sum())
        return super().forward(rows, hidden + self.sum)


def teacher_of(make_network: Any, **reading: Any) -> Any:
    return lambda spec: kdnas.Teacher(spec, {"all": make_network()}, reading={"all": kdnas.Reading(**reading)})


def sized(inputs: int, outputs: int) -> Any:
    def make() -> nn.Linear:
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        with torch.no_grad():
            layer.weight.copy_(torch.sin(torch.arange(inputs * outputs)).reshape(outputs, inputs))
            layer.bias.zero_()
        return layer

    return make


def spec_of(actions: Any) -> kdnas.EnvSpec:
    return replace(SPEC, agents=dict.fromkeys("ab", replace(SPACES, actions=actions)))


def test_a_good_teacher():
    check_teacher(teacher_of(linear), SPEC)


@pytest.mark.parametrize(
    "make",
    [
        teacher_of(sized(3 + 6, 2), state=True),
        teacher_of(Memory, hidden_size=2),
        teacher_of(linear, q_temperature=0.5),
    ],
)
def test_good_teachers_that_are_read_otherwise(make):
    check_teacher(make, SPEC)


@pytest.mark.parametrize(
    ("actions", "outputs"),
    [(kdnas.MultiDiscrete((2, 3)), 5), (kdnas.Box((-1.0,), (1.0,)), 2), (kdnas.Box((-1.0,), (1.0,), True), 2)],
)
def test_good_teachers_of_other_actions(actions, outputs):
    check_teacher(teacher_of(sized(3, outputs)), spec_of(actions))


def test_a_mask_is_heeded_in_every_factor(said_by):
    make, spec = sized(3, 5), spec_of(kdnas.MultiDiscrete((2, 3)))
    assert "group 'all': it chooses an action that the mask forbids" in said_by(
        check_teacher, lambda spec: HalfDeaf(spec, {"all": make()}), spec
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda spec: {"all": linear()}, "it returns dict; return kdnas.Teacher(spec, actors={group: module})"),
        (
            lambda spec: kdnas.Teacher(replace(spec, name="other"), {"all": linear()}),
            "it is a teacher of another environment",
        ),
        (teacher_of(lambda: nn.Linear(3, 2)), "group 'all': made twice, it has other weights"),
        (teacher_of(lambda: nn.Linear(4, 2)), "refuses observations of 3 features"),
        (teacher_of(Dice), "group 'all': asked twice, it answers differently"),
        (teacher_of(Counts), "group 'all': answering changes its weights or buffers"),
        (teacher_of(Spectrum), "cannot be counted"),
        (teacher_of(Hoarding, hidden_size=2), "group 'all': asked twice, it answers differently"),
        (teacher_of(linear, hidden_size=2), "refuses observations of 3 features"),
        (lambda spec: Deaf(spec, {"all": linear()}), "group 'all': it chooses an action that the mask forbids"),
    ],
)
def test_a_teacher_that_breaks_the_contract(said_by, make, said):
    assert said in said_by(check_teacher, make, SPEC)


def test_a_teacher_that_looks_at_the_whole_batch(said_by):
    network = WholeBatch(3, 2)
    assert "depends on the others in the batch" in said_by(check_teacher, teacher_of(lambda: network), SPEC)


def test_a_teacher_that_is_trained(said_by):
    def make(spec: kdnas.EnvSpec) -> kdnas.Teacher:
        teacher = kdnas.Teacher(spec, {"all": linear()})
        teacher.actors["all"].requires_grad_(True)
        return teacher

    assert "its parameters are not frozen" in said_by(check_teacher, make, SPEC)
