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
#else
#define KDNAS_HIDE(number) ((void)0)
#endif
#if defined(__GNUC__) && defined(__arm__)
#define KDNAS_APART __attribute__((noinline))
#else
#define KDNAS_APART
#endif
#define KDNAS_TILE 16u /* rows whose sums are held at once */

/* An activation in memory. */
typedef uint8_t kdnas_value;
"""

LOADS = """\
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

/* `count` bytes, 1 to 8, as 16-bit numbers, and zeros behind them. */
static inline __m128i kdnas_load(const uint8_t *at, size_t count)
{
    const __m128i bytes = count == 8u ? _mm_loadl_epi64((const __m128i *)(const void *)at)
                                      : _mm_set_epi64x(0, (int64_t)kdnas_few(at, count));
    return _mm_unpacklo_epi8(bytes, _mm_setzero_si128());
}

/* The sums of four vectors. */
static inline __m128i kdnas_across(__m128i a, __m128i b, __m128i c, __m128i d)
{
    const __m128i ab = _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    const __m128i cd = _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
    return _mm_add_epi32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
}

/* Four numbers >= 0 as bytes, none above `limit`, which is 255 or less. */
static inline void kdnas_put(kdnas_value *into, __m128i numbers, uint32_t limit)
{
    const __m128i pairs = _mm_min_epi16(_mm_packs_epi32(numbers, numbers), _mm_set1_epi16((int16_t)limit));
    const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(pairs, pairs));
    memcpy(into, &bytes, 4);
}
#elif KDNAS_DSP
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
