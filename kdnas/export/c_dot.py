"""C text of what costs time in integers: sums of products of stored weights and bytes, of a group of four rows at once.

`c_pack` says how weights are stored. A step is there three times, and each says the same: for SSE2, which multiplies
by inputs that were made ready for all groups; for the 16-bit multipliers of a Cortex-M4 or M7, by four inputs; and as
plain C, by one. Groups of fewer rows are a vector too, and otherwise taken row by row.
"""

from collections.abc import Iterable, Sequence

from kdnas.export.c_machine import LOADS, MACHINE, inputs_ready
from kdnas.export.c_pack import unit_columns
from kdnas.export.c_quad import quad

_UNITS = """\
#if !KDNAS_VECTORS
/* Products of a group of four rows, `bytes` each, with values. */
KDNAS_APART static void kdnas_group_{bits}(const uint8_t *at, const kdnas_value *value, size_t bytes, int32_t *sums)
{{
    int32_t one = 0, two = 0, three = 0, four = 0;
#if KDNAS_DSP
{held}#endif
    for (size_t words = bytes / 4u; words > 0u; words--) {{
        KDNAS_HIDE(words);
#if KDNAS_DSP
        uint32_t word, even, odd;
{dsp}        at += 16;
        value += {columns};
        KDNAS_THEN(at, value);
#else
        for (size_t j = 4; j > 0u; j--, at++, value++) {{
            KDNAS_HIDE(j);
{plain}        }}
        at += 12;
{skip}#endif
    }}
    for (bytes %= 4u; bytes > 0u; bytes--, at += 4, value += {each}) {{
        KDNAS_HIDE(bytes);
{ones}    }}
    sums[0] = one;
    sums[1] = two;
    sums[2] = three;
    sums[3] = four;
}}

/* Products of one row of a group of `count`. */
KDNAS_APART static int32_t kdnas_row_{bits}(const uint8_t *group, size_t row, size_t count, const kdnas_value *value,
                                       size_t bytes)
{{
    int32_t sum = 0;
    while (bytes > 0u) {{
        const size_t size = bytes >= 4u ? 4u : 1u;
        const uint8_t *at = group + size * row;
        group += size * count;
        bytes -= size;
        for (size_t j = size; j > 0u; j--, value++) {{
            const int32_t a = *at++;
            KDNAS_HIDE(j);
{single}        }}
{skip_row}    }}
    return sum;
}}

static inline void kdnas_rows_{bits}(const uint8_t *group, size_t count, const kdnas_value *values, size_t bytes,
                                int32_t *sums)
{{
    if (count == 4u)
        kdnas_group_{bits}(group, values, bytes, sums);
    else
        for (size_t row = 0; row < count; row++)
            sums[row] = kdnas_row_{bits}(group, row, count, values, bytes);
}}
#endif
"""

_STREAMS = """\
#if !KDNAS_VECTORS
/* Products of a group of `count` rows, `bytes` each, with values. */
KDNAS_APART static void kdnas_rows_{bits}(const uint8_t *at, size_t count, const kdnas_value *value, size_t bytes,
                                     int32_t *sums)
{{
#if KDNAS_DSP
{held}#endif
    for (size_t row = 0; row < count; row++)
        sums[row] = 0;
    for (; bytes > 0u; bytes -= {bits}u) {{
        KDNAS_HIDE(bytes);
        for (size_t half = 0; half < 2u; half++, value += 4) {{
#if KDNAS_DSP
            const uint32_t word = kdnas_word(value), even = word & bytes_of, odd = (word >> 8) & bytes_of;
#else
            const int32_t first = value[0], second = value[1], third = value[2], fourth = value[3];
#endif
            for (size_t row = 0; row < count; row++) {{
                const uint32_t four = kdnas_take_{bits}(at + {bits}u * row, half);
#if KDNAS_DSP
                const uint32_t pairs = kdnas_pairs(four, {apart}u);
                sums[row] = kdnas_two((pairs >> {bits}) & pieces, odd, kdnas_two(pairs & pieces, even, sums[row]));
#else
                sums[row] += (int32_t)(four & {mask}u) * first + (int32_t)(four >> {bits} & {mask}u) * second
                    + (int32_t)(four >> {twice} & {mask}u) * third + (int32_t)(four >> {thrice}) * fourth;
#endif
            }}
        }}
        at += {bits}u * count;
    }}
}}
#endif
"""

_TAKE = """\
/* One half of eight weights of {bits} bits. */
static inline uint32_t kdnas_take_{bits}(const uint8_t *at, size_t half)
{{
#if KDNAS_VECTORS || KDNAS_DSP
{wide}#else
{plain}#endif
}}
"""

_OPEN = """\
static inline void kdnas_open_{bits}(kdnas_inputs *inputs, const kdnas_value *values, size_t columns)
{{
    inputs->values = values;
#if KDNAS_VECTORS
    kdnas_make_ready(values, {bytes}, {each}u, inputs->ready);
#else
    (void)columns;
#endif
}}
"""

_SUMS = """\
/* Products of `count` rows from `row` on, where a group begins; weights are unsigned integers of {bits} bits. */
static void kdnas_sums_{bits}(const uint8_t *weights, const kdnas_inputs *inputs, int32_t *sums, size_t row,
                         size_t count, size_t rows, size_t columns)
{{
    const size_t bytes = {bytes};
    const uint8_t *const from = weights + row * bytes;
#if KDNAS_VECTORS
    for (size_t i = 0; i < count; i += 4u) {{
        const uint8_t *const at = from + i * bytes;
        const __m128i four = count - i < 4u ? kdnas_quad_{bits}(at, count - i, inputs->ready, bytes)
                                            : kdnas_quad_{bits}(at, 4u, inputs->ready, bytes);
        _mm_storeu_si128((__m128i *)(void *)(sums + i), four);
    }}
#else
    kdnas_rows_{bits}(from, count, inputs->values, bytes, sums);
#endif
{rest}}}
"""

_REST = """\
    const uint8_t *const rest = weights + rows * bytes;
    const size_t left = columns % {unit}u;
    for (size_t i = 0; i < count; i++) {{
        size_t bit = (row + i) * left * {bits}u;
        for (size_t j = columns - left; j < columns; j++, bit += {bits}u) {{
            const unsigned start = (unsigned)(bit & 7u);
            unsigned piece = (unsigned)rest[bit >> 3] >> start;
{straddle}            sums[i] += (int32_t)(piece & {mask}u) * inputs->values[j];
        }}
    }}
"""

_STRADDLE = """\
            if (start > {most}u)
                piece |= (unsigned)rest[(bit >> 3) + 1u] << (8u - start);
"""


def dots(widths: Iterable[int], columns: int) -> list[str]:
    """What integer layers with weights of these bits, and of so many columns at most, need to multiply."""
    ordered = sorted(set(widths))
    return [MACHINE, LOADS, inputs_ready(columns), *(text for bits in ordered for text in _layer_sums(bits))]


def _layer_sums(bits: int) -> list[str]:
    columns, whole = unit_columns(bits), 8 % bits == 0  # weights fill bytes
    row = f"columns / {columns}u" + ("" if whole else f" * {bits}u")
    # Eight weights of a stream are two units of four bytes where they are ready.
    ready, each = (row, columns) if whole else ("columns / 8u * 8u", 1)
    rest = _REST.format(
        bits=bits, unit=columns, mask=(1 << bits) - 1, straddle="" if whole else _STRADDLE.format(most=8 - bits)
    )
    return [
        *([_units(bits)] if whole else [_take(bits), _streams(bits)]),
        quad(bits),
        _OPEN.format(bits=bits, bytes=ready, each=each),
        _SUMS.format(bits=bits, bytes=row, rest=rest),
    ]


def _held(bits: int) -> str:
    """Masks that stay in registers: of every second byte, and of a piece in each half of a word."""
    masks = {"bytes_of": 0x00FF00FF} | ({} if bits == 8 else {"pieces": ((1 << bits) - 1) * 0x10001})
    return "".join(f"    uint32_t {name} = 0x{mask:08X}u;\n    KDNAS_HIDE({name});\n" for name, mask in masks.items())


_SUMS_OF_ROWS = ("one", "two", "three", "four")


def _units(bits: int) -> str:
    each = 8 // bits
    dsp = []
    for index in range(each):
        dsp += [
            f"word = kdnas_word(value{_beyond(4 * index)});",
            "even = word & bytes_of;",
            "odd = (word >> 8) & bytes_of;",
        ]
        for row, into in enumerate(_SUMS_OF_ROWS):
            dsp.append(f"word = kdnas_word(at{_beyond(4 * row)});")
            for half, beyond in (("even", 0), ("odd", 8)):
                dsp.append(f"{into} = kdnas_two({_cut('word', index * bits + beyond, bits)}, {half}, {into});")
            dsp.append(f"KDNAS_THEN(at, {into});")
    return _UNITS.format(
        bits=bits,
        held=_held(bits),
        columns=4 * each,
        each=each,
        dsp=_lines(2, dsp),
        plain=_lines(3, _plain(bits, "4", [f"at[{4 * row}]" if row else "*at" for row in range(4)])),
        ones=_lines(2, _plain(bits, "1", [f"at[{row}]" if row else "*at" for row in range(4)])),
        skip=f"        value += {4 * each - 4};\n" if each > 1 else "",
        single=_lines(3, _plain(bits, "size", [])),
        skip_row=f"        value += {each - 1}u * size;\n" if each > 1 else "",
    )


def _plain(bits: int, size: str, rows: Sequence[str]) -> list[str]:
    """A byte of each of four rows, or that of one row, `a`, in units of so many bytes.

    Bytes that are shifted only still hold the pieces above, each 2^bits times too large: those are multiplied by so
    much less, and nothing has to be masked.
    """
    lines, before = [], ""
    for index in range(8 // bits):
        own = f"value[{index} * {size}]" if index else "*value"
        lines.append(f"const int32_t value_{index} = {f'{own} - ({before} << {bits})' if index else own};")
        before = own
        for row, into in zip(rows or ["a"], _SUMS_OF_ROWS if rows else ["sum"], strict=True):
            lines.append(f"{into} += {f'({row} >> {index * bits})' if index else row} * value_{index};")
    return lines


def _streams(bits: int) -> str:
    mask = (1 << bits) - 1
    return _STREAMS.format(
        bits=bits, held=_held(bits), apart=16 - 2 * bits, mask=mask, twice=2 * bits, thrice=3 * bits
    )


def _take(bits: int) -> str:
    """Of 3 bits, for one, halves are bits 0 to 11 and 12 to 23 of three bytes."""
    width, mask = 4 * bits, (1 << 4 * bits) - 1
    plain = []
    for half, lead in enumerate(("if (half == 0u)\n        return", "return")):
        start = half * width
        begin, end = start // 8, (start + width + 7) // 8
        terms = [_moved(f"(uint32_t)at[{byte}]", 8 * byte - start) for byte in range(begin, end)]
        plain.append(f"{lead} ({' | '.join(terms)}) & 0x{mask:X}u;")
    low, high = {
        3: ("kdnas_short(at)", "kdnas_short(at + 1) >> 4"),
        5: ("kdnas_word(at)", "kdnas_word(at + 1) >> 12"),
        6: ("kdnas_word(at)", "kdnas_word(at + 2) >> 8"),
        7: ("kdnas_word(at)", "kdnas_word(at + 3) >> 4"),
    }[bits]
    wide = [f"return half == 0u ? {low} & 0x{mask:X}u : {high};"]
    return _TAKE.format(bits=bits, wide=_lines(1, wide), plain=_lines(1, plain))


def _cut(word: str, shift: int, bits: int) -> str:
    return f"{_moved(word, -shift)} & {'bytes_of' if bits == 8 else 'pieces'}"


def _moved(word: str, left: int) -> str:
    return word if left == 0 else f"({word} {'<<' if left > 0 else '>>'} {abs(left)})"


def _lines(depth: int, lines: Iterable[str]) -> str:
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)


def _beyond(count: int) -> str:
    return f" + {count}" if count else ""
