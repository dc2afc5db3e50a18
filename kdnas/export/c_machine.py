"""C text that asks what a machine can multiply at once, and how its bytes get there."""

MACHINE = """\
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
#elif KDNAS_DSP
#include <arm_acle.h>
#endif
/* What a compiler shall not know: masks then stay in registers, where instructions combine them with shifted numbers,
 * and loops over rows of one length are not written out as a whole. */
#if defined(__GNUC__)
#define KDNAS_HIDE(number) __asm__("" : "+r"(number))
#define KDNAS_THEN(first, then) __asm__("" : "+r"(first), "+r"(then)) /* or all is loaded before anything is used */
#define KDNAS_KEEP(vector) __asm__("" : "+x"(vector)) /* or sums are made in an order that needs too many registers */
#else
#define KDNAS_HIDE(number) ((void)0)
#define KDNAS_THEN(first, then) ((void)0)
#define KDNAS_KEEP(vector) ((void)0)
#endif
#if defined(__GNUC__) && defined(__arm__)
#define KDNAS_APART __attribute__((noinline))
#else
#define KDNAS_APART
#endif
/* Rows whose sums are held at once, in groups of four. */
#if KDNAS_VECTORS
#define KDNAS_TILE 16u
#else
#define KDNAS_TILE 4u
#endif

/* An activation in memory. */
typedef uint8_t kdnas_value;
"""

LOADS = """\
#if KDNAS_VECTORS || KDNAS_DSP
static inline uint32_t kdnas_word(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

static inline uint32_t kdnas_short(const uint8_t *at)
{
    uint16_t word;
    memcpy(&word, at, 2);
    return word;
}
#endif

#if KDNAS_VECTORS
/* `count` bytes, 1 to 8. */
static inline uint64_t kdnas_few(const uint8_t *at, size_t count)
{
    uint64_t bytes = 0;
    if (count == 8u) {
        memcpy(&bytes, at, 8);
        return bytes;
    }
    if (count & 4u)
        bytes = kdnas_word(at + (count & 3u));
    if (count & 2u)
        bytes = bytes << 16 | kdnas_short(at + (count & 1u));
    return count & 1u ? bytes << 8 | at[0] : bytes;
}

/* `count` bytes, 1 to 16, and zeros behind them. */
static inline __m128i kdnas_bytes(const uint8_t *at, size_t count)
{
    if (count == 16u)
        return _mm_loadu_si128((const __m128i *)(const void *)at);
    const size_t above = count > 8u ? count - 8u : 0u;
    return _mm_set_epi64x(above ? (int64_t)kdnas_few(at + 8, above) : 0, (int64_t)kdnas_few(at, count - above));
}

/* Four numbers >= 0 as bytes, none above `limit`, which is 255 or less. */
static inline void kdnas_put(kdnas_value *into, __m128i numbers, uint32_t limit)
{
    const __m128i pairs = _mm_min_epi16(_mm_packs_epi32(numbers, numbers), _mm_set1_epi16((int16_t)limit));
    const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(pairs, pairs));
    memcpy(into, &bytes, 4);
}
#elif KDNAS_DSP
/* Two products of 16-bit numbers on top of a sum. */
static inline int32_t kdnas_two(uint32_t weights, uint32_t values, int32_t sum)
{
    return __smlad((int16x2_t)weights, (int16x2_t)values, sum);
}

/* The lower half of a number, and above it what stands `apart` bits lower. */
static inline uint32_t kdnas_pairs(uint32_t four, unsigned apart)
{
    return (four & 0xFFFFu) | (four << apart & 0xFFFF0000u);
}
#endif

static inline int32_t kdnas_total(const kdnas_value *values, size_t count)
{
    int32_t total = 0;
    size_t i = 0;
#if KDNAS_VECTORS
    __m128i sums = _mm_setzero_si128();
    for (; count - i >= 16u; i += 16u) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(values + i));
        sums = _mm_add_epi32(sums, _mm_sad_epu8(bytes, _mm_setzero_si128()));
    }
    total = _mm_cvtsi128_si32(sums) + _mm_cvtsi128_si32(_mm_srli_si128(sums, 8));
#endif
    for (; i < count; i++)
        total += values[i];
    return total;
}
"""

_INPUTS = """\
/* What the layers of this file read: of {columns} values at most. */
typedef struct {{
    const kdnas_value *values;
#if KDNAS_VECTORS
    __m128i ready[{vectors}];
#endif
}} kdnas_inputs;

#if KDNAS_VECTORS
/* Values as vectors of four rows multiply them: for units of four bytes, of `each` weights a byte, the first and third
 * of four values as 16-bit numbers, and the second and fourth; for those of one byte, one value. */
static inline void kdnas_make_ready(const kdnas_value *values, size_t bytes, size_t each, __m128i *ready)
{{
    for (size_t words = bytes / 4u * each; words > 0u; words--, values += 4, ready += 2) {{
        const __m128i four = _mm_set1_epi32((int32_t)kdnas_word(values));
        ready[0] = _mm_and_si128(four, _mm_set1_epi16(0xFF));
        ready[1] = _mm_srli_epi16(four, 8);
    }}
    for (size_t ones = bytes % 4u * each; ones > 0u; ones--)
        *ready++ = _mm_set1_epi32(*values++);
}}
#endif
"""


def inputs_ready(columns: int) -> str:
    """What makes inputs ready, of so many columns at most."""
    # Two vectors for four columns, and one for each column of up to three units of one byte.
    return _INPUTS.format(columns=columns, vectors=columns // 2 + 12)
