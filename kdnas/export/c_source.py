"""`team.h`, `team.c`, `main.c` and the Makefile of a team in C."""

import re
from collections.abc import Mapping

from kdnas.errors import StudentError
from kdnas.export.c_kernels import kernels
from kdnas.export.c_student import CStudent
from kdnas.policies.actions import ActionSpace, Box
from kdnas.students.team import Team

HEADER, SOURCE = "team.h", "team.c"

_HEADER = """\
/* {title}: students written by kdnas. C99, no library{libm}, no memory but the stack.
 *
 * One function a group, for each agent of the group: give it what the agent observes, and it says what the agent does.
 * Where agents remember, each of them has a state of its own.
 */
#ifndef {macro}_TEAM_H
#define {macro}_TEAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{groups}
#ifdef {macro}_TRACE
/* Where every step writes what its layers compute, each layer but the outputs, one after the other. */
void {prefix}_trace(unsigned char *into);
#endif

#ifdef __cplusplus
}}
#endif

#endif
"""

_GROUP = """\
/* Group {group}: {spec}, {actions}; agents {agents}. */
#define {macro}_OBSERVATION {observation}
#define {macro}_OUTPUTS {outputs}
#define {macro}_ACTION {numbers}
{state}{prototype};

"""

_STATE = """\
/* What an agent remembers; {name}_begin at the beginning of each episode. */
typedef struct {{
    {kind} hidden[{units}];
}} {name}_state;
void {name}_begin({name}_state *state);
"""

_BEGIN = """\
void {name}_begin({name}_state *state)
{{
    for (size_t i = 0; i < {units}u; i++)
        state->hidden[i] = {zero};
}}

"""

_STEP = """\
/* Group {group}: {spec}, {bytes} bytes of tables. */
{tables}
{begin}{prototype}
{{
    union {{ float outputs[{outputs}]; {sums}{value} values[{live}]; }} live;
    {body}
}}
"""

_MAIN = """\
/* One step of each group on an observation of zeros. */
#include <stdio.h>

#include "team.h"

int main(void)
{{
{steps}    return 0;
}}
"""

_MAIN_STEP = """\
    {{
        const float observation[{macro}_OBSERVATION] = {{0.0f}};
        {kind} action[{macro}_ACTION];
{begin}        {name}_step({state}observation, {mask}action, NULL);
        printf("{label}:");
        for (int i = 0; i < {macro}_ACTION; i++)
            printf(" {format}", {cast}action[i]);
        printf("\\n");
    }}
"""

_MAIN_BEGIN = """\
        {name}_state state;
        {name}_begin(&state);
"""

MAKEFILE = """\
# make           the example
# make test      the recorded observations of vectors.h, with the values of every layer
# Other targets: make CC=arm-none-eabi-gcc \
#     CFLAGS="-O3 -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 --specs=nosys.specs"
CC ?= cc
CFLAGS ?= -O3
FLAGS = -std=c99 -Wall -Wextra -pedantic

example: main.c team.c team.h
	$(CC) $(FLAGS) $(CFLAGS) main.c team.c -o $@ -lm

test: check
	./check

check: test.c vectors.h team.c team.h
	$(CC) $(FLAGS) $(CFLAGS) -D{macro}_TRACE test.c team.c -o $@ -lm

clean:
	rm -f example check

.PHONY: test clean
"""


def name_groups(team: Team, prefix: str) -> dict[str, str]:
    """Group -> the beginning of its names in C.

    Raises:
        StudentError: the prefix is no C name, or two groups would have one name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", prefix):
        raise StudentError(f"the prefix {prefix!r} is no C name; take small letters, digits and _")
    names = {group: f"{prefix}_{re.sub(r'[^a-z0-9]+', '_', group.lower()).strip('_')}" for group in team.spec.groups}
    for group, name in names.items():
        twins = [other for other in names if other != group and names[other] == name]
        if twins or name == f"{prefix}_":
            raise StudentError(
                f"the groups {', '.join(map(repr, [group, *twins]))} have no C names of their own ({name!r}); "
                "rename them in env.groups"
            )
    return names


def write_header(team: Team, students: Mapping[str, CStudent], prefix: str) -> str:
    """`team.h`."""
    groups = [
        _GROUP.format(
            group=_comment(group),
            spec=student.student.spec,
            actions=_comment(str(student.student.spaces.actions)),
            agents=_comment(", ".join(team.spec.groups[group])),
            macro=student.name.upper(),
            observation=student.student.spaces.observation_size,
            outputs=student.student.spaces.actions.outputs,
            numbers=action_numbers(student.student.spaces.actions),
            state=_state(student),
            prototype=_prototype(student),
        )
        for group, student in students.items()
    ]
    libm = any(_needs_libm(student) for student in students.values())
    return _HEADER.format(
        title=_comment(team.spec.name),
        libm=" but the mathematical one" if libm else "",
        macro=prefix.upper(),
        prefix=prefix,
        groups="".join(groups),
    )


def write_source(students: Mapping[str, CStudent], prefix: str) -> str:
    """`team.c`."""
    own = list(students.values())
    used = [layer for student in own for layer in student.network.kernels]
    discrete = any(not isinstance(student.student.spaces.actions, Box) for student in own)
    columns = max(vector.entries for student in own for vector in student.network.vectors)
    parts = [part for student in own for part in student.network.parts]
    shared = kernels(used, parts, columns=columns, discrete=discrete)
    includes = ["<stddef.h>", "<stdint.h>", "<string.h>"]
    includes += ["<math.h>"] if any(_needs_libm(student) for student in own) else []
    head = f'#include "{HEADER}"\n\n' + "".join(f"#include {name}\n" for name in sorted(includes)) + "\n"
    return head + _prefixed(shared, prefix) + "".join(f"\n{_step(group, student, prefix)}" for group, student in
                                                     students.items())  # fmt: skip


def write_main(students: Mapping[str, CStudent]) -> str:
    """`main.c`, an example."""
    steps = []
    for group, student in students.items():
        continuous = isinstance(student.student.spaces.actions, Box)
        steps.append(
            _MAIN_STEP.format(
                macro=student.name.upper(),
                name=student.name,
                kind="float" if continuous else "int32_t",
                begin=_MAIN_BEGIN.format(name=student.name) if student.recurrent else "",
                state="&state, " if student.recurrent else "",
                mask="NULL, " if has_mask(student) else "",
                label=re.sub(r'[\\"%]', "_", _comment(group)),
                format="%g" if continuous else "%d",
                cast="(double)" if continuous else "(int)",
            )
        )
    return _MAIN.format(steps="".join(steps))


def has_mask(student: CStudent) -> bool:
    """Whether the function takes a mask."""
    return student.student.spaces.masked and not isinstance(student.student.spaces.actions, Box)


def action_numbers(actions: ActionSpace) -> int:
    """Numbers of one action."""
    return actions.shape[0] if actions.shape else 1


def _prototype(student: CStudent) -> str:
    mask = "const uint8_t *mask, " if has_mask(student) else ""
    kind = "float" if isinstance(student.student.spaces.actions, Box) else "int32_t"
    state = f"{student.name}_state *state, " if student.recurrent else ""
    return f"void {student.name}_step({state}const float *observation, {mask}{kind} *action, float *outputs)"


def _state(student: CStudent) -> str:
    if not student.recurrent:
        return ""
    kind = "uint8_t" if student.integer else "float"
    return _STATE.format(name=student.name, kind=kind, units=student.network.units)


def _begin(student: CStudent) -> str:
    if not student.recurrent:
        return ""
    zero = f"{student.network.zero}u" if student.integer else "0.0f"
    return _BEGIN.format(name=student.name, units=student.network.units, zero=zero)


def _step(group: str, student: CStudent, prefix: str) -> str:
    tables, actions, name = student.tables, student.student.spaces.actions, student.name
    lines = [_prefixed(line, prefix) for line in student.body]
    if isinstance(actions, Box):
        lines.append(f"for (size_t i = 0; i < {actions.outputs}u; i++) {{")
        if actions.squashed:
            lines.append(f"    const float squashed = {name}_reach[i] * tanhf(live.outputs[i]);")
            lines.append(f"    action[i] = {name}_middle[i] + squashed;")
        else:
            lines.append(f"    const float raised = live.outputs[i] > {name}_low[i] ? live.outputs[i] : {name}_low[i];")
            lines.append(f"    action[i] = raised < {name}_high[i] ? raised : {name}_high[i];")
        lines.append("}")
    else:
        begin = 0
        for index, count in enumerate(actions.counts):
            mask = "NULL"
            if has_mask(student):
                mask = f"mask == NULL ? NULL : mask + {begin}" if begin else "mask"
            logits = f"live.outputs + {begin}" if begin else "live.outputs"
            lines.append(f"action[{index}] = {prefix}_best({logits}, {mask}, {count}u);")
            begin += count
    lines += ["if (outputs != NULL)", "    memcpy(outputs, live.outputs, sizeof live.outputs);"]
    return _STEP.format(
        group=_comment(group),
        spec=student.student.spec,
        bytes=sum(table.values.nbytes for table in [*tables, *student.network.shared]),
        tables="\n".join(table.text for table in tables),
        begin=_begin(student),
        prototype=_prototype(student),
        outputs=actions.outputs,
        value=_prefixed(student.network.value, prefix),
        live=student.live,
        sums=f"int32_t sums[{student.sums}]; " if student.sums else "",
        body="\n    ".join(lines),
    )


def _prefixed(text: str, prefix: str) -> str:
    return re.sub(r"\bkdnas_", f"{prefix}_", re.sub(r"\bKDNAS_", f"{prefix.upper()}_", text))


def _needs_libm(student: CStudent) -> bool:
    actions = student.student.spaces.actions
    return student.network.libm or (isinstance(actions, Box) and actions.squashed)


def _comment(text: str) -> str:
    """Text that cannot end a comment."""
    return re.sub(r"[^ -~]|\*/|\\$", "?", text)
