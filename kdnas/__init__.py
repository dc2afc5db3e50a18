"""kdnas: small student teams of a fixed multi-agent teacher, under hard FLOPs, memory and latency budgets.

Names are imported when they are first used, so that `kdnas.load_student` needs only torch, numpy, brevitas, safetensors
and pydantic, and `kdnas --help` needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdnas.envs.spec import AgentSpec, EnvSpec
    from kdnas.errors import KdnasError
    from kdnas.students.bundle import StudentTeam, load_student
    from kdnas.study.front import ParetoFront
    from kdnas.study.search import SearchInterrupted, search
    from kdnas.teachers.teacher import Teacher

_HOMES = {
    "AgentSpec": "kdnas.envs.spec",
    "EnvSpec": "kdnas.envs.spec",
    "KdnasError": "kdnas.errors",
    "ParetoFront": "kdnas.study.front",
    "SearchInterrupted": "kdnas.study.search",
    "StudentTeam": "kdnas.students.bundle",
    "Teacher": "kdnas.teachers.teacher",
    "load_student": "kdnas.students.bundle",
    "search": "kdnas.study.search",
}

__all__ = [
    "AgentSpec",
    "EnvSpec",
    "KdnasError",
    "ParetoFront",
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
