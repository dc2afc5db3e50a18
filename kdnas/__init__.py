"""kdnas: small student teams of a fixed multi-agent teacher, under hard FLOPs, memory and latency budgets.

Names are imported when they are first used, so that `kdnas.load_student` needs only torch, numpy, brevitas, safetensors
and pydantic, and `kdnas --help` needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdnas.envs.spec import AgentSpec, EnvSpec
    from kdnas.errors import KdnasError
    from kdnas.policies.actions import Box, Discrete, MultiDiscrete
    from kdnas.students.bundle import load_student
    from kdnas.students.student_team import StudentTeam
    from kdnas.study.front import ParetoFront
    from kdnas.study.interrupt import SearchInterrupted
    from kdnas.study.search import search
    from kdnas.teachers.teacher import Reading, Teacher

_HOMES = {
    "AgentSpec": "kdnas.envs.spec",
    "Box": "kdnas.policies.actions",
    "Discrete": "kdnas.policies.actions",
    "EnvSpec": "kdnas.envs.spec",
    "KdnasError": "kdnas.errors",
    "MultiDiscrete": "kdnas.policies.actions",
    "ParetoFront": "kdnas.study.front",
    "Reading": "kdnas.teachers.teacher",
    "SearchInterrupted": "kdnas.study.interrupt",
    "StudentTeam": "kdnas.students.student_team",
    "Teacher": "kdnas.teachers.teacher",
    "load_student": "kdnas.students.bundle",
    "search": "kdnas.study.search",
}

__all__ = [
    "AgentSpec",
    "Box",
    "Discrete",
    "EnvSpec",
    "KdnasError",
    "MultiDiscrete",
    "ParetoFront",
    "Reading",
    "SearchInterrupted",
    "StudentTeam",
    "Teacher",
    "load_student",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kdnas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
