"""Flash and stack by hand, from what the GNU tools write."""

import pytest

from kdnas.errors import StudentError
from kdnas.profiling.targets.footprint import flash_bytes, stack_bytes

MAP = """\
Discarded input sections

 .text.unused   0x00000000       0x64 team.o

Linker script and memory map

 .text.step     0x00000400       0x10 team.o
 .rodata.kdnas_agent_weights_0
                0x00000410       0x20 team.o
 .rodata.rows   0x00000430     0x1000 main.o
 .bss.state     0x20000000        0x8 team.o
 .data.seed     0x20000008        0x4 team.o
 .text          0x00001430       0x40 /usr/lib/gcc/thumb/libgcc.a(_aeabi_lmul.o)
 .text          0x00001470      0x200 /usr/lib/thumb/libc.a(memcpy.o)
"""


def test_flash_is_what_the_students_own_objects_and_the_runtime_take() -> None:
    # 16 of code, 32 of tables, 4 of initial values, and 64 of the runtime. Not what was thrown away, nor zeros in RAM.
    assert flash_bytes(MAP, ("team.o", "libgcc.a")) == 16 + 32 + 4 + 64
    assert flash_bytes(MAP, ("team.o",)) == 52
    with pytest.raises(StudentError, match="no memory map"):
        flash_bytes("nothing", ("team.o",))


GRAPH = """\
graph: { title: "team.c"
node: { title: "kdnas_agent_step" label: "kdnas_agent_step\\nteam.c:9:6\\n104 bytes (static)\\n0 dynamic objects" }
node: { title: "team.c:kdnas_dense" label: "kdnas_dense\\nteam.c:3:13\\n32 bytes (static)\\n0 dynamic objects" }
node: { title: "team.c:kdnas_sums" label: "kdnas_sums\\nteam.c:5:13\\n48 bytes (dynamic,bounded)" }
node: { title: "memset" label: "memset\\n<built-in>" shape : ellipse }
edge: { sourcename: "kdnas_agent_step" targetname: "memset" label: "team.c:10:5" }
edge: { sourcename: "kdnas_agent_step" targetname: "team.c:kdnas_dense" label: "team.c:11:5" }
edge: { sourcename: "kdnas_agent_step" targetname: "team.c:kdnas_sums" label: "team.c:12:5" }
edge: { sourcename: "team.c:kdnas_sums" targetname: "team.c:kdnas_dense" label: "team.c:6:5" }
}
"""


def test_the_deepest_stack() -> None:
    # step -> sums -> dense; memset is not of this object.
    assert stack_bytes(GRAPH, "kdnas_agent_step") == 104 + 48 + 32
    with pytest.raises(StudentError, match="no stack usage of kdnas_other_step"):
        stack_bytes(GRAPH, "kdnas_other_step")


def test_a_stack_without_a_bound_is_refused() -> None:
    with pytest.raises(StudentError, match="the stack of kdnas_sums has no bound"):
        stack_bytes(GRAPH.replace("(dynamic,bounded)", "(dynamic)"), "kdnas_agent_step")
    loop = 'edge: { sourcename: "team.c:kdnas_dense" targetname: "team.c:kdnas_sums" label: "" }\n'
    with pytest.raises(StudentError, match="calls itself"):
        stack_bytes(GRAPH + loop, "kdnas_agent_step")
