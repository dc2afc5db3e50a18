"""`c` and `remote`: the generated C, compiled and timed by a program of its own, here or on a device."""

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from kdnas.errors import ConfigError, StudentError
from kdnas.export.c_library import COMPILERS, find_compiler
from kdnas.export.scratch import scratch_folder
from kdnas.policies.arrays import Floats
from kdnas.profiling.machine import cpu_model
from kdnas.profiling.target import Measurement
from kdnas.profiling.targets.compiled import CompiledTarget, run_program
from kdnas.profiling.targets.program import PREFIX, Program, write_program
from kdnas.profiling.timing import steadiest, summarise
from kdnas.students.student import Student

CHUNKS, TURNS, PASSES, WARM_UP = 5, 4, 50, 20
"""Timed are passes over all rows, and the percentiles are of passes. A chunk is a run of the program, in which student
and reference kernel take so many turns of so many passes each, after some that are not timed."""

REFERENCE = "reference"
"""Folder and prefix of the reference kernel in the program."""

_MAIN = """\
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "team.h"
#include "rows.h"
#include "reference/team.h"
#include "reference/rows.h"

static double now_ns(void)
{{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}}

{passes_ns}
typedef double pass(void);

static void turn(pass *one, double *into)
{{
    for (int i = 0; i < {warm_up}; i++)
        (void)one();
    for (int i = 0; i < {passes}; i++)
        into[i] = one();
}}

int main(void)
{{
    static double own[{turns} * {passes}], reference[{turns} * {passes}];
    for (int i = 0; i < {turns}; i++) {{
        turn(kdnas_pass_ns, own + {passes} * i);
        turn(reference_pass_ns, reference + {passes} * i);
    }}
    for (int i = 0; i < {turns} * {passes}; i++)
        printf("%.3f %.3f\\n", own[i], reference[i]);
    return 0;
}}
"""

_PASS = """\
static double {prefix}_pass_ns(void)
{{
    {declarations}
    {begin}
    const double begun = now_ns();
    for (int row = 0; row < ROWS; row++)
        (void){call};
    return (now_ns() - begun) / ROWS;
}}
"""

_BUILD = "{compiler} -std=c99 {flags} main.c team.c reference/team.c -o program -lm"


class CTarget(CompiledTarget):
    """`c`: the host's compiler. What is timed is a decision in C alone, without a call from Python, in turns with the
    reference kernel.

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
        return {"compiler": version, "flags": self.flags, "cpu": cpu_model(), "threads": "1"}

    def run(self, student: Student, views: Floats | None) -> Measurement:
        with scratch_folder() as folder:
            (folder / REFERENCE).mkdir()
            programs = {
                PREFIX: write_program(student, folder, views),
                REFERENCE: write_program(self.reference, folder / REFERENCE, prefix=REFERENCE),
            }
            passes_ns = [_write_pass(prefix, program) for prefix, program in programs.items()]
            main = _MAIN.format(passes_ns="\n".join(passes_ns), warm_up=WARM_UP, passes=PASSES, turns=TURNS)
            (folder / "main.c").write_text(main, encoding="ascii")
            run_once = self._build(folder)
            return steadiest(lambda: summarise(*self._chunks([run_once() for _ in range(CHUNKS)])))

    def _build(self, folder: Path) -> Callable[[], str]:
        """What runs the timing program of a folder once, and returns what it says."""
        run_program(shlex.split(_BUILD.format(compiler=find_compiler() or COMPILERS[0], flags=self.flags)), folder)
        return lambda: run_program([str(folder / "program")])

    def _chunks(self, said: Sequence[str]) -> tuple[list[list[float]], list[list[float]]]:
        """Times in nanoseconds of the student, and of the reference kernel, of some runs of the program."""
        try:
            times = [[float(word) for word in each.split()] for each in said]
        except ValueError as error:
            raise StudentError(f"target {self.name!r}: the timing program did not print times ({error})") from error
        want, counts = 2 * TURNS * PASSES, [len(each) for each in times]
        if counts != [want] * len(said):
            raise StudentError(f"target {self.name!r}: the timing program printed {counts} times, not {want} each")
        return [each[::2] for each in times], [each[1::2] for each in times]


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
        for command in (run, copy):
            try:
                shlex.split(command)
            except ValueError as error:
                raise ConfigError(f"target 'remote': {command!r} cannot be read: {error}") from error
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
        cpu = "grep -m 1 -E '^(model name|Model|Hardware)' /proc/cpuinfo || echo unknown: unknown"
        said = self._there(f"uname -srm && {self._compiler} --version && {{ {cpu}; }}").splitlines()
        model = said[-1].partition(":")[2].strip()
        return {"device": said[0], "compiler": said[1] if len(said) > 1 else "", "flags": self.flags, "cpu": model,
                "threads": "1"}  # fmt: skip

    def _build(self, folder: Path) -> Callable[[], str]:
        place = shlex.quote(self._place)
        self._there(f"rm -rf {place}")
        copy = self._commands[1].replace("{folder}", shlex.quote(str(folder))).replace("{place}", place)
        run_program(shlex.split(copy))
        build = _BUILD.format(compiler=self._compiler, flags=self.flags)
        self._there(f"cd {place} && {build}")
        return lambda: self._there(f"cd {place} && ./program")

    def _there(self, line: str) -> str:
        return run_program(shlex.split(self._commands[0].replace("{runner}", shlex.quote(line))))


def _write_pass(prefix: str, program: Program) -> str:
    """A function that returns the mean time of a decision over all rows of an episode, in nanoseconds."""
    declarations = program.declarations.replace("\n", "\n    ")
    return _PASS.format(prefix=prefix, declarations=declarations, begin=program.begin, call=program.call)
