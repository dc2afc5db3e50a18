"""C text that makes activations of sums: products of 64 bits, shifted and rounded, and a softsign in integer steps."""

STEPS = """\
/* `one`, a power of 2 up to 128, times sum / (1 + sum), rounded half up, of a sum >= 0 in steps of 2^-24. */
static inline uint32_t kdnas_steps(uint64_t wide, uint32_t one)
{
    if (wide >= 0xFF000000u)
        return one;
    /* As many steps as a little more, and what is left fits 32 bits. */
    const uint32_t sum = wide < 0xFEFF0000u ? (uint32_t)wide : 0xFEFF0000u, whole = (1u << 24) + sum;
    /* Half steps: at most one too few, because the divisor is too large by 256 at most. */
    const uint32_t halves = (sum / ((whole >> 8) + 1u) * (2u * one)) >> 8;
    return (halves + (2u * one * sum - halves * whole >= whole) + 1u) >> 1;
}

#if KDNAS_VECTORS
/* The same of the two sums in the lower lanes. Doubles hold numerator (41 bits) and divisor (34), and a quotient below
 * an integer is 2^-34 below it at least, which 45 bits behind the point can say: it is not rounded up to it. */
static inline __m128i kdnas_quotients(__m128i sums, uint32_t one)
{
    const __m128d raised = _mm_cvtepi32_pd(_mm_xor_si128(sums, _mm_set1_epi32(INT32_MIN)));
    const __m128d sum = _mm_add_pd(raised, _mm_set1_pd(2147483648.0));
    const __m128d whole = _mm_add_pd(sum, _mm_set1_pd(16777216.0));
    const __m128d above = _mm_add_pd(_mm_mul_pd(sum, _mm_set1_pd(2.0 * one)), whole);
    return _mm_cvttpd_epi32(_mm_div_pd(above, _mm_add_pd(whole, whole)));
}

static inline __m128i kdnas_steps_of(__m128i sums, uint32_t one)
{
    return _mm_unpacklo_epi64(kdnas_quotients(sums, one), kdnas_quotients(_mm_srli_si128(sums, 8), one));
}
#endif
"""

ROUND = """\
#if KDNAS_VECTORS
/* Four sizes times their factors, halves added, / 2^shift: 64-bit numbers of lanes 0 and 2, and of 1 and 3. */
static inline void kdnas_round(__m128i sizes, const uint32_t *factors, unsigned shift, __m128i *even, __m128i *odd)
{
    const __m128i factor = _mm_loadu_si128((const __m128i *)(const void *)factors);
    const __m128i half = _mm_set1_epi64x((int64_t)1 << (shift - 1u)), by = _mm_cvtsi32_si128((int)shift);
    const __m128i first = _mm_mul_epu32(sizes, factor);
    const __m128i second = _mm_mul_epu32(_mm_srli_epi64(sizes, 32), _mm_srli_epi64(factor, 32));
    *even = _mm_srl_epi64(_mm_add_epi64(first, half), by);
    *odd = _mm_srl_epi64(_mm_add_epi64(second, half), by);
}

/* The lower halves of four 64-bit numbers; all bits where one needs more. */
static inline __m128i kdnas_narrow(__m128i even, __m128i odd)
{
    const __m128i low = _mm_set_epi32(0, -1, 0, -1);
    const __m128i numbers = _mm_or_si128(_mm_and_si128(even, low), _mm_slli_epi64(odd, 32));
    const __m128i above = _mm_or_si128(_mm_srli_epi64(even, 32), _mm_andnot_si128(low, odd));
    const __m128i fits = _mm_cmpeq_epi32(above, _mm_setzero_si128());
    return _mm_or_si128(numbers, _mm_xor_si128(fits, _mm_set1_epi32(-1)));
}

/* The lowest bytes of four numbers. */
static inline void kdnas_put(kdnas_value *into, __m128i numbers)
{
    const __m128i pairs = _mm_packs_epi32(numbers, numbers);
    const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(pairs, pairs));
    memcpy(into, &bytes, 4);
}
#endif
"""
