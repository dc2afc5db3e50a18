from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scenes import scene_of
from torch import Tensor, nn

from kdnas.distill import Pool, make_pools
from kdnas.distill.pool import draw_seats, student_among_teachers
from kdnas.envs import AgentSpec, EnvSpec
from kdnas.envs.view import View
from kdnas.policies import Scene, mask_logits
from kdnas.policies.actions import Box, Discrete, MultiDiscrete
from kdnas.spaces import StudentSpec
from kdnas.students import Student
from kdnas.teachers import Teacher, make_mlp

SMALL, LARGE = AgentSpec(observation_size=2, actions=Discrete(3)), AgentSpec(observation_size=4, actions=Discrete(3))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def env(*, masked: bool = False) -> EnvSpec:
    small = AgentSpec(observation_size=2, actions=Discrete(3), masked=masked)
    return EnvSpec(
        name="test",
        agents={"a": small, "b": small, "c": small, "d": LARGE},
        groups={"pair": ("a", "b"), "solo": ("c",), "other": ("d",)},
        state_size=1,
    )


def networks() -> tuple[nn.Module, nn.Module]:
    return make_mlp(2, (4,), 3, generator=torch.Generator().manual_seed(0)), make_mlp(4, (4,), 3)


class Stubborn(nn.Module):
    """Prefers action 2, then 1."""

    def forward(self, observations: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, 2.0]).expand(len(observations), 3)


def stubborn() -> Student:
    return Student(StudentSpec(family="mlp", base=(4,), hidden=(4,)), SMALL, Stubborn())


def seen(copies: int, first: bool = True, masks: Mapping[str, Any] | None = None) -> Scene:
    """Zeros."""
    shapes = {"pair": (copies, 2, 2), "solo": (copies, 1, 2), "other": (copies, 1, 4)}
    return scene_of({group: np.zeros(shape) for group, shape in shapes.items()}, masks, first=first)


def say(copies: int, *logits: float) -> dict[str, Tensor]:
    """The same from every teacher."""
    return {group: torch.tensor(logits).expand(copies, seats, 3) for group, seats in env().seats.items()}


def test_groups_with_one_teacher_and_equal_spaces_share_a_pool() -> None:
    small, large = networks()
    pools = make_pools(env(), Teacher(env(), {"pair": small, "solo": small, "other": large}))
    assert list(pools) == ["pair", "solo", "other"]
    assert pools["pair"] is pools["solo"]
    assert (pools["pair"].name, pools["pair"].groups, pools["pair"].spaces) == ("pair", ("pair", "solo"), SMALL)
    assert (pools["other"].name, pools["other"].groups, pools["other"].spaces) == ("other", ("other",), LARGE)
    assert pools["pair"].teacher_digest != pools["other"].teacher_digest


def test_equal_networks_are_one_teacher_and_different_ones_are_not() -> None:
    small, large = networks()
    copy, changed = networks()[0], networks()[0]
    with torch.no_grad():
        changed[0].bias[0] += 1e-6
    pools = make_pools(env(), Teacher(env(), {"pair": small, "solo": copy, "other": large}))
    assert pools["pair"] is pools["solo"]
    pools = make_pools(env(), Teacher(env(), {"pair": small, "solo": changed, "other": large}))
    assert pools["pair"].groups == ("pair",)
    assert pools["solo"].groups == ("solo",)


def seats_taken(copies: int, seed: int = 0) -> Tensor:
    """(copies, 3): where the student, which always plays 2, sits; teachers play 0."""
    small, large = networks()
    pool = make_pools(env(), Teacher(env(), {"pair": small, "solo": small, "other": large}))["pair"]
    choose = student_among_teachers(pool, stubborn(), env(), draw_seats(pool, env(), copies, seeded(seed)))
    steps = []
    for step in range(2):
        actions = choose(seen(copies, first=step == 0), say(copies, 5.0, 0.0, 0.0))
        assert set(actions["other"].flatten().tolist()) == {0}
        steps.append(torch.from_numpy(np.concatenate([actions["pair"], actions["solo"]], 1)))
    assert torch.equal(steps[0], steps[1])  # for the whole episode
    assert set(steps[0].unique().tolist()) <= {0, 2}
    return steps[0] == 2


def test_the_student_has_a_seat_in_every_copy() -> None:
    taken = seats_taken(3000)
    assert taken.any(1).all()
    # One seat surely and the two others with 1/2: 1, 2 or 3 of them with 1/4, 1/2, 1/4; three deviations are 0.03.
    shares = [float((taken.sum(1) == count).float().mean()) for count in (1, 2, 3)]
    assert [abs(share - want) < 0.03 for share, want in zip(shares, (0.25, 0.5, 0.25), strict=True)] == [True] * 3
    # No seat is preferred: each is taken with 2/3.
    assert ((taken.float().mean(0) - 2 / 3).abs() < 0.03).all()


def test_the_generator_decides_the_seats() -> None:
    assert torch.equal(seats_taken(50), seats_taken(50))
    assert not torch.equal(seats_taken(50), seats_taken(50, seed=1))


def test_other_groups_are_teachers() -> None:
    small, large = networks()
    pool = make_pools(env(), Teacher(env(), {"pair": small, "solo": small, "other": large}))["pair"]
    choose = student_among_teachers(pool, stubborn(), env(), draw_seats(pool, env(), 8, seeded(0)))
    assert choose(seen(8), say(8, 0.0, 9.0, 0.0))["other"].tolist() == [[1]] * 8


def test_a_last_batch_may_be_smaller() -> None:
    small, large = networks()
    pool = make_pools(env(), Teacher(env(), {"pair": small, "solo": small, "other": large}))["pair"]
    choose = student_among_teachers(pool, stubborn(), env(), draw_seats(pool, env(), 8, seeded(0)))
    assert choose(seen(8), say(8, 0.0, 0.0, 0.0))["pair"].shape == (8, 2)
    assert choose(seen(3), say(3, 0.0, 0.0, 0.0))["pair"].shape == (3, 2)


def test_the_student_plays_by_the_rules() -> None:
    small, large = networks()
    spec = env(masked=True)
    pool = make_pools(spec, Teacher(spec, {"pair": small, "solo": small, "other": large}))["pair"]
    choose = student_among_teachers(pool, stubborn(), spec, draw_seats(pool, spec, 50, seeded(0)))
    mask = np.broadcast_to([True, True, False], (50, 2, 3)).copy()
    said = say(50, -1e5, -2e5, 0.0)
    said["pair"] = mask_logits(said["pair"], torch.from_numpy(mask))
    actions = choose(seen(50, masks={"pair": mask}), said)
    assert set(actions["pair"].flatten().tolist()) == {0, 1}  # the teacher's best legal one, and the student's


def test_a_limited_view_has_a_pool_of_its_own() -> None:
    """Also where as many features are left of each."""
    small, large = networks()
    half, other = View(observation_size=2, own=(0,)), View(observation_size=2, own=(1,))
    for views, apart in (
        ({"solo": half}, True),
        ({"pair": half, "solo": other}, True),
        ({"pair": half, "solo": half}, False),
    ):
        spec = replace(env(), views=views)
        pools = make_pools(spec, Teacher(spec, {"pair": small, "solo": small, "other": large}))
        assert (pools["pair"] is not pools["solo"]) == apart
        assert pools["solo"].spaces.observation_size == 1
        assert (pools["pair"].view, pools["solo"].view) == (views.get("pair"), views["solo"])


class Counting(nn.Module):
    """Says how many steps it has seen: h' = h + 1, and the means are h'."""

    def forward(self, observations: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        following = hidden + 1
        return following.expand(len(observations), 2), following


def test_vectors_of_actions_and_what_is_remembered() -> None:
    box = AgentSpec(observation_size=2, actions=Box((-9.0, -9.0), (9.0, 9.0)))
    spec = EnvSpec(name="test", agents={"a": box, "b": box}, groups={"pair": ("a", "b")}, state_size=1)
    pool = Pool(name="pair", groups=("pair",), spaces=box, teacher_digest="")
    student = Student(StudentSpec(family="mlp", base=(4,), hidden=(4,)), box, Counting())
    student.hidden_size = 1  # of a family that is recurrent
    choose = student_among_teachers(pool, student, spec, draw_seats(pool, spec, 40, seeded(0)))
    answers = []
    for first in (True, False, False, True):
        scene = scene_of({"pair": np.zeros((40, 2, 2))}, first=first)
        # A teacher says means and logarithms of deviations.
        chosen = choose(scene, {"pair": torch.tensor([-3.0, -3.0, 0.0, 0.0]).expand(40, 2, 4)})["pair"]
        assert chosen.shape == (40, 2, 2)
        assert (chosen[..., 0] == chosen[..., 1]).all()  # a seat is the student's as a whole
        answers.append(sorted(set(chosen.flatten().tolist())))
    # Teachers say -3; the student counts from the beginning of each episode.
    assert answers == [[-3, 1], [-3, 2], [-3, 3], [-3, 1]]


def test_several_factors_are_masked_one_by_one() -> None:
    factors = AgentSpec(observation_size=2, actions=MultiDiscrete((2, 2)), masked=True)
    spec = EnvSpec(name="test", agents={"a": factors}, groups={"solo": ("a",)}, state_size=1)
    pool = Pool(name="solo", groups=("solo",), spaces=factors, teacher_digest="")
    network = make_mlp(2, (4,), 4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[2].bias.copy_(torch.tensor([0.0, 1.0, 0.0, 1.0]))  # prefers 1 and 1
    student = Student(StudentSpec(family="mlp", base=(4,), hidden=(4,)), factors, network)
    choose = student_among_teachers(pool, student, spec, draw_seats(pool, spec, 3, seeded(0)))
    mask = np.array([[[1, 1, 1, 1]], [[1, 0, 1, 1]], [[1, 1, 1, 0]]], np.bool_)
    chosen = choose(scene_of({"solo": np.zeros((3, 1, 2))}, {"solo": mask}), {"solo": torch.zeros(3, 1, 4)})["solo"]
    assert chosen.tolist() == [[[1, 1]], [[0, 1]], [[1, 0]]]
