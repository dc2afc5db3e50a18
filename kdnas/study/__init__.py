"""The outer loop: from a study and a budget to a front of students that are ready to deploy."""

from kdnas.study.front import Member, ParetoFront, read_front
from kdnas.study.gate import Gate, Verdict
from kdnas.study.importance import Importance, read_importance
from kdnas.study.interrupt import SearchInterrupted
from kdnas.study.limits import Limit, read_limits
from kdnas.study.preflight import Preflight
from kdnas.study.search import profile, search
from kdnas.study.selector import Selector, parse_selector
from kdnas.study.watch import Progress, Silent, Watch

__all__ = [
    "Gate",
    "Importance",
    "Limit",
    "Member",
    "ParetoFront",
    "Preflight",
    "Progress",
    "SearchInterrupted",
    "Selector",
    "Silent",
    "Verdict",
    "Watch",
    "parse_selector",
    "profile",
    "read_front",
    "read_importance",
    "read_limits",
    "search",
]
