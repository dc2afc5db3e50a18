"""`c` and `remote`: the generated C, compiled and timed by a program of its own, here or on a device."""

import shlex
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from kdnas.errors import ConfigError, StudentError
from kdnas.export.c_library import COMPILERS, find_compiler
from kdnas.policies.arrays import Floats
from kdnas.profiling.machine import cpu_model
from kdnas.profiling.target import Measurement
from kdnas.profiling.targets.compiled import CompiledTarget, run_program
from kdnas.profiling.targets.program import write_program
from kdnas.profiling.timing import summarise
from kdnas.students.student import Student

CHUNKS, PASSES, WARM_UP = 5, 200, 50
"""Timed are passes over all rows, in chunks: the percentiles are of passes."""

_MAIN = """\
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "team.h"
#include "rows.h"

{declarations}

static double now_ns(void)
{{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}}

static double pass_ns(void)
{{
    const double begun = now_ns();
    for (int row = 0; row < ROWS; row++)
        (void){call};
    return (now_ns() - begun) / ROWS;
}}

int main(void)
{{
    {begin}
    for (int i = 0; i < {warm_up}; i++)
        (void)pass_ns();
    for (int i = 0; i < {passes}; i++)
        printf("%.3f\\n", pass_ns());
    return 0;
}}
"""

_BUILD = "{compiler} -std=c99 {flags} main.c team.c -o program -lm"


class CTarget(CompiledTarget):
    """`c`: the host's compiler. What is timed is a decision in C alone, without a call from Python.

    Args:
        flags: the compiler's options; `-march=native` is not among them, so that the C runs on other machines too.
    """

    name = "c"
    note = "Latency was measured where the search ran, in C compiled there, one thread, called from C."

    def __init__(self, *, flags: str = "-O3") -> None:
        self.flags = flags

    def missing(self) -> str:
        return "" if find_compiler() else f"a C compiler ({', '.join(COMPILERS)}) must be installed: build-essential"

    def fingerprint(self) -> dict[str, str]:
        version = run_program([find_compiler() or COMPILERS[0], "--version"]).splitlines()[0]
        return {"compiler": version, "flags": self.flags, "cpu": cpu_model()}

    def run(self, student: Student, views: Floats | None) -> Measurement:
        with TemporaryDirectory(prefix="kdnas-") as place:
            folder = Path(place)
            program = write_program(student, folder, views)
            main = _MAIN.format(
                declarations=program.declarations,
                begin=program.begin,
                call=program.call,
                warm_up=WARM_UP,
                passes=PASSES,
            )
            (folder / "main.c").write_text(main, encoding="ascii")
            said = self._time(folder)
        try:
            chunks = [[float(line) for line in each.split()] for each in said]
        except ValueError as error:
            raise StudentError(f"target {self.name!r}: the timing program did not print times ({error})") from error
        if not all(len(chunk) == PASSES for chunk in chunks):
            counts = [len(chunk) for chunk in chunks]
            raise StudentError(f"target {self.name!r}: the timing program printed {counts} times, not {PASSES} each")
        return summarise(chunks)

    def _time(self, folder: Path) -> list[str]:
        """What the timing program says, run after run."""
        run_program(shlex.split(_BUILD.format(compiler=find_compiler() or COMPILERS[0], flags=self.flags)), folder)
        return [run_program([str(folder / "program")]) for _ in range(CHUNKS)]


class RemoteTarget(CTarget):
    """`remote`: the same program on a device, which has a C compiler and is reached by two commands.

    Args:
        run: a command with `{runner}`, a shell command line to run there, already quoted: `ssh pi {runner}`.
        copy: a command that copies the folder `{folder}` of this machine to `{place}` there: for example
            `scp -rq {folder} pi:{place}`.
        place: a folder on the device that does not matter; it is deleted first.
        compiler: the device's.
        flags: the compiler's options there.
    """

    def __init__(
        self,
        *,
        run: str = "",
        copy: str = "",
        place: str = "/tmp/kdnas-timing",
        compiler: str = "cc",
        flags: str = "-O3 -march=native",
    ) -> None:
        super().__init__(flags=flags)
        if bool(run) != bool(copy) or (run and "{runner}" not in run) or (copy and "{folder}" not in copy):
            raise ConfigError(
                "target 'remote' needs run = 'ssh pi {runner}' and copy = 'scp -rq {folder} pi:{place}', but got "
                f"run={run!r} and copy={copy!r}"
            )
        self._commands, self._place, self._compiler = (run, copy), place, compiler
        self.name = f"remote:{run.replace('{runner}', '').strip()}"
        self.note = f"Latency was measured in C on a device reached by {run!r}, one thread, called from C."

    def missing(self) -> str:
        run, copy = self._commands
        if not run:
            return "run = 'ssh pi {runner}' and copy = 'scp -rq {folder} pi:{place}' must stand in [target] kwargs"
        programs = dict.fromkeys(shlex.split(command)[0] for command in (run, copy))
        lacking = [name for name in programs if not shutil.which(name)]
        return f"{' and '.join(lacking)} must be installed" if lacking else ""

    def fingerprint(self) -> dict[str, str]:
        said = self._there(f"uname -srm; {self._compiler} --version").splitlines()
        return {"device": said[0], "compiler": said[1] if len(said) > 1 else "", "flags": self.flags}

    def _time(self, folder: Path) -> list[str]:
        place = shlex.quote(self._place)
        self._there(f"rm -rf {place}")
        run_program(shlex.split(self._commands[1].format(folder=shlex.quote(str(folder)), place=place)))
        build = _BUILD.format(compiler=self._compiler, flags=self.flags)
        self._there(f"cd {place} && {build}")
        return [self._there(f"cd {place} && ./program") for _ in range(CHUNKS)]

    def _there(self, line: str) -> str:
        return run_program(shlex.split(self._commands[0].replace("{runner}", shlex.quote(line))))
