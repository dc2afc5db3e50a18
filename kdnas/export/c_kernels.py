"""C text that students share: matrix-vector products at each bit-width, and how logits become an action.

Everything is C99 on integers and float32 with IEEE rounding; what costs time in integers, sums of products, is in
`c_dot`.
"""

from collections.abc import Iterable

from kdnas.export.c_dot import dots
from kdnas.students.activation import RELU, SOFTSIGN

FLOAT = 32

_INTEGERS = """\
#if defined(__FAST_MATH__)
#error "-ffast-math changes what integers an observation becomes"
#endif

/* The integer nearest to a ratio, half to even, in its limits and counted from the lower one; NaN is the lower one. */
static inline kdnas_value kdnas_quantize(float ratio, float low, float high)
{
#if KDNAS_VECTORS /* without jumps */
    const __m128 raised = _mm_max_ss(_mm_set_ss(ratio), _mm_set_ss(low));
    return (kdnas_value)(_mm_cvtss_si32(_mm_min_ss(raised, _mm_set_ss(high))) - (int32_t)low);
#else
    union { float number; int32_t bits; } sum;
    ratio = ratio > low ? ratio : low;
    ratio = ratio < high ? ratio : high;
    sum.number = ratio + 12582912.0f; /* 1.5 * 2^23: the last bit of the sum is worth 1 */
    return (kdnas_value)(sum.bits - 0x4B400000 - (int32_t)low);
#endif
}

/* number / 2^shift, with a shift that machines of 32 bits can do in one instruction in most layers. */
static inline uint64_t kdnas_shift(uint64_t number, unsigned shift)
{
    return shift < 32u ? number >> shift : (uint32_t)(number >> 32) >> (shift - 32u);
}
"""

_DENSE = """\
/* Sums that fit in registers: of `block` rows, each in as many parts as there is room for, because one that is added to
 * at every step waits for itself. */
#if defined(__SSE2__) || defined(__ARM_NEON)
#define KDNAS_BLOCK 32u
#else
#define KDNAS_BLOCK 16u
#endif

static inline void kdnas_block(const float *weights, const float *biases, const float *restrict inputs,
                               float *restrict outputs, size_t rows, size_t columns, size_t block)
{
    const size_t parts = KDNAS_BLOCK / block;
    float sums[KDNAS_BLOCK] = {0.0f};
    size_t column = 0;
    for (; columns - column >= parts; column += parts)
        for (size_t part = 0; part < parts; part++)
            for (size_t i = 0; i < block; i++)
                sums[part * block + i] += weights[(column + part) * rows + i] * inputs[column + part];
    for (; column < columns; column++)
        for (size_t i = 0; i < block; i++)
            sums[i] += weights[column * rows + i] * inputs[column];
    for (size_t i = 0; i < block; i++) {
        for (size_t part = 1; part < parts; part++)
            sums[i] += sums[part * block + i];
        outputs[i] = biases[i] + sums[i];
    }
}

/* outputs = weights inputs + biases; columns of weights stand one after the other. */
static void kdnas_dense(const float *weights, const float *biases, const float *restrict inputs,
                        float *restrict outputs, size_t rows, size_t columns)
{
    size_t row = 0;
    for (; rows - row >= KDNAS_BLOCK; row += KDNAS_BLOCK)
        kdnas_block(weights + row, biases + row, inputs, outputs + row, rows, columns, KDNAS_BLOCK);
    for (; rows - row >= 8u; row += 8u)
        kdnas_block(weights + row, biases + row, inputs, outputs + row, rows, columns, 8u);
    for (; rows - row >= 4u; row += 4u)
        kdnas_block(weights + row, biases + row, inputs, outputs + row, rows, columns, 4u);
    for (; row < rows; row++)
        kdnas_block(weights + row, biases + row, inputs, outputs + row, rows, columns, 1u);
}
"""

_RELU = """\
static inline void kdnas_relu(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = values[i] > 0.0f ? values[i] : 0.0f;
}
"""

_SOFTSIGN = """\
static inline void kdnas_softsign(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = values[i] / (1.0f + (values[i] < 0.0f ? -values[i] : values[i]));
}
"""

_STEPS = """\
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

_ROUND = """\
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

_LAYER = """\
static void kdnas_{kind}_{bits}(const uint8_t *weights, const int32_t *biases, {arguments},
                           const kdnas_value *restrict values, {type} *restrict into, size_t rows, size_t columns)
{{
    const int32_t excess = {offset} * kdnas_total(values, columns); /* weights are stored as unsigned integers */
{constants}    for (size_t row = 0; row < rows; row += KDNAS_TILE) {{
        const size_t count = rows - row < KDNAS_TILE ? rows - row : KDNAS_TILE;
        int32_t sums[KDNAS_TILE] = {{0}};
        kdnas_sums_{bits}(weights, values, sums, row, count, rows, columns);
        size_t i = 0;
{vector_body}        for (; i < count; i++) {{
            const int32_t sum = biases[row + i] + sums[i] - excess;
{body}        }}
    }}
}}
"""

_HIDDEN = """\
            uint32_t size = sum > 0 ? (uint32_t)sum : 0u;
            KDNAS_HIDE(size); /* that it has no sign is forgotten otherwise */
            const uint64_t product = (uint64_t)size * factors[row + i];
            const uint32_t rounded = (uint32_t)kdnas_shift(product + half, shift);
            into[row + i] = (kdnas_value)(rounded < limit ? rounded : limit);
"""

_VECTOR = """\
#if KDNAS_VECTORS
        for (; count - i >= 4u; i += 4u) {{
            const __m128i bias = _mm_loadu_si128((const __m128i *)(const void *)(biases + row + i));
            const __m128i products = _mm_loadu_si128((const __m128i *)(const void *)(sums + i));
            const __m128i sum = _mm_sub_epi32(_mm_add_epi32(bias, products), _mm_set1_epi32(excess));
            const __m128i negative = _mm_srai_epi32(sum, 31);
            __m128i even, odd;
{body}        }}
        if (rows >= 4u)
            KDNAS_HIDE(i); /* GCC 12 imagines an endless loop, and warns of it */
#endif
"""

_VECTOR_HIDDEN = """\
            kdnas_round(_mm_andnot_si128(negative, sum), factors + row + i, shift, &even, &odd);
            const __m128i rounded = kdnas_narrow(even, odd), most = _mm_set1_epi32((int32_t)limit);
            /* Compared as unsigned numbers. */
            const __m128i lowest = _mm_set1_epi32(INT32_MIN), turned = _mm_xor_si128(rounded, lowest);
            const __m128i more = _mm_cmpgt_epi32(turned, _mm_xor_si128(most, lowest));
            kdnas_put(into + row + i, _mm_or_si128(_mm_and_si128(more, most), _mm_andnot_si128(more, rounded)));
"""

_VECTOR_SIGNED = """\
            const __m128i size = _mm_sub_epi32(_mm_xor_si128(sum, negative), negative);
            kdnas_round(size, factors + row + i, shift, &even, &odd);
            const __m128i steps = kdnas_steps_of(kdnas_narrow(even, odd), limit + 1u);
            const __m128i one = _mm_set1_epi32((int32_t)limit + 1);
            const __m128i signed_steps = _mm_sub_epi32(_mm_xor_si128(steps, negative), negative);
            const __m128i full = _mm_cmpeq_epi32(signed_steps, one); /* one too many where it is positive */
            kdnas_put(into + row + i, _mm_add_epi32(one, _mm_add_epi32(signed_steps, full)));
"""

_SIGNED = """\
            const uint32_t size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
            const uint64_t product = (uint64_t)size * factors[row + i];
            const uint32_t steps = kdnas_steps(kdnas_shift(product + half, shift), limit + 1u);
            /* Counted from the lowest one. */
            into[row + i] = (kdnas_value)(limit + 1u + (sum < 0 ? 0u - steps : steps < limit ? steps : limit));
"""

_OUTPUT = """\
            into[row + i] = (float)sum * scales[row + i];
"""

_BEST = """\
/* The most likely legal choice, the lowest among equals; 0 where nothing is legal. */
static int32_t kdnas_best(const float *logits, const uint8_t *mask, size_t count)
{
    size_t best = count;
    for (size_t i = 0; i < count; i++)
        if ((mask == NULL || mask[i] != 0u) && (best == count || logits[i] > logits[best]))
            best = i;
    return best < count ? (int32_t)best : 0;
}
"""

_TRACE = """\
#ifdef KDNAS_TRACE
static unsigned char *kdnas_seen;

void kdnas_trace(unsigned char *into)
{
    kdnas_seen = into;
}
#endif
"""

_SEE_VALUES = """\
#ifdef KDNAS_TRACE
#define KDNAS_SEE_VALUES(vector, count) \\
    for (size_t seen_ = 0; seen_ < (count); seen_++) \\
    *kdnas_seen++ = (unsigned char)(vector)[seen_]
#else
#define KDNAS_SEE_VALUES(vector, count) ((void)0)
#endif
"""

_SEE_FLOATS = """\
#ifdef KDNAS_TRACE
#define KDNAS_SEE_FLOATS(vector, count) \\
    (memcpy(kdnas_seen, (vector), (count) * sizeof(float)), kdnas_seen += (count) * sizeof(float))
#else
#define KDNAS_SEE_FLOATS(vector, count) ((void)0)
#endif
"""


_VECTOR_BODIES = {RELU.name: _VECTOR_HIDDEN, SOFTSIGN.name: _VECTOR_SIGNED}
_BODIES = {RELU.name: _HIDDEN, SOFTSIGN.name: _SIGNED, "output": _OUTPUT}
_FLOATS = {RELU.name: _RELU, SOFTSIGN.name: _SOFTSIGN}


def kernels(
    widths: Iterable[int], hidden: Iterable[tuple[str, int]], own: Iterable[str], *, discrete: bool
) -> str:
    """What a file needs whose layers have weights of these bits (`FLOAT` too), and hidden layers of these activations
    and bits; `own` is the text that only some families need.
    """
    widths, hidden = sorted(set(widths)), sorted(set(hidden))
    integers = [bits for bits in widths if bits != FLOAT]
    parts = [_TRACE]
    if integers:
        parts += [*dots(integers), _INTEGERS, _SEE_VALUES]
    if any(bits != FLOAT for _, bits in hidden):
        parts.append(_ROUND)
    if any(kind == SOFTSIGN.name and bits != FLOAT for kind, bits in hidden):
        parts.append(_STEPS)
    for bits in integers:
        parts += [_layer(kind, bits) for kind, own in hidden if own == bits]
        parts.append(_layer("output", bits))
    if FLOAT in widths:
        parts += [_SEE_FLOATS, _DENSE]
        parts += [_FLOATS[kind] for kind, own in hidden if own == FLOAT]
    parts += dict.fromkeys(own)
    parts += [_BEST] if discrete else []
    return "\n".join(parts)


def _layer(kind: str, bits: int) -> str:
    hidden = kind != "output"
    return _LAYER.format(
        kind=kind,
        bits=bits,
        offset=1 << (bits - 1),
        arguments="const uint32_t *factors, unsigned shift, uint32_t limit" if hidden else "const float *scales",
        type="kdnas_value" if hidden else "float",
        constants="    const uint64_t half = (uint64_t)1 << (shift - 1u);\n" if hidden else "",
        body=_BODIES[kind],
        vector_body=_VECTOR.format(body=_VECTOR_BODIES[kind]) if hidden else "",
    )
