"""The C of one student alone, with rows to run it on: what targets that compile have in common."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import StudentError
from kdnas.export.c_network import Table
from kdnas.export.c_source import HEADER, SOURCE, has_mask, name_groups, write_header, write_source
from kdnas.export.c_student import CStudent
from kdnas.policies.actions import Box, Discrete
from kdnas.policies.arrays import Floats
from kdnas.profiling.flops import count_macs
from kdnas.spaces.spec import StudentSpec
from kdnas.students.activation import RELU
from kdnas.students.mlp import Mlp
from kdnas.students.student import Student
from kdnas.students.team import Team

GROUP = "agent"
"""The one group of a program, and its one agent."""

PREFIX = "kdnas"

ROWS = 16
"""Observations that a program runs."""

_STEP = "{name}_step({state}{prefix}_rows + {observation} * row, {mask}action, outputs)"


@dataclass(frozen=True, kw_only=True)
class Program:
    """Source files of one student: `team.h`, `team.c` and `rows.h`, and what a program says to call it."""

    folder: Path
    declarations: str
    """What it needs, one statement a line: the action, and the state of one that remembers."""
    begin: str
    """A statement, where an episode begins."""
    call: str
    """An expression: the decision on row `row` of `rows`."""
    state_bytes: int
    """What it keeps from one decision to the next."""


def write_program(student: Student, folder: Path, views: Floats | None = None, *, prefix: str = PREFIX) -> Program:
    """Write a student into a folder, with `ROWS` of some views (rows, V), or random ones.

    Two students with prefixes of their own, in folders of their own, are one program.

    Raises:
        StudentError: its family has no C form.
    """
    spaces = student.spaces
    seen = EnvSpec(name="one student", agents={GROUP: _shown(spaces)}, groups={GROUP: (GROUP,)}, state_size=0)
    team = Team(seen, {GROUP: student})
    own = CStudent(student, name_groups(team, prefix)[GROUP])
    if views is None:
        views = np.random.default_rng(0).standard_normal((ROWS, spaces.observation_size)).astype(np.float32)
    picks = np.linspace(0, len(views) - 1, ROWS).astype(np.int64)
    rows = Table(name=f"{prefix}_rows", kind="float", values=np.ascontiguousarray(views[picks], np.float32))
    texts = {
        HEADER: write_header(team, {GROUP: own}, prefix),
        SOURCE: write_source({GROUP: own}, prefix),
        "rows.h": f"#define ROWS {ROWS}\n{rows.text}",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii")
    kind = "float" if isinstance(spaces.actions, Box) else "int32_t"
    macro = own.name.upper()
    declarations = [f"static {kind} action[{macro}_ACTION];", f"static float outputs[{macro}_OUTPUTS];"]
    if own.recurrent:
        declarations.append(f"static {own.name}_state state;")
    state, mask = "&state, " if own.recurrent else "", "NULL, " if has_mask(own) else ""
    return Program(
        folder=folder,
        declarations="\n".join(declarations),
        begin=f"{own.name}_begin(&state);" if own.recurrent else "",
        call=_STEP.format(name=own.name, state=state, prefix=prefix, observation=f"{macro}_OBSERVATION", mask=mask),
        state_bytes=own.network.units * (1 if own.integer else 4),
    )


def as_student(network: nn.Module, probe: tuple[Tensor, ...]) -> Student:
    """A float network as a perceptron of the same layers, ReLU between them.

    Teachers are built of linear layers and an activation that need not be one of ours; what stands between the layers
    of a wide network makes no difference to what it takes.

    Raises:
        StudentError: its linear layers, in the order in which they are declared, are not all that it multiplies.
    """
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    sizes = [linear.in_features for linear in linears[:1]] + [linear.out_features for linear in linears]
    chained = all(linear.in_features == size for linear, size in zip(linears, sizes, strict=False))
    counted = sum(linear.in_features * linear.out_features for linear in linears)
    if len(probe) > 1 or len(linears) < 2 or not chained or counted != count_macs(network, probe):
        raise StudentError(
            f"{type(network).__name__} is no chain of linear layers, which is all that a compiled target can time of "
            "a network that is no student"
        )
    hidden = tuple(sizes[1:-1])
    own = Mlp(sizes, torch.Generator().manual_seed(0), RELU)
    with torch.no_grad():
        for mine, his in zip(own.linears, linears, strict=True):
            assert isinstance(mine, nn.Linear)
            mine.weight.copy_(his.weight)
            mine.bias.copy_(his.bias if his.bias is not None else torch.zeros(his.out_features))
    spaces = AgentSpec(observation_size=sizes[0], actions=Discrete(sizes[-1]))
    return Student(StudentSpec(family="mlp", base=hidden, hidden=hidden), spaces, own).eval()


def _shown(spaces: AgentSpec) -> AgentSpec:
    """What the environment shows to such a student."""
    return AgentSpec(observation_size=spaces.observation_size, actions=spaces.actions, masked=spaces.masked)
