"""Cortex-M microcontrollers: compiled by GCC, counted by QEMU, without a board."""

import math
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from kdnas.errors import ConfigError, StudentError
from kdnas.export.scratch import scratch_folder
from kdnas.policies.arrays import Floats
from kdnas.profiling.target import Measurement
from kdnas.profiling.targets.compiled import CompiledTarget, run_program
from kdnas.profiling.targets.footprint import flash_bytes, stack_bytes
from kdnas.profiling.targets.program import Program, write_program
from kdnas.profiling.timing import summarise
from kdnas.students.student import Student
from kdnas.units import format_quantity, parse_quantity

GCC, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"
INSTALL = "sudo apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"

CALLS = 8
"""Decisions on each row between two readings of the timer, whose ticks are 40 instructions apart."""

TICK_INSTRUCTIONS = 40
"""The timer runs at 25 MHz, and QEMU counts every instruction as a nanosecond."""

PAINTED_BYTES = 1 << 16
"""Of the stack, below the decision: what is no longer painted afterwards was used."""

_COUNTING = ("-nographic", "-semihosting-config", "enable=on,target=native", "-icount", "shift=0")

_SAID = re.compile(r"^([ts])([0-9a-f]{8})$", re.MULTILINE)
"""A count of the timer, or the bytes of the deepest stack."""

_TRACE = re.compile(r"^#ifdef (\w+_TRACE)$", re.MULTILINE)

_LINKER_SCRIPT = """\
MEMORY { FLASH : ORIGIN = 0x00000000, LENGTH = 4M
         RAM : ORIGIN = 0x20000000, LENGTH = 4M }
ENTRY(reset)
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > FLASH
  .data : { *(.data*) } > RAM AT > RAM
  .bss : { *(.bss*) *(COMMON) } > RAM
  end = .;
  /DISCARD/ : { *(.ARM.exidx*) *(.comment) *(.ARM.attributes) }
}
"""

_START = """\
#include <stdint.h>
#include <stdio.h>

int main(void);
void _exit(int status);
void initialise_monitor_handles(void);
void reset(void);
__attribute__((section(".vectors"), used)) static void *const vectors[2] = {(void *)0x20400000u, (void *)reset};

void reset(void)
{
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* the floating-point unit */
    __asm__ volatile("dsb\\n\\tisb");
#endif
    initialise_monitor_handles();
    const int status = main();
    fflush(stdout);
    _exit(status);
}
"""

_MAIN = """\
#include <stddef.h>
#include <stdint.h>

#include "team.h"
#include "rows.h"

#define TIMER_CONTROL (*(volatile uint32_t *)0xE000E010u)
#define TIMER_RELOAD (*(volatile uint32_t *)0xE000E014u)
#define TIMER_VALUE (*(volatile uint32_t *)0xE000E018u)
#define PAINT 0xA5A5A5A5u

{declarations}

void reset(void);
__attribute__((section(".vectors"), used)) static void *const vectors[2] = {{(void *)0x20400000u, (void *)reset}};

static void host(uint32_t operation, const void *argument)
{{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}}

static void say(char what, uint32_t number)
{{
    char line[12];
    line[0] = what;
    for (int i = 0; i < 8; i++)
        line[1 + i] = "0123456789abcdef"[(number >> (28 - 4 * i)) & 15u];
    line[9] = '\\n';
    line[10] = 0;
    host(0x04u, line);
}}

__attribute__((noinline)) static void decide(int row)
{{
    (void){call};
}}

__attribute__((noinline)) static uint32_t used_stack(int row)
{{
    volatile uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (uint32_t i = 1; i <= {painted}u / 4u; i++)
        top[-(int32_t)i] = PAINT;
    decide(row);
    uint32_t deepest = 0;
    for (uint32_t i = 1; i <= {painted}u / 4u; i++)
        if (top[-(int32_t)i] != PAINT)
            deepest = 4u * i;
    return deepest;
}}

void reset(void)
{{
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* the floating-point unit */
    __asm__ volatile("dsb\\n\\tisb");
#endif
    TIMER_RELOAD = 0xFFFFFFu;
    TIMER_VALUE = 0;
    TIMER_CONTROL = 5u;
    {begin}
    for (int row = 0; row < ROWS; row++) {{
        const uint32_t begun = TIMER_VALUE;
        for (int i = 0; i < {calls}; i++)
            decide(row);
        say('t', (begun - TIMER_VALUE) & 0xFFFFFFu);
        say('s', used_stack(row));
    }}
    static const uint32_t ended[2] = {{0x20026u, 0u}};
    host(0x18u, (const void *)(uintptr_t)ended[0]);
    for (;;) {{
    }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Core:
    """A kind of Cortex-M, and how it is compiled for and emulated."""

    name: str
    flags: tuple[str, ...]
    machine: str
    """Of QEMU, with this core or one that runs its instructions, each at a nanosecond."""
    clock_hz: float
    """A usual one."""


M0PLUS = Core(
    name="cortex-m0plus",
    flags=("-mcpu=cortex-m0plus", "-mfloat-abi=soft"),
    machine="mps2-an385",  # a Cortex-M3, which runs all instructions of an M0+; no machine with one has the timer
    clock_hz=48e6,
)
M4 = Core(
    name="cortex-m4",
    flags=("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    machine="mps2-an386",
    clock_hz=168e6,
)
M7 = Core(
    name="cortex-m7",
    flags=("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"),
    machine="mps2-an500",
    clock_hz=216e6,
)


class CortexTarget(CompiledTarget):
    """A Cortex-M at a clock: see `Target`.

    - time: instructions of a decision, which QEMU counts exactly, as if each took one cycle. Percentiles are over rows.
    - flash: sections of the student's own object, and of the compiler's runtime functions in the program, by the linker
      map; start-up code and the C library are left out.
    - ram: the state between decisions, and the deepest stack, which holds all buffers: that of GCC's call graph, or the
      deepest that a run has used, where functions of the runtime go deeper.

    Args:
        core: what is compiled for.
        clock: for example "168MHz".
        optimise: GCC's option.
    """

    metrics = frozenset({"latency", "flash", "ram"})
    note = (
        "Times are instructions that QEMU counts, at one instruction a cycle; instructions are not cycles. Flash is "
        "the student's own code and tables with the compiler's runtime functions, RAM its state and deepest stack."
    )

    def __init__(self, core: Core, *, clock: str | None = None, optimise: str = "-O3") -> None:
        self.core, self.optimise = core, optimise
        self.clock_hz = core.clock_hz if clock is None else parse_quantity(clock, "frequency").value
        if not 0 < self.clock_hz < math.inf:
            raise ConfigError(f"target {core.name!r}: the clock must be positive, but got {clock!r}")
        shown = format_quantity(self.clock_hz, "frequency").replace(" ", "")
        self.name = f"{core.name}@{shown}"

    def missing(self) -> str:
        lacking = [program for program in (GCC, QEMU) if shutil.which(program) is None]
        return f"{' and '.join(lacking)} must be installed: {INSTALL}" if lacking else ""

    def fingerprint(self) -> dict[str, str]:
        versions = [run_program([program, "--version"]).splitlines()[0] for program in (GCC, QEMU)]
        return {"core": self.core.name, "compiler": versions[0], "counter": versions[1], "flags": self.optimise}

    def run(self, student: Student, views: Floats | None) -> Measurement:
        with scratch_folder() as folder:
            program = write_program(student, folder, views)
            self._build(folder, program)
            emulate = [QEMU, "-machine", self.core.machine, *_COUNTING, "-kernel", str(folder / "program.elf")]
            said = run_program(emulate, errors=True)
            numbers: dict[str, list[int]] = {"t": [], "s": []}
            for what, number in _SAID.findall(said):
                numbers[what].append(int(number, 16))
            if not numbers["t"]:
                raise StudentError(f"target {self.name!r}: {QEMU} ran the program, but it counted nothing")
            cycle_ns = TICK_INSTRUCTIONS / CALLS * 1e9 / self.clock_hz
            stack = max(stack_bytes((folder / "team.ci").read_text(), "kdnas_agent_step"), *numbers["s"])
            return replace(
                summarise([[ticks * cycle_ns for ticks in numbers["t"]]]),
                flash_bytes=flash_bytes((folder / "program.map").read_text(), ("team.o", "libgcc.a")),
                ram_bytes=stack + program.state_bytes,
            )

    def run_tests(self, exported: Path) -> str:
        """Run the recorded observations of an exported folder (`test.c`) on the emulated core; what the program says.

        Raises:
            StudentError: it does not compile, or finds wrong rows.
        """
        with scratch_folder() as folder:
            for name in ("team.h", "team.c", "test.c", "vectors.h"):
                shutil.copyfile(exported / name, folder / name)
            (folder / "start.c").write_text(_START, encoding="ascii")
            (folder / "program.ld").write_text(_LINKER_SCRIPT, encoding="ascii")
            macro = "-D" + _TRACE.search((folder / "team.h").read_text()).group(1)  # type: ignore[union-attr]
            linking = ("-nostartfiles", "--specs=rdimon.specs", "-T", "program.ld")
            run_program([*self._gcc, macro, *linking, "start.c", "test.c", "team.c", "-lm", "-o", "tests.elf"], folder)
            emulate = [QEMU, "-machine", self.core.machine, *_COUNTING, "-kernel", str(folder / "tests.elf")]
            return run_program(emulate, errors=True).strip()

    @property
    def _gcc(self) -> list[str]:
        return [GCC, *self.core.flags, "-mthumb", "-std=c99", self.optimise, "-ffunction-sections", "-fdata-sections"]

    def _build(self, folder: Path, program: Program) -> None:
        main = _MAIN.format(
            declarations=program.declarations,
            begin=program.begin,
            call=program.call,
            calls=CALLS,
            painted=PAINTED_BYTES,
        )
        (folder / "main.c").write_text(main, encoding="ascii")
        (folder / "program.ld").write_text(_LINKER_SCRIPT, encoding="ascii")
        run_program([*self._gcc, "-fcallgraph-info=su", "-c", "team.c", "-o", "team.o"], folder)
        run_program([*self._gcc, "-c", "main.c", "-o", "main.o"], folder)
        run_program([*self._gcc, "-nostartfiles", "-T", "program.ld", "main.o", "team.o", "-lm", "-Wl,--gc-sections",
              "-Wl,-Map=program.map", "-o", "program.elf"], folder)  # fmt: skip


def make_m0plus(**arguments: str) -> CortexTarget:
    """`cortex-m0plus`."""
    return CortexTarget(M0PLUS, **arguments)


def make_m4(**arguments: str) -> CortexTarget:
    """`cortex-m4`."""
    return CortexTarget(M4, **arguments)


def make_m7(**arguments: str) -> CortexTarget:
    """`cortex-m7`."""
    return CortexTarget(M7, **arguments)
