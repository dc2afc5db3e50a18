"""C text of what costs time in integers: sums of products of stored weights and bytes, several rows at once.

A weight is one or more pieces (see `c_pack.planes`; one of 8 bits is a single piece), and so is its product: pieces are
cut out of their bytes where they lie, shifted to what they are worth, and multiplied. The same step is there three
times: for SSE2 (eight bytes of four rows), for the 16-bit multipliers of a Cortex-M4 or M7 (four bytes of two rows),
and as plain C (one byte of two rows), which also takes what the second one leaves over. Rows share the bytes of the
inputs that were made ready for one.
"""

from collections.abc import Iterable

from kdnas.export.c_machine import LOADS, MACHINE
from kdnas.export.c_pack import group_size, planes

_PLANE = """\
/* Pieces {place}, {each} in a byte, `span` bytes in each row. */
#if KDNAS_VECTORS
static inline void kdnas_step_{name}(const uint8_t *const *at, const kdnas_value *values, size_t span, size_t count,
                                   __m128i *sums)
{{
{vector_values}    for (size_t row = 0; row < 4u; row++) {{
        const __m128i bytes = kdnas_load(at[row], count);
{vector_products}    }}
}}

static inline void kdnas_plane_{name}(const uint8_t *const *at, size_t begin, const kdnas_value *values, size_t span,
                                    __m128i *sums)
{{
    const uint8_t *from[4] = {{at[0] + begin, at[1] + begin, at[2] + begin, at[3] + begin}};
    size_t left = span;
{vector_wide}    for (; left >= 8u; left -= 8u, values += 8) {{
        kdnas_step_{name}(from, values, span, 8u, sums);
        for (size_t row = 0; row < 4u; row++)
            from[row] += 8;
    }}
    if (left > 0u)
        kdnas_step_{name}(from, values, span, left, sums);
}}
#else
KDNAS_APART static void kdnas_plane_{name}(const uint8_t *first, const uint8_t *second, const kdnas_value *values,
                                         size_t span, int32_t *sums)
{{
    int32_t one = 0, two = 0;
    size_t left = span;
#if KDNAS_DSP
    uint32_t bytes = 0x00FF00FFu;
    KDNAS_HIDE(bytes);
{dsp_mask}    left &= 3u;
    for (size_t words = span / 4u; words > 0u; words--, first += 4, second += 4, values += 4) {{
        const uint32_t a = kdnas_word(first), b = kdnas_word(second);
        uint32_t value, even, odd;
        KDNAS_HIDE(words);
{dsp}    }}
#endif
    for (; left > 0u; left--, first++, second++, values++) {{
        const int32_t a = *first, b = *second;
#if KDNAS_DSP
        KDNAS_HIDE(left);
#endif
{plain}    }}
    sums[0] += one{worth};
    sums[1] += two{worth};
}}
#endif
"""

_WIDE = """\
    const __m128i even = _mm_set1_epi16(0xFF); /* 16 bytes without unpacking them: every second one, and the others */
    for (; left >= 16u; left -= 16u, values += 16) {
        const __m128i value = _mm_loadu_si128((const __m128i *)(const void *)values);
        const __m128i evens = _mm_and_si128(value, even), odds = _mm_srli_epi16(value, 8);
        for (size_t row = 0; row < 4u; row++) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)from[row]);
            const __m128i first = _mm_madd_epi16(_mm_and_si128(bytes, even), evens);
            const __m128i second = _mm_madd_epi16(_mm_srli_epi16(bytes, 8), odds);
            sums[row] = _mm_add_epi32(sums[row], _mm_add_epi32(first, second));
            from[row] += 16;
        }
    }
"""

_DSP_MASK = """\
    uint32_t piece = 0x{mask:08X}u;
    KDNAS_HIDE(piece);
"""

_SUMS = """\
/* Products of `count` rows from `row` on; weights are stored in {bits} bits each, as unsigned integers. */
static void kdnas_sums_{bits}(const uint8_t *weights, const kdnas_value *values, int32_t *sums, size_t row,
                         size_t count, size_t rows, size_t columns)
{{
    const size_t span = columns / {size}u, bytes = {group_bytes}u * span;
    const uint8_t *const from = weights + row * bytes;
#if KDNAS_VECTORS
    const uint8_t *const last = from + (count - 1u) * bytes;
    for (size_t i = 0; i < count; i += 4u) {{
        /* The last row again where there are no more. */
        const uint8_t *const first = from + i * bytes, *const second = first < last ? first + bytes : last;
        const uint8_t *const third = second < last ? second + bytes : last;
        const uint8_t *const at[4] = {{first, second, third, third < last ? third + bytes : last}};
        const __m128i zero = _mm_setzero_si128();
        __m128i parts[4] = {{zero, zero, zero, zero}};
{vector_planes}        const __m128i four = kdnas_across(parts[0], parts[1], parts[2], parts[3]);
        _mm_storeu_si128((__m128i *)(void *)(sums + i), four);
    }}
#else
    for (size_t i = 0; i < count; i += 2u) {{
        const uint8_t *const first = from + i * bytes, *const second = i + 1u < count ? first + bytes : first;
        sums[i] = sums[i + 1u] = 0;
{planes}    }}
#endif
{rest}}}
"""

_REST = """\
    const uint8_t *const rest = weights + rows * bytes;
    const size_t left = columns % {size}u;
    for (size_t i = 0; i < count; i++) {{
        size_t bit = (row + i) * left * {bits}u;
        for (size_t j = 0; j < left; j++, bit += {bits}u) {{
            const unsigned start = (unsigned)(bit & 7u);
            unsigned piece = (unsigned)rest[bit >> 3] >> start;
            if (start > {straddle}u)
                piece |= (unsigned)rest[(bit >> 3) + 1u] << (8u - start);
            sums[i] += (int32_t)(piece & {mask}u) * values[{size}u * span + j];
        }}
    }}
"""


def dots(widths: Iterable[int]) -> list[str]:
    """What integer layers with weights of these bits need to multiply."""
    ordered = sorted(set(widths))
    pieces = sorted({piece for bits in ordered for piece in _planes(bits)})
    return [MACHINE, LOADS, *(_plane(*piece) for piece in pieces), *(_sums(bits) for bits in ordered)]


def _planes(bits: int) -> list[tuple[int, int]]:
    return [(0, 8)] if bits == 8 else planes(bits)


def _plane(start: int, width: int) -> str:
    """A step for pieces of `width` bits that are worth 2^start.

    Example: of (4, 2), which 6-bit weights have, the second piece of a byte, bits 2 and 3, is (byte << 2) & 0x30.
    """
    each, mask = 8 // width, ((1 << width) - 1) << start
    vector_values, vector_products, plain, before = [], [], [], ""
    for index in range(each):
        shift, at = index * width - start, f"values{_offset(index)}"
        vector_values.append(f"    const __m128i values_{index} = kdnas_load({at}, count);\n")
        piece = _vector_cut(shift, mask if width < 8 else 0)
        vector_products.append(
            f"        sums[row] = _mm_add_epi32(sums[row], _mm_madd_epi16({piece}, values_{index}));\n"
        )
        # Bytes that are shifted only still hold the pieces above, each 2^width times too large: those are multiplied
        # by so much less, and nothing has to be masked.
        value = f"values[{_offset(index)[3:]}]" if index else "*values"
        less = f"{value} - ({before} << {width})" if index else value
        before = value
        plain.append(f"        const int32_t value_{index} = {less};\n")
        plain += [
            f"        {row} += {f'({word} >> {index * width})' if index else word} * value_{index};\n"
            for word, row in (("a", "one"), ("b", "two"))
        ]
    return _PLANE.format(
        name=f"{start}_{width}",
        place=f"of {width} bits that are worth 2^{start} and more" if start else f"of {width} bits",
        each=each,
        vector_values="".join(vector_values) + ("" if each > 1 else "    (void)span;\n"),
        vector_products="".join(vector_products),
        vector_wide=_WIDE if width == 8 else "",
        dsp_mask="" if width == 8 else _DSP_MASK.format(mask=(mask >> start) * 0x10001),
        dsp=_dsp_word(start, width),
        worth=f" * {1 << start}" if start else "",
        plain="".join(plain),
    )


def _dsp_word(start: int, width: int) -> str:
    """Four bytes of two rows, times those of the inputs of each of their pieces."""
    held, lines = "bytes" if width == 8 else "piece", []
    for index in range(8 // width):
        lines += [
            f"value = kdnas_word(values{_offset(index)});",
            "even = value & bytes;",
            "odd = (value >> 8) & bytes;",
        ]
        for word, row in (("a", "one"), ("b", "two")):
            for half, beyond in (("even", 0), ("odd", 8)):
                lines.append(f"{row} = kdnas_two({_cut(word, index * width + beyond, held)}, {half}, {row});")
    return "".join(f"        {line}\n" for line in lines)


def _sums(bits: int) -> str:
    size = group_size(bits)
    calls, vector_calls, begin = [], [], 0  # in spans
    for start, width in _planes(bits):
        for run in range(0, size, 8 // width):
            name, values, at = f"kdnas_plane_{start}_{width}", f"values{_offset(run)}", _offset(begin)
            calls.append(f"        {name}(first{at}, second{at}, {values}, span, sums + i);\n")
            vector_calls.append(f"        {name}(at, {at[3:] or '0u'}, {values}, span, parts);\n")
            begin += 1
    rest = _REST.format(size=size, bits=bits, straddle=8 - bits, mask=(1 << bits) - 1)
    return _SUMS.format(
        bits=bits,
        size=size,
        group_bytes=size * bits // 8,
        planes="".join(calls),
        vector_planes="".join(vector_calls),
        rest="    (void)rows;\n" if bits == 8 else rest,
    )


def _cut(word: str, shift: int, mask: str) -> str:
    moved = word if shift == 0 else f"({word} {'>>' if shift > 0 else '<<'} {abs(shift)})"
    return f"{moved} & {mask}"


def _vector_cut(shift: int, mask: int) -> str:
    moved = "bytes" if shift == 0 else f"_mm_{'srli' if shift > 0 else 'slli'}_epi16(bytes, {abs(shift)})"
    return f"_mm_and_si128({moved}, _mm_set1_epi16({mask}))" if mask else moved


def _offset(spans: int) -> str:
    """What comes on top of a place, of an entry that stands so many spans further on."""
    return {0: "", 1: " + span"}.get(spans, f" + {spans}u * span")
