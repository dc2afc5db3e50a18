"""Flash and stack of compiled C, read from what the GNU tools write beside it."""

import re
from collections.abc import Collection
from pathlib import Path

from kdnas.errors import StudentError

_FLASH = (".text", ".rodata", ".data")
"""Beginnings of section names; initial values of variables lie in flash too."""

_PLACED = re.compile(r"^ (\.[\w.$-]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (\S+)$", re.MULTILINE)
_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]*)"')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
_BYTES = re.compile(r"(\d+) bytes \((static|dynamic,bounded)\)")


def flash_bytes(link_map: str, objects: Collection[str]) -> int:
    """Bytes of code and constants that objects take in a linked program.

    Args:
        link_map: text of the GNU linker's map, linked with `--gc-sections`.
        objects: names of object files, and of archives, of which every member counts (`team.o`, `libgcc.a`).

    Raises:
        StudentError: it is no map.
    """
    _, found, placed = link_map.partition("Linker script and memory map")
    if not found:
        raise StudentError("the linker wrote no memory map; the GNU linker of the ARM toolchain does")
    placed = re.sub(r"^ (\.[\w.$-]+)\n\s+", r" \1 ", placed, flags=re.MULTILINE)  # long names have a line of their own
    total = 0
    for section, size, owner in _PLACED.findall(placed):
        name = Path(owner.partition("(")[0]).name
        if name in objects and section.startswith(_FLASH):
            total += int(size, 16)
    return total


def stack_bytes(call_graph: str, entry: str) -> int:
    """The deepest stack below the caller of a function, functions of other objects left out.

    Args:
        call_graph: text that GCC's `-fcallgraph-info=su` writes.
        entry: name of the function.

    Raises:
        StudentError: the function is not there, calls itself, or has a frame without a bound.
    """
    frames: dict[str, int] = {}
    for title, label in _NODE.findall(call_graph):
        used = _BYTES.search(label)
        if used is not None:
            frames[_plain(title)] = int(used.group(1))
        elif " bytes (" in label:
            raise StudentError(f"the stack of {_plain(title)} has no bound; this is a fault of the exporter")
    calls: dict[str, set[str]] = {}
    for source, target in _EDGE.findall(call_graph):
        calls.setdefault(_plain(source), set()).add(_plain(target))
    if entry not in frames:
        raise StudentError(f"the compiler wrote no stack usage of {entry}")

    def deepest(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise StudentError(f"{name} calls itself, so that its stack has no bound")
        below = [deepest(called, (*above, name)) for called in calls.get(name, ())]
        return frames.get(name, 0) + max(below, default=0)

    return deepest(entry, ())


def _plain(title: str) -> str:
    """A function's name without the file of a static one."""
    return title.rpartition(":")[2]
