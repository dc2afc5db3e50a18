"""`Pool`: the groups whose agents share a teacher network and spaces, and so share students."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.envs.view import View
from kdnas.policies.arrays import Actions
from kdnas.policies.distribution import greedy
from kdnas.policies.scene import Scene
from kdnas.students.student import Seats, Student
from kdnas.teachers.episodes import Chooser
from kdnas.teachers.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Groups with one teacher network, equal spaces and equal views: one set of students serves them all.

    Example: simple_spread with `groups = "per-agent"` and a shared actor has three groups and one pool.
    """

    name: str
    """The first of its groups."""
    groups: tuple[str, ...]
    spaces: AgentSpec
    """Of its students."""
    teacher_digest: str
    view: View | None = None
    """What its students see of the observation, where the study limits it."""


def make_pools(spec: EnvSpec, teacher: Teacher) -> dict[str, Pool]:
    """Group -> its pool."""
    members: dict[tuple[str, AgentSpec, View | None], list[str]] = {}
    for group in spec.groups:
        key = (teacher.digest(group), spec.student_spec(group), spec.views.get(group))
        members.setdefault(key, []).append(group)
    pools: dict[str, Pool] = {}
    for (digest, spaces, view), groups in members.items():
        pool = Pool(name=groups[0], groups=tuple(groups), spaces=spaces, view=view, teacher_digest=digest)
        pools |= dict.fromkeys(groups, pool)
    return pools


def draw_seats(pool: Pool, spec: EnvSpec, copies: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Group -> which of a pool's seats (copies, A) are the student's: in each copy one for sure, others by a coin.

    So the states of a student alone among teachers and of students together are both visited.
    """
    widths = [len(spec.groups[group]) for group in pool.groups]
    taken = torch.rand(copies, sum(widths), generator=generator) < 0.5
    sure = torch.randint(sum(widths), (copies, 1), generator=generator)
    taken.scatter_(1, sure, torch.ones_like(sure, dtype=torch.bool))
    return dict(zip(pool.groups, torch.split(taken, widths, dim=1), strict=True))


def student_among_teachers(
    pool: Pool, student: Student, spec: EnvSpec, own_seats: Mapping[str, Tensor]
) -> Chooser:
    """The student acts in its seats (`draw_seats`), teachers everywhere else.

    No other student's behaviour is in the data, so that the student stays valid in any team.
    """
    players = {group: Seats(student) for group in pool.groups}

    def choose(scene: Scene, parameters: Mapping[str, Tensor]) -> dict[str, Actions]:
        actions = {}
        for group, said in parameters.items():
            chosen = greedy(spec.group_spec(group).actions, said)
            if group in players:
                own = players[group].act(scene.views[group], scene.masks[group], first=scene.first)
                seats = own_seats[group][: len(own)]
                chosen = torch.where(seats.reshape(*seats.shape, *[1] * (own.ndim - 2)), own, chosen)
            actions[group] = chosen.numpy()
        return actions

    return choose
