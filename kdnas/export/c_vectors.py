"""`vectors.h` and `test.c`: recorded observations and what the C must make of them, to be run on any target."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdnas.export.c_network import Table
from kdnas.export.c_source import action_numbers, has_mask
from kdnas.export.c_student import TRACK, CStudent
from kdnas.policies.actions import Box
from kdnas.policies.arrays import Bools, Floats

ROWS = 64
"""Recorded observations of each group in `vectors.h`; the export itself runs all."""

TOLERANCE = 1e-4
"""By which a float may differ, relative to 1 or to itself: compilers add in other orders than NumPy."""

_TEST = """\
/* Runs the observations of vectors.h and compares every layer: integers exactly, floats nearly. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "team.h"
#include "vectors.h"

{near}{tests}
int main(void)
{{
    int wrong = 0;
{calls}    printf("%d of {rows} rows are wrong\\n", wrong);
    return wrong != 0;
}}
"""

_NEAR = """\
static int near(float got, float want)
{{
    return fabsf(got - want) <= {tolerance} * (1.0f + fabsf(want));
}}

"""

_GROUP = """\
static int {name}_test(void)
{{
    int wrong = 0;
{state}    for (int row = 0; row < {rows}; row++) {{
        {action} action[{numbers}];
        float outputs[{outputs}];
        unsigned char seen[{traced}];
        int right = 1;
{begin}        {prefix}_trace(seen);
        {name}_step({given}{name}_observations + row * {observation}, {mask}action, outputs);
        for (int i = 0; i < {outputs}; i++)
            right &= {same_output};
        for (int i = 0; i < {numbers}; i++)
            right &= {same_action};
{layers}        wrong += !right;
    }}
    return wrong;
}}
"""

_BEGIN = """\
        if (row % {track} == 0)
            {name}_begin(&state);
"""

_INTEGER_LAYERS = """\
        right &= memcmp(seen, {name}_layers + row * {traced}, {traced}) == 0;
"""

_FLOAT_LAYERS = """\
        for (int i = 0; i < {count}; i++) {{
            float value;
            memcpy(&value, seen + i * (int)sizeof value, sizeof value);
            right &= near(value, {name}_layers[row * {count} + i]);
        }}
"""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Rows of one group, and what is expected of them; a recurrent one begins anew every `TRACK` rows."""

    observations: Floats
    mask: Bools | None
    layers: NDArray[np.uint8] | Floats
    outputs: Floats
    actions: NDArray[Any]


def write_vectors(students: Mapping[str, CStudent], vectors: Mapping[str, Vectors]) -> str:
    """`vectors.h`."""
    parts = []
    for group, student in students.items():
        own, name = vectors[group], student.name
        kind = "float" if isinstance(student.student.spaces.actions, Box) else "int32_t"
        tables = [
            Table(name=f"{name}_observations", kind="float", values=own.observations),
            Table(name=f"{name}_layers", kind="unsigned char" if student.integer else "float", values=own.layers),
            Table(name=f"{name}_outputs", kind="float", values=own.outputs),
            Table(name=f"{name}_actions", kind=kind, values=own.actions),
        ]
        if own.mask is not None:
            tables.append(Table(name=f"{name}_masks", kind="uint8_t", values=own.mask.astype(np.uint8)))
        parts += [table.text for table in tables]
    return "#include <stdint.h>\n\n" + "\n".join(parts)


def write_test(students: Mapping[str, CStudent], vectors: Mapping[str, Vectors], *, prefix: str) -> str:
    """`test.c`."""
    tests, calls, rows = [], [], 0
    for group, student in students.items():
        name, count = student.name, len(vectors[group].observations)
        actions = student.student.spaces.actions
        continuous = isinstance(actions, Box)
        numbers = action_numbers(actions)
        layers = _INTEGER_LAYERS if student.integer else _FLOAT_LAYERS
        output = ("outputs[i]", f"{name}_outputs[row * {actions.outputs} + i]")
        action = ("action[i]", f"{name}_actions[row * {numbers} + i]")
        rows += count
        calls.append(f"    wrong += {name}_test();\n")
        tests.append(
            _GROUP.format(
                name=name,
                prefix=prefix,
                rows=count,
                state=f"    {name}_state state;\n" if student.recurrent else "",
                begin=_BEGIN.format(name=name, track=TRACK) if student.recurrent else "",
                given="&state, " if student.recurrent else "",
                action="float" if continuous else "int32_t",
                numbers=numbers,
                outputs=actions.outputs,
                observation=student.student.spaces.observation_size,
                traced=student.traced,
                mask=f"{name}_masks + row * {actions.outputs}, " if has_mask(student) else "",
                # Integers leave one float product behind, which every target rounds in the same way.
                same_output="!({} < {}) && !({} > {})".format(*output, *output)
                if student.integer
                else "near({}, {})".format(*output),
                same_action="near({}, {})".format(*action) if continuous else "{} == {}".format(*action),
                layers=layers.format(name=name, traced=student.traced, count=student.traced // 4),
            )
        )
    near = _NEAR.format(tolerance=f"{TOLERANCE}f") if any("near(" in test for test in tests) else ""
    return _TEST.format(near=near, tests="\n".join(tests), calls="".join(calls), rows=rows)
