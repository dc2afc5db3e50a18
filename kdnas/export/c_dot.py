"""C text of what costs time in integers: sums of products of stored weights and bytes, several rows at once.

A weight is one or more pieces (see `c_pack.planes`; one of 8 bits is a single piece), and so is its product: pieces are
cut out of their bytes where they lie, shifted to what they are worth, and multiplied. The same step is there three
times: for SSE2 (eight bytes of four rows), for the 16-bit multipliers of a Cortex-M4 or M7 (four bytes of two rows),
and as plain C (one byte of two rows), which also takes what the second one leaves over. Rows share the bytes of the
inputs that were made ready for one.
"""

from collections.abc import Iterable

from kdnas.export.c_pack import group_size, planes

_MACHINE = """\
/* 0 for the plain loops, which every machine can take. */
#ifndef KDNAS_VECTORS
#if defined(__SSE2__)
#define KDNAS_VECTORS 1
#else
#define KDNAS_VECTORS 0
#endif
#endif
#ifndef KDNAS_DSP
#if defined(__ARM_FEATURE_SIMD32)
#define KDNAS_DSP 1
#else
#define KDNAS_DSP 0
#endif
#endif

#if KDNAS_VECTORS
#include <emmintrin.h>
#define KDNAS_ROWS 4u /* rows that are multiplied at once */
#else
#if KDNAS_DSP
#include <arm_acle.h>
#endif
#define KDNAS_ROWS 2u
#endif
#define KDNAS_TILE 16u /* rows whose sums are held at once */

/* An activation in memory. */
typedef uint8_t kdnas_value;
"""

_LOADS = """\
#if KDNAS_VECTORS
/* `count` bytes, 1 to 7, and zeros behind them. */
static inline uint64_t kdnas_few(const uint8_t *at, size_t count)
{
    uint64_t bytes = 0;
    if (count & 4u) {
        uint32_t four;
        memcpy(&four, at + (count & 3u), 4);
        bytes = four;
    }
    if (count & 2u) {
        uint16_t two;
        memcpy(&two, at + (count & 1u), 2);
        bytes = bytes << 16 | two;
    }
    return count & 1u ? bytes << 8 | at[0] : bytes;
}

/* `count` bytes, 1 to 16, and zeros behind them. */
static inline __m128i kdnas_load(const uint8_t *at, size_t count)
{
    if (count == 16u)
        return _mm_loadu_si128((const __m128i *)(const void *)at);
    if (count < 8u)
        return _mm_set_epi64x(0, (int64_t)kdnas_few(at, count));
    const __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)at);
    return count == 8u ? low
                       : _mm_unpacklo_epi64(low, _mm_set_epi64x(0, (int64_t)kdnas_few(at + 8, count - 8u)));
}

/* The sums of four vectors. */
static inline __m128i kdnas_across(__m128i a, __m128i b, __m128i c, __m128i d)
{
    const __m128i ab = _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    const __m128i cd = _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
    return _mm_add_epi32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
}
#elif KDNAS_DSP
/* A constant that stays in a register, where instructions can combine it with a shifted number. */
#if defined(__GNUC__)
#define KDNAS_HELD(name, number) \\
    uint32_t name = number;      \\
    __asm__("" : "+r"(name))
#else
#define KDNAS_HELD(name, number) const uint32_t name = number
#endif

static inline uint32_t kdnas_word(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

/* Two products of 16-bit numbers on top of a sum. */
static inline int32_t kdnas_two(uint32_t weights, uint32_t values, int32_t sum)
{
    return __smlad((int16x2_t)weights, (int16x2_t)values, sum);
}
#endif

static inline int32_t kdnas_total(const kdnas_value *values, size_t count)
{
    int32_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += values[i];
    return total;
}
"""

_PLANE = """\
/* Pieces {place}, {each} in a byte, `span` bytes in each row. */
#if KDNAS_VECTORS
static inline void kdnas_step_{name}(const uint8_t *const *at, const kdnas_value *values, size_t span, size_t j,
                                   size_t count, __m128i *sums)
{{
    const __m128i even = _mm_set1_epi16(0xFF){pieces};
{vector_values}    for (size_t row = 0; row < KDNAS_ROWS; row++) {{
        const __m128i bytes = kdnas_load(at[row] + j, count);
        __m128i sum = sums[row];
{vector_products}        sums[row] = sum;
    }}
}}

static inline void kdnas_plane_{name}(const uint8_t *const *at, size_t begin, const kdnas_value *values, size_t span,
                                    __m128i *sums)
{{
    const uint8_t *const from[KDNAS_ROWS] = {{at[0] + begin, at[1] + begin, at[2] + begin, at[3] + begin}};
    size_t j = 0;
    for (; j + 16u <= span; j += 16u)
        kdnas_step_{name}(from, values, span, j, 16u, sums);
    if (j < span)
        kdnas_step_{name}(from, values, span, j, span - j, sums);
}}
#else
static inline void kdnas_plane_{name}(const uint8_t *const *at, size_t begin, const kdnas_value *values, size_t span,
                                    int32_t *sums)
{{
    const uint8_t *first = at[0] + begin, *second = at[1] + begin;
    int32_t one = sums[0], two = sums[1];
    size_t left = span;
#if KDNAS_DSP
    KDNAS_HELD(bytes, 0x00FF00FFu);
{dsp_mask}    for (; left >= 4u; left -= 4u, first += 4, second += 4, values += 4) {{
        const uint32_t a = kdnas_word(first), b = kdnas_word(second);
        uint32_t value, even, odd;
{dsp}    }}
#endif
    for (; left > 0u; left--, first++, second++, values++) {{
        const unsigned a = *first, b = *second;
        int32_t value;
{plain}    }}
    sums[0] = one;
    sums[1] = two;
}}
#endif
"""

_SUMS = """\
/* Products of `count` rows from `row` on; weights are stored in {bits} bits each, as unsigned integers. */
static void kdnas_sums_{bits}(const uint8_t *weights, const kdnas_value *values, int32_t *sums, size_t row,
                         size_t count, size_t rows, size_t columns)
{{
    const size_t span = columns / {size}u, bytes = {group_bytes}u * span;
    for (size_t i = 0; i < count; i += KDNAS_ROWS) {{
        const uint8_t *at[KDNAS_ROWS];
        for (size_t j = 0; j < KDNAS_ROWS; j++) /* the last row again where there are no more */
            at[j] = weights + (row + (i + j < count ? i + j : count - 1u)) * bytes;
#if KDNAS_VECTORS
        __m128i parts[KDNAS_ROWS] = {{_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128(),
                                     _mm_setzero_si128()}};
#else
        int32_t *const parts = sums + i;
        parts[0] = parts[1] = 0;
#endif
{planes}#if KDNAS_VECTORS
        _mm_storeu_si128((__m128i *)(void *)(sums + i), kdnas_across(parts[0], parts[1], parts[2], parts[3]));
#endif
    }}
{rest}}}
"""

_REST = """\
    const uint8_t *const rest = weights + rows * bytes;
    const size_t taken = {size}u * span;
    for (size_t i = 0; i < count && taken < columns; i++) {{
        size_t bit = (row + i) * (columns - taken) * {bits}u;
        for (size_t j = taken; j < columns; j++, bit += {bits}u) {{
            const unsigned start = (unsigned)(bit & 7u);
            unsigned piece = (unsigned)rest[bit >> 3] >> start;
            if (start > {straddle}u)
                piece |= (unsigned)rest[(bit >> 3) + 1u] << (8u - start);
            sums[i] += (int32_t)(piece & {mask}u) * values[j];
        }}
    }}
"""


def dots(widths: Iterable[int]) -> list[str]:
    """What integer layers with weights of these bits need to multiply."""
    ordered = sorted(set(widths))
    pieces = sorted({piece for bits in ordered for piece in _planes(bits)})
    return [_MACHINE, _LOADS, *(_plane(*piece) for piece in pieces), *(_sums(bits) for bits in ordered)]


def _planes(bits: int) -> list[tuple[int, int]]:
    return [(0, 8)] if bits == 8 else planes(bits)


def _plane(start: int, width: int) -> str:
    """A step for pieces of `width` bits that are worth 2^start.

    Example: of (4, 2), which 6-bit weights have, the second piece of a byte, bits 2 and 3, is (byte << 2) & 0x30.
    """
    each, mask = 8 // width, ((1 << width) - 1) << start
    vector_values, vector_products, dsp, plain = [], [], [], []
    for index in range(each):
        shift, at = index * width - start, f"values{_offset(index)}"
        vector_values += [
            f"    const __m128i values_{index} = kdnas_load({at} + j, count);\n",
            f"    const __m128i even_{index} = _mm_and_si128(values_{index}, even);\n",
            f"    const __m128i odd_{index} = _mm_srli_epi16(values_{index}, 8);\n",
        ]
        for half, beyond in (("even", 0), ("odd", 8)):
            piece = _vector_cut(shift + beyond, "" if width == 8 and half == "odd" else "piece" if width < 8 else "even")
            product = f"_mm_madd_epi16({piece}, {half}_{index})"
            vector_products.append(f"        sum = _mm_add_epi32(sum, {product});\n")
        dsp += [
            f"        value = kdnas_word({at});\n",
            "        even = value & bytes;\n",
            "        odd = (value >> 8) & bytes;\n",
        ]
        plain.append(f"        value = {f'values[{_offset(index)[3:]}]' if index else '*values'};\n")
        for word, row in (("a", "one"), ("b", "two")):
            held = "bytes" if width == 8 else "piece"
            dsp.append(f"        {row} = kdnas_two({_cut(word, shift, held)}, even, {row});\n")
            dsp.append(f"        {row} = kdnas_two({_cut(word, shift + 8, held)}, odd, {row});\n")
            part = word if width == 8 else f"({_cut(word, shift, f'{mask}u')})"
            plain.append(f"        {row} += (int32_t){part} * value;\n")
    return _PLANE.format(
        name=f"{start}_{width}",
        place=f"of {width} bits that are worth 2^{start} and more" if start else f"of {width} bits",
        each=each,
        pieces="" if width == 8 else f", piece = _mm_set1_epi16({mask})",
        vector_values="".join(vector_values) + ("" if each > 1 else "    (void)span;\n"),
        vector_products="".join(vector_products),
        dsp_mask="" if width == 8 else f"    KDNAS_HELD(piece, 0x{mask << 16 | mask:08X}u);\n",
        dsp="".join(dsp),
        plain="".join(plain),
    )


def _sums(bits: int) -> str:
    size = group_size(bits)
    calls, begin = [], 0  # in spans
    for start, width in _planes(bits):
        each = 8 // width
        for run in range(0, size, each):
            place, values = (f"{count}u * span" if count else "0u" for count in (begin, run))
            calls.append(f"        kdnas_plane_{start}_{width}(at, {place}, values + {values}, span, parts);\n")
            begin += 1
    rest = _REST.format(size=size, bits=bits, straddle=8 - bits, mask=(1 << bits) - 1)
    return _SUMS.format(
        bits=bits,
        size=size,
        group_bytes=size * bits // 8,
        planes="".join(calls),
        rest="    (void)rows;\n" if bits == 8 else rest,
    )


def _cut(word: str, shift: int, mask: str) -> str:
    moved = word if shift == 0 else f"({word} {'>>' if shift > 0 else '<<'} {abs(shift)})"
    return f"{moved} & {mask}"


def _vector_cut(shift: int, mask: str) -> str:
    moved = "bytes" if shift == 0 else f"_mm_{'srli' if shift > 0 else 'slli'}_epi16(bytes, {abs(shift)})"
    return f"_mm_and_si128({moved}, {mask})" if mask else moved


def _offset(spans: int) -> str:
    """What comes on top of a place, of an entry that stands so many spans further on."""
    return {0: "", 1: " + span"}.get(spans, f" + {spans}u * span")
