"""C text that makes activations of sums: products of 64 bits, shifted and rounded, and a softsign in integer steps.

Vectors of four sums say the same as one after the other. A ReLU's are 64-bit products too. A softsign's are made in
float32, twice, a little too small and a little too large: where both are the same integer, which they nearly always
are, it is the right one, and otherwise the four are made again one by one. Shifts by a number of each row are no
instruction of SSE2, and made one by one.
"""

from kdnas.students.activation import RELU, SOFTSIGN

_RELU = """\
static inline kdnas_value kdnas_relu_of(int32_t sum, uint32_t factor, unsigned shift, uint32_t limit)
{
    uint32_t size = sum > 0 ? (uint32_t)sum : 0u;
    KDNAS_HIDE(size); /* that it has no sign is forgotten otherwise */
    const uint64_t product = (uint64_t)size * factor;
    const uint32_t rounded = (uint32_t)kdnas_shift(product + ((uint64_t)1 << (shift - 1u)), shift);
    return (kdnas_value)(rounded < limit ? rounded : limit);
}

#if KDNAS_VECTORS
static inline void kdnas_relu_four(__m128i sums, const uint32_t *factors, unsigned shift, uint32_t limit,
                                   kdnas_value *into)
{
    const __m128i sizes = _mm_andnot_si128(_mm_srai_epi32(sums, 31), sums);
    const __m128i factor = _mm_loadu_si128((const __m128i *)(const void *)factors);
    const __m128i half = _mm_set1_epi64x((int64_t)1 << (shift - 1u)), by = _mm_cvtsi32_si128((int)shift);
    const __m128i first = _mm_add_epi64(_mm_mul_epu32(sizes, factor), half);
    const __m128i second = _mm_add_epi64(_mm_mul_epu32(_mm_srli_epi64(sizes, 32), _mm_srli_epi64(factor, 32)), half);
    if (shift >= 31u) { /* size and factor have 31 bits, so that what is left of their product has no more */
        const __m128i odd = _mm_slli_epi64(_mm_srl_epi64(second, by), 32);
        kdnas_put(into, _mm_or_si128(_mm_srl_epi64(first, by), odd), limit);
        return;
    }
    int32_t each[4];
    _mm_storeu_si128((__m128i *)(void *)each, sums);
    for (size_t i = 0; i < 4u; i++)
        into[i] = kdnas_relu_of(each[i], factors[i], shift, limit);
}
#endif
"""

_STEPS = """\
/* `one`, a power of 2 up to 128, times sum / (1 + sum), rounded half up, of a sum >= 0 in steps of 2^-24. */
static inline uint32_t kdnas_steps(uint64_t wide, uint32_t one)
{
    if (wide >= 0xFF000000u)
        return one;
    /* As many steps as a little more, and what is left fits 32 bits. */
    const uint32_t sum = wide < 0xFEFF0000u ? (uint32_t)wide : 0xFEFF0000u, whole = ((uint32_t)1 << 24) + sum;
    /* Half steps: at most one too few, because the divisor is too large by 256 at most. */
    const uint32_t halves = (sum / ((whole >> 8) + 1u) * (2u * one)) >> 8;
    return (halves + (2u * one * sum - halves * whole >= whole) + 1u) >> 1;
}

/* Steps with the sign of their sum, `limit` at most, counted from the lowest ones. */
static inline kdnas_value kdnas_turned(int32_t sum, uint32_t steps, uint32_t limit)
{
    return (kdnas_value)(limit + 1u + (sum < 0 ? 0u - steps : steps < limit ? steps : limit));
}
"""

_SOFTSIGN = """\
static inline kdnas_value kdnas_softsign_of(int32_t sum, uint32_t factor, unsigned shift, uint32_t limit)
{
    const uint32_t size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
    const uint64_t product = (uint64_t)size * factor;
    const uint32_t steps = kdnas_steps(kdnas_shift(product + ((uint64_t)1 << (shift - 1u)), shift), limit + 1u);
    return kdnas_turned(sum, steps, limit);
}

#if KDNAS_VECTORS
static inline void kdnas_softsign_four(__m128i sums, const uint32_t *factors, unsigned shift, uint32_t limit,
                                       kdnas_value *into)
{
    const union { uint32_t bits; float number; } worth = {(127u - 24u - shift) << 23}; /* 2^(-24 - shift) */
    const __m128i negative = _mm_srai_epi32(sums, 31), one = _mm_set1_epi32((int32_t)limit + 1);
    const __m128i factor = _mm_loadu_si128((const __m128i *)(const void *)factors);
    const __m128 by = _mm_mul_ps(_mm_cvtepi32_ps(factor), _mm_set1_ps(worth.number));
    const __m128 size = _mm_andnot_ps(_mm_set1_ps(-0.0f), _mm_cvtepi32_ps(sums));
    const __m128 whole = _mm_add_ps(_mm_mul_ps(size, by), _mm_set1_ps(1.0f));
    /* L z / (1 + z) = L - L / (1 + z): fewer than ten roundings by 2^-24 of 128, less than 2^-13 in all. */
    const float most = (float)(limit + 1u) + 0.5f, apart = 1.0f / 8192.0f;
    const __m128 lack = _mm_div_ps(_mm_cvtepi32_ps(one), whole);
    const __m128i low = _mm_cvttps_epi32(_mm_sub_ps(_mm_set1_ps(most - apart), lack));
    const __m128i high = _mm_cvttps_epi32(_mm_sub_ps(_mm_set1_ps(most + apart), lack));
    if (_mm_movemask_epi8(_mm_cmpeq_epi32(low, high)) == 0xFFFF) {
        const __m128i turned = _mm_sub_epi32(_mm_xor_si128(low, negative), negative);
        kdnas_put(into, _mm_add_epi32(one, turned), 2u * limit + 1u);
        return;
    }
    int32_t each[4];
    _mm_storeu_si128((__m128i *)(void *)each, sums);
    for (size_t i = 0; i < 4u; i++)
        into[i] = kdnas_softsign_of(each[i], factors[i], shift, limit);
}
#endif
"""

_POWER = """\
/* size 2^exponent, rounded half to even, at most `most`; the size is 2^31 at most, and the exponent -32 to 31. */
static inline uint32_t kdnas_power(uint32_t size, int exponent, uint32_t most)
{
    if (exponent >= 0)
        return size > most >> exponent ? most : size << exponent;
    const unsigned less = (unsigned)(-exponent - 1);
    const uint32_t odd = (size >> less) >> 1 & 1u, rounded = ((size + (((uint32_t)1 << less) - 1u) + odd) >> less) >> 1;
    return rounded < most ? rounded : most;
}
"""

_RELU_SHIFT = """\
static inline kdnas_value kdnas_relu_shift_of(int32_t sum, int exponent, uint32_t limit)
{
    return (kdnas_value)kdnas_power(sum > 0 ? (uint32_t)sum : 0u, exponent, limit);
}
"""

_SOFTSIGN_SHIFT = """\
static inline kdnas_value kdnas_softsign_shift_of(int32_t sum, int exponent, uint32_t limit)
{
    const uint32_t size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
    const uint32_t steps = kdnas_steps(kdnas_power(size, exponent, UINT32_MAX), limit + 1u);
    return kdnas_turned(sum, steps, limit);
}
"""

SHIFT = "_shift"
"""Ends the name of a kernel that reads exponents, of scales that are powers of two."""

ROUNDED = {
    RELU.name: (_RELU,),
    SOFTSIGN.name: (_STEPS, _SOFTSIGN),
    RELU.name + SHIFT: (_POWER, _RELU_SHIFT),
    SOFTSIGN.name + SHIFT: (_POWER, _STEPS, _SOFTSIGN_SHIFT),
}
"""Name of an activation -> what makes one of a sum, and, but for shifts, four of four."""
