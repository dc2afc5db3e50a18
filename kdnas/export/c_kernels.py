"""C text that students share: matrix-vector products at each bit-width, and how logits become an action.

Everything is C99 on integers and float32 with IEEE rounding. `sums` is the one loop per bit-width that costs time: a
target's own instructions belong there, behind its feature macro, and everything around it stays as it is.
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
    union { float number; int32_t bits; } sum;
    ratio = ratio > low ? ratio : low;
    ratio = ratio < high ? ratio : high;
    sum.number = ratio + 12582912.0f; /* 1.5 * 2^23: the last bit of the sum is worth 1 */
    return (kdnas_value)(sum.bits - 0x4B400000 - (int32_t)low);
}

/* number / 2^shift, with a shift that machines of 32 bits can do in one instruction in most layers. */
static inline uint64_t kdnas_shift(uint64_t number, unsigned shift)
{
    return shift < 32u ? number >> shift : (uint32_t)(number >> 32) >> (shift - 32u);
}
"""

_DENSE = """\
/* outputs = weights inputs + biases; columns of weights stand one after the other. */
static void kdnas_dense(const float *weights, const float *biases, const float *restrict inputs,
                        float *restrict outputs, size_t rows, size_t columns)
{
    for (size_t row = 0; row < rows; row++)
        outputs[row] = biases[row];
    for (size_t column = 0; column < columns; column++) {
        const float *const weight = weights + column * rows;
        const float input = inputs[column];
        for (size_t row = 0; row < rows; row++)
            outputs[row] += weight[row] * input;
    }
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
        for (size_t i = 0; i < count; i++) {{
            const int32_t sum = biases[row + i] + sums[i] - excess;
{body}        }}
    }}
}}
"""

_HIDDEN = """\
            const uint64_t product = (uint64_t)(uint32_t)(sum > 0 ? sum : 0) * factors[row + i];
            const uint32_t rounded = (uint32_t)kdnas_shift(product + half, shift);
            into[row + i] = (kdnas_value)(rounded < limit ? rounded : limit);
"""

_SIGNED = """\
            const uint32_t size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
            const uint32_t steps = kdnas_steps(kdnas_shift((uint64_t)size * factors[row + i] + half, shift), limit + 1u);
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


_BODIES = {RELU.name: _HIDDEN, SOFTSIGN.name: _SIGNED, "output": _OUTPUT}
_FLOATS = {RELU.name: _RELU, SOFTSIGN.name: _SOFTSIGN}


def kernels(
    widths: Iterable[int], hidden: Iterable[tuple[str, int]], *, columns: int, discrete: bool
) -> str:
    """What a file needs whose layers have weights of these bits (`FLOAT` too), and hidden layers of these activations
    and bits.

    `columns` are those of its widest layer.
    """
    widths, hidden = sorted(set(widths)), sorted(set(hidden))
    integers = [bits for bits in widths if bits != FLOAT]
    parts = [_TRACE]
    if integers:
        parts += [*dots(integers), _INTEGERS, _SEE_VALUES]
    if any(kind == SOFTSIGN.name and bits != FLOAT for kind, bits in hidden):
        parts.append(_STEPS)
    for bits in integers:
        parts += [_layer(kind, bits) for kind, own in hidden if own == bits]
        parts.append(_layer("output", bits))
    if FLOAT in widths:
        parts += [_SEE_FLOATS, _DENSE]
        parts += [_FLOATS[kind] for kind, own in hidden if own == FLOAT]
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
    )
