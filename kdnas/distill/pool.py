"""`Pool`: the groups whose agents share a teacher network and spaces, and so share students."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.policies.categorical import ILLEGAL, greedy, mask_logits
from kdnas.students.student import Student
from kdnas.teachers.demonstrations import Chooser
from kdnas.teachers.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Groups with one teacher network and equal spaces: one set of students serves them all.

    Example: simple_spread with `groups = "per-agent"` and a shared actor has three groups and one pool.
    """

    name: str
    """The first of its groups."""
    groups: tuple[str, ...]
    spaces: AgentSpec
    teacher_digest: str


def make_pools(spec: EnvSpec, teacher: Teacher) -> dict[str, Pool]:
    """Group -> its pool."""
    members: dict[tuple[str, AgentSpec], list[str]] = {}
    for group in spec.groups:
        members.setdefault((teacher.digest(group), spec.group_spec(group)), []).append(group)
    pools: dict[str, Pool] = {}
    for (digest, spaces), groups in members.items():
        pool = Pool(name=groups[0], groups=tuple(groups), spaces=spaces, teacher_digest=digest)
        pools |= dict.fromkeys(groups, pool)
    return pools


def student_among_teachers(
    pool: Pool, student: Student, spec: EnvSpec, copies: int, generator: torch.Generator
) -> Chooser:
    """The student acts in seats of its pool, teachers everywhere else.

    In each copy one random seat of the pool is the student's for the whole episode, and every other one with
    probability 1/2: the states of a student alone among teachers and of students together are both visited, and no
    other student's behaviour is in the data, so that the student stays valid in any team.
    """
    seats = sum(len(spec.groups[group]) for group in pool.groups)
    taken = torch.rand(copies, seats, generator=generator) < 0.5
    sure = torch.randint(seats, (copies, 1), generator=generator)
    taken.scatter_(1, sure, torch.ones_like(sure, dtype=torch.bool))
    widths = [len(spec.groups[group]) for group in pool.groups]
    by_group = dict(zip(pool.groups, torch.split(taken, widths, dim=1), strict=True))

    def choose(group: str, observations: Tensor, logits: Tensor) -> Tensor:
        actions = greedy(logits)
        if group not in by_group:
            return actions
        legal = logits > LEGAL_ABOVE if pool.spaces.masked else None
        own = greedy(mask_logits(student(observations), legal))
        return torch.where(by_group[group][: len(own)], own, actions)

    return choose


LEGAL_ABOVE = ILLEGAL / 10
"""A masked action's logit is `ILLEGAL`; nothing that a network says comes near."""
