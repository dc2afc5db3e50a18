"""Activations that are shifted: every exponent, at the ends of 32 bits and where halves go to the even integer."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from kdnas.export.c_kernels import kernels
from kdnas.export.c_library import find_compiler
from kdnas.students.integer import IntegerLayer

from .test_c import SANITIZED, STRICT, needs_cc

PROGRAM = """
int main(void)
{{
    int32_t asked[3];
    while (fread(asked, 4, 3, stdin) == 3) {{
        const kdnas_value into = kdnas_{kind}_shift_of(asked[0], asked[1], (uint32_t)asked[2]);
        fwrite(&into, 1, 1, stdout);
    }}
    return 0;
}}
"""


@needs_cc
@pytest.mark.parametrize("kind", ["relu", "softsign"])
def test_shifts_are_the_reference_at_every_exponent(kind: str, tmp_path: Path) -> None:
    headers = "".join(f"#include <{name}.h>\n" for name in ("stddef", "stdint", "stdio", "string"))
    text = headers + kernels([(f"{kind}_shift", 8)], (), columns=8, discrete=False) + PROGRAM.format(kind=kind)
    (tmp_path / "shifts.c").write_text(text)
    command = [find_compiler() or "cc", *STRICT, *SANITIZED, "-Wno-unused-function", "shifts.c", "-o", "shifts"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    generator, exponents = np.random.default_rng(0), np.arange(-32, 32)
    powers = 1 << np.arange(31)
    some = generator.integers(0, 2**31, 500) >> generator.integers(0, 31, 500)
    # Halves are odd multiples of powers of two.
    sizes = np.concatenate([[0], powers, powers - 1, (powers[:-2] * 3), (powers[:-3] * 5), (powers[:-3] * 7), some])
    sums = np.unique(np.concatenate([sizes, -sizes, [-(2**31), 2**31 - 1]]))
    rows = np.tile(sums[:, None], (1, len(exponents))).astype(np.int32)
    for bits in (2, 4, 8):
        limit = 2 ** (bits - 1) - 1 if kind == "softsign" else 2**bits - 1
        asked = np.stack([rows, np.broadcast_to(exponents, rows.shape), np.full(rows.shape, limit)], -1)
        run = subprocess.run(
            [tmp_path / "shifts"], input=asked.astype("<i4").tobytes(), capture_output=True, check=True
        )
        layer = IntegerLayer(
            weights=np.zeros((len(exponents), 1), np.int8),
            bits=8,
            biases=np.zeros(len(exponents), np.int32),
            exponents=exponents.astype(np.int8),
            limit=limit,
            softsign=kind == "softsign",
        )
        lowest = -1 - limit if kind == "softsign" else 0
        said = np.frombuffer(run.stdout, np.uint8).reshape(rows.shape)
        assert (said == layer.activate(rows) - lowest).all()
