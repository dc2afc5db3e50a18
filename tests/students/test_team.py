"""Quantized students act as their C does: in the integers of the reference."""

import numpy as np
import pytest
import torch
from scenes import scene_of

from kdnas.compress.quantize import quantize
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Discrete
from kdnas.policies.arrays import Actions
from kdnas.policies.scene import Scene
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Actor, Student, Team, load_family
from kdnas.students.integer import decide, student_inputs, to_integers

SPACES = AgentSpec(
    observation_size=6,
    actions=Discrete(4),
    entities=Entities(own=(0, 1), sets=(EntitySet(name="walls", members=((2, 3), (4, 5))),)),
    masked=True,
)
ENV = EnvSpec(name="test", agents={"a": SPACES, "b": SPACES}, groups={"all": ("a", "b")}, state_size=6)
VIEWS = np.random.default_rng(0).standard_normal((5, 8, 2, 6)).astype(np.float32)
"""(T, B, A, V)."""


def quantized(name: str, bits: str = "w3a3i4") -> Student:
    family, spec = load_family(name), StudentSpec(family=name, base=(8, 6), hidden=(8, 6), bits=parse_bits(bits))
    network = family.build(spec.floating, SPACES.inputs, torch.Generator().manual_seed(1))
    floating = Student(spec.floating, SPACES, network)
    return quantize(floating, spec, family, [torch.from_numpy(VIEWS.reshape(-1, 16, 6).swapaxes(0, 1))]).eval()


@pytest.mark.parametrize("name", ["mlp", "mlp_softsign", "gru", "deepset"])
def test_a_quantized_student_decides_in_integers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, masks = quantized(name), np.random.default_rng(1).random((5, 8, 2, 4)) < 0.6
    masks[..., 0] |= ~masks.any(-1)
    form = to_integers(student)
    team = Team(ENV, {"all": student})
    monkeypatch.setattr(Student, "step", lambda *_: pytest.fail("it asked torch"))
    for _ in range(2):  # a second episode begins where the first one began
        hidden = form.begin(16)
        for step in range(5):
            rows, legal = VIEWS[step].reshape(16, 6), masks[step].reshape(16, 4)
            outputs, hidden = form.step(student_inputs(student, rows), hidden)
            scene = scene_of({"all": VIEWS[step]}, masks={"all": masks[step]}, first=step == 0)
            assert team.act(scene)["all"].reshape(16).tolist() == decide(SPACES.actions, outputs, legal).tolist()


def test_a_float_student_decides_in_torch() -> None:
    spec = StudentSpec(family="gru", base=(8, 6), hidden=(8, 6))
    network = load_family("gru").build(spec, SPACES.inputs, torch.Generator().manual_seed(1))
    student = Student(spec, SPACES, network).eval()
    actor, rows = Actor(student), VIEWS[:, :, 0].swapaxes(0, 1)
    hidden, chosen = actor.begin(8), []
    for step in range(5):
        actions, hidden = actor.act(rows[:, step], None, hidden)
        chosen.append(actions)
    with torch.no_grad():
        assert np.stack(chosen, 1).tolist() == student(torch.from_numpy(np.ascontiguousarray(rows))).argmax(-1).tolist()


class Shy:
    """Plays 3 in every seat, and remembers what it was shown."""

    def __init__(self) -> None:
        self.scenes: list[Scene] = []

    def act(self, scene: Scene) -> dict[str, Actions]:
        self.scenes.append(scene)
        return {group: np.full(views.shape[:2], 3) for group, views in scene.views.items()}


PAIR = EnvSpec(name="test", agents={"a": SPACES, "b": SPACES}, groups={"x": ("a",), "y": ("b",)}, state_size=6)


def test_others_play_the_groups_without_a_student() -> None:
    student, others = quantized("gru"), Shy()
    team, alone = Team(PAIR, {"y": student}, others=others), Team(ENV, {"all": student})
    for step in range(3):
        first, views = step == 0, VIEWS[step, :, :1]
        scene = scene_of({"x": views, "y": views}, first=first)
        actions = team.act(scene)
        assert actions["x"].tolist() == [[3]] * 8
        assert actions["y"].tolist() == alone.act(scene_of({"all": views}, first=first))["all"].tolist()
        assert others.scenes[-1] is scene
    assert set(team.students) == {"y"}


def test_others_are_not_asked_where_every_group_has_a_student() -> None:
    others = Shy()
    team = Team(PAIR, {"y": quantized("mlp"), "x": quantized("mlp", "w4a8i8")}, others=others)
    views = VIEWS[0, :, :1]
    assert set(team.act(scene_of({"x": views, "y": views}, first=True))) == {"x", "y"}
    assert others.scenes == []
    assert list(team.students) == ["x", "y"]  # in the order of the environment


def test_a_group_that_nobody_plays_is_refused() -> None:
    with pytest.raises(StudentError, match="the team has no student for x"):
        Team(PAIR, {"y": quantized("mlp")})


def test_a_student_that_was_not_calibrated_cannot_act() -> None:
    spec = StudentSpec(family="mlp", base=(4,), hidden=(4,), bits=parse_bits("w4a8i8"))
    family = load_family("mlp")
    network = family.quantize(family.build(spec.floating, SPACES, torch.Generator().manual_seed(0)), spec)
    with pytest.raises(StudentError, match="without activation ranges"):
        Actor(Student(spec, SPACES, network).eval())
