"""C text that students share: matrix-vector products at each bit-width, and how logits become an action.

Everything is C99 on integers and float32 with IEEE rounding; what costs time in integers, sums of products, is in
`c_dot`.
"""

from collections.abc import Iterable

from kdnas.export.c_dot import dots
from kdnas.export.c_round import ROUNDED, SHIFT
from kdnas.students.activation import RELU, SOFTSIGN

FLOAT = 32

OUTPUT, OTHER = "output", "other"
"""Kinds of layers besides activations: what says logits, and what a family has text of its own for."""

_INTEGERS = """\
#if defined(__FAST_MATH__)
#error "-ffast-math changes what integers an observation becomes"
#endif

/* The integer nearest to a ratio, half to even, in its limits and counted from the lower one; NaN is the lower one. */
static inline kdnas_value kdnas_quantize(float ratio, float low, float high)
{
    union { float number; int32_t bits; } sum;
    ratio = ratio > low ? ratio : low;
    ratio = ratio < high ? ratio : high;
    sum.number = ratio + 12582912.0f; /* 1.5 * 2^23: the last bit of the sum is worth 1 */
    return (kdnas_value)(sum.bits - 0x4B400000 - (int32_t)low);
}

#if KDNAS_VECTORS
/* The same of four. */
static inline __m128i kdnas_quantize_four(const float *ratios, float low, float high)
{
    const __m128 raised = _mm_max_ps(_mm_loadu_ps(ratios), _mm_set1_ps(low));
    return _mm_sub_epi32(_mm_cvtps_epi32(_mm_min_ps(raised, _mm_set1_ps(high))), _mm_set1_epi32((int32_t)low));
}

/* The same of many. */
static inline void kdnas_quantize_all(const float *ratios, size_t count, float low, float high, kdnas_value *into)
{
    if (count < 4u)
        for (size_t i = 0; i < count; i++)
            into[i] = kdnas_quantize(ratios[i], low, high);
    for (size_t i = 0; count >= 4u && i < count; i += 4u) { /* the last four end where the ratios do */
        const size_t at = i + 4u <= count ? i : count - 4u;
        kdnas_put(into + at, kdnas_quantize_four(ratios + at, low, high), 255u);
    }
}
#endif

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
    for (; column + parts <= columns; column += parts)
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
    for (; row + KDNAS_BLOCK <= rows; row += KDNAS_BLOCK)
        kdnas_block(weights + row, biases + row, inputs, outputs + row, rows, columns, KDNAS_BLOCK);
    for (; row + 8u <= rows; row += 8u)
        kdnas_block(weights + row, biases + row, inputs, outputs + row, rows, columns, 8u);
    for (; row + 4u <= rows; row += 4u)
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

_LAYER = """\
static void kdnas_{kind}_{bits}(const uint8_t *weights, const int32_t *biases, {arguments},
                           const kdnas_value *restrict values, {type} *restrict into, size_t rows, size_t columns)
{{
    const int32_t excess = {offset} * kdnas_total(values, columns); /* weights are stored as unsigned integers */
    kdnas_inputs inputs;
    kdnas_open_{bits}(&inputs, values, columns);
    for (size_t row = 0; row < rows; row += KDNAS_TILE) {{
        const size_t count = rows - row < KDNAS_TILE ? rows - row : KDNAS_TILE;
        int32_t sums[KDNAS_TILE];
        kdnas_sums_{bits}(weights, &inputs, sums, row, count, rows, columns);
        size_t i = 0;
{vector_body}        for (; i < count; i++) {{
{once}            into[row + i] = {entry};
        }}
    }}
}}
"""

_ONCE = """\
            KDNAS_HIDE(i); /* it is long, so that it is written once */
"""
_HIDDEN_ENTRY = "kdnas_{kind}_of(biases[row + i] + sums[i] - excess, factors[row + i], shift, limit)"
_SHIFT_ENTRY = "kdnas_{kind}_of(biases[row + i] + sums[i] - excess, exponents[row + i], limit)"
_OUTPUT_ENTRY = "(float)(biases[row + i] + sums[i] - excess) * scales[row + i]"
_OUTPUT_SHIFT_ENTRY = "(float)(biases[row + i] + sums[i] - excess) * kdnas_scale(exponents[row + i])"

_SCALE = """\
/* 2^exponent, of a normal number. */
static inline float kdnas_scale(int exponent)
{
    const union { uint32_t bits; float number; } scale = {(uint32_t)(127 + exponent) << 23};
    return scale.number;
}
"""

_VECTOR = """\
#if KDNAS_VECTORS
        for (; count - i >= 4u; i += 4u) {{
            const __m128i bias = _mm_loadu_si128((const __m128i *)(const void *)(biases + row + i));
            const __m128i products = _mm_loadu_si128((const __m128i *)(const void *)(sums + i));
            const __m128i four = _mm_sub_epi32(_mm_add_epi32(bias, products), _mm_set1_epi32(excess));
            kdnas_{kind}_four(four, factors + row + i, shift, limit, into + row + i);
        }}
        if (rows >= 4u)
            KDNAS_HIDE(i); /* GCC 12 imagines an endless loop, and warns of it */
#endif
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


_FLOATS = {RELU.name: _RELU, SOFTSIGN.name: _SOFTSIGN}


def kernels(used: Iterable[tuple[str, int]], own: Iterable[str], *, columns: int, discrete: bool) -> str:
    """What a file needs whose layers are of these kinds (activations, `OUTPUT` and `OTHER`; with `SHIFT` at the end
    where scales are powers of two), have weights of these bits (`FLOAT` too), and read so many columns at most; `own`
    is the text that only some families need.
    """
    layers = sorted(set(used), key=lambda layer: (layer[1], layer[0] == OUTPUT, layer[0]))
    kinds = list(dict.fromkeys(kind for kind, bits in layers if bits != FLOAT))
    parts = [_TRACE]
    if kinds:
        parts += [*dots((bits for _, bits in layers if bits != FLOAT), columns), _INTEGERS, _SEE_VALUES]
        parts += dict.fromkeys(part for kind in sorted(kinds) for part in ROUNDED.get(kind, ()))
        parts += [_SCALE] if OUTPUT + SHIFT in kinds else []
    parts += [_layer(kind, bits) for kind, bits in layers if bits != FLOAT and kind != OTHER]
    floats = [kind for kind, bits in layers if bits == FLOAT]
    parts += [_SEE_FLOATS, _DENSE] if floats else []
    parts += [_FLOATS[kind] for kind in floats if kind in _FLOATS]
    parts += dict.fromkeys(own)
    parts += [_BEST] if discrete else []
    return "\n".join(parts)


def _layer(kind: str, bits: int) -> str:
    shift, hidden = kind.endswith(SHIFT), kind.removesuffix(SHIFT) != OUTPUT
    if shift:
        arguments = "const int8_t *exponents" + ", uint32_t limit" * hidden
        entry = _SHIFT_ENTRY if hidden else _OUTPUT_SHIFT_ENTRY
    else:
        arguments = "const uint32_t *factors, unsigned shift, uint32_t limit" if hidden else "const float *scales"
        entry = _HIDDEN_ENTRY if hidden else _OUTPUT_ENTRY
    return _LAYER.format(
        kind=kind,
        bits=bits,
        offset=1 << (bits - 1),
        arguments=arguments,
        type="kdnas_value" if hidden else "float",
        entry=entry.format(kind=kind),
        once="" if kind in (RELU.name, OUTPUT) else _ONCE,
        vector_body=_VECTOR.format(kind=kind) if hidden and not shift else "",
    )
