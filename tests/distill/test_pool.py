import torch
from torch import Tensor, nn

from kdnas.distill import make_pools
from kdnas.distill.pool import student_among_teachers
from kdnas.envs import AgentSpec, EnvSpec
from kdnas.policies import mask_logits
from kdnas.policies.actions import Discrete
from kdnas.spaces import StudentSpec
from kdnas.students import Student
from kdnas.teachers import Teacher, make_mlp

SMALL, LARGE = AgentSpec(observation_size=2, actions=Discrete(3)), AgentSpec(observation_size=4, actions=Discrete(3))


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
    choose = student_among_teachers(pool, stubborn(), env(), copies, torch.Generator().manual_seed(seed))
    zero = torch.tensor([5.0, 0.0, 0.0])
    for _ in range(2):  # the seats are the same in every step
        pair = choose("pair", torch.zeros(copies, 2, 2), zero.expand(copies, 2, 3))
        solo = choose("solo", torch.zeros(copies, 1, 2), zero.expand(copies, 1, 3))
        taken = torch.cat([pair, solo], 1)
    assert set(taken.unique().tolist()) <= {0, 2}
    return taken == 2


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
    choose = student_among_teachers(pool, stubborn(), env(), 8, torch.Generator().manual_seed(0))
    logits = torch.tensor([0.0, 9.0, 0.0]).expand(8, 1, 3)
    assert choose("other", torch.zeros(8, 1, 4), logits).tolist() == [[1]] * 8


def test_a_last_batch_may_be_smaller() -> None:
    small, large = networks()
    pool = make_pools(env(), Teacher(env(), {"pair": small, "solo": small, "other": large}))["pair"]
    choose = student_among_teachers(pool, stubborn(), env(), 8, torch.Generator().manual_seed(0))
    assert choose("pair", torch.zeros(3, 2, 2), torch.zeros(3, 2, 3)).shape == (3, 2)


def test_the_student_plays_by_the_rules() -> None:
    small, large = networks()
    spec = env(masked=True)
    pool = make_pools(spec, Teacher(spec, {"pair": small, "solo": small, "other": large}))["pair"]
    choose = student_among_teachers(pool, stubborn(), spec, 50, torch.Generator().manual_seed(0))
    mask = torch.tensor([True, True, False]).expand(50, 2, 3)
    actions = choose("pair", torch.zeros(50, 2, 2), mask_logits(torch.tensor([-1e5, -2e5, 0.0]).expand(50, 2, 3), mask))
    assert set(actions.unique().tolist()) == {0, 1}  # the teacher's best legal one, and the student's
