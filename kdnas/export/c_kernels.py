"""C text that students share: matrix-vector products at each bit-width, and how logits become an action.

Everything is C99 on integers and float32 with IEEE rounding. `sums` is the one loop per bit-width that costs time: a
target's own instructions belong there, behind its feature macro, and everything around it stays as it is.
"""

from collections.abc import Iterable

from kdnas.export.c_pack import group_size, planes
from kdnas.students.activation import RELU, SOFTSIGN

FLOAT = 32

_INTEGERS = """\
#if defined(__FAST_MATH__)
#error "-ffast-math changes what integers an observation becomes"
#endif

/* 0 for the plain loops; other machines get them anyway. */
#ifndef KDNAS_VECTORS
#if defined(__SSE2__) || defined(__ARM_NEON)
#define KDNAS_VECTORS 1
#else
#define KDNAS_VECTORS 0
#endif
#endif

/* An activation in memory: a byte, or 16 bits where vector units multiply those. */
#if KDNAS_VECTORS
typedef int16_t kdnas_value;
#else
typedef uint8_t kdnas_value;
#endif

#define KDNAS_TILE 16u /* rows whose sums are held at once */

/* The integer nearest to a ratio, half to even, in its limits and counted from the lower one; NaN is the lower one. */
static inline kdnas_value kdnas_quantize(float ratio, float low, float high)
{
    union { float number; int32_t bits; } sum;
    ratio = ratio > low ? ratio : low;
    ratio = ratio < high ? ratio : high;
    sum.number = ratio + 12582912.0f; /* 1.5 * 2^23: the last bit of the sum is worth 1 */
    return (kdnas_value)(sum.bits - 0x4B400000 - (int32_t)low);
}

static inline int32_t kdnas_total(const kdnas_value *values, size_t count)
{
    int32_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += values[i];
    return total;
}

static inline int32_t kdnas_dot(const uint8_t *weights, const kdnas_value *values, size_t count)
{
    int32_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += weights[i] * values[i];
    return sum;
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
/* 0 where dividing 64 bits is slow: a search by products instead. */
#ifndef KDNAS_DIVIDE
#define KDNAS_DIVIDE (UINTPTR_MAX > 0xFFFFFFFFu)
#endif

/* `one` times sum / (1 + sum), rounded half up, of a sum >= 0 in steps of 2^-24. */
static inline uint32_t kdnas_steps(uint64_t sum, uint32_t one)
{
    sum = sum < UINT32_MAX ? sum : UINT32_MAX;
#if KDNAS_DIVIDE
    const uint64_t whole = ((uint64_t)1 << 24) + sum;
    return (uint32_t)((2u * one * sum + whole) / (2u * whole));
#else
    uint32_t steps = 0;
    for (uint32_t bit = one; bit > 0; bit >>= 1) {
        const uint32_t next = steps + bit;
        if (next <= one && sum * (2u * one + 1u - 2u * next) >= (uint64_t)(2u * next - 1u) << 24)
            steps = next;
    }
    return steps;
#endif
}
"""

_SUMS_8 = """\
/* Products of `count` rows from `row` on, weights as they are stored. */
static void kdnas_sums_8(const uint8_t *weights, const kdnas_value *values, int32_t *sums, size_t row, size_t count,
                         size_t rows, size_t columns)
{
    (void)rows;
    for (size_t i = 0; i < count; i++)
        sums[i] = kdnas_dot(weights + (row + i) * columns, values, columns);
}
"""

_SUMS_PACKED = """\
/* Products of `count` rows from `row` on, weights as they are stored: {bits} bits each.{remark} */
static void kdnas_sums_{bits}(const uint8_t *weights, const kdnas_value *values, int32_t *sums, size_t row,
                         size_t count, size_t rows, size_t columns)
{{
    const size_t span = columns / {size}u, taken = {size}u * span, bytes = {group_bytes}u * span;
    const uint8_t *const rest = weights + rows * bytes;
    for (size_t i = 0; i < count; i++) {{
        const uint8_t *const at = weights + (row + i) * bytes;
        size_t bit = (row + i) * (columns - taken) * {bits}u;
        int32_t sum = 0;
{loops}        for (size_t j = taken; j < columns; j++, bit += {bits}u) {{
            const unsigned start = (unsigned)(bit & 7u);
            unsigned piece = (unsigned)rest[bit >> 3] >> start;
            if (start > {straddle}u)
                piece |= (unsigned)rest[(bit >> 3) + 1u] << (8u - start);
            sum += (int32_t)(piece & {mask}u) * values[j];
        }}
        sums[i] = sum;
    }}
}}
"""

_UNPACKED = """\
#if KDNAS_VECTORS
        uint8_t stored[KDNAS_COLUMNS];
{unpacking}        sum = kdnas_dot(stored, values, taken);
#else
{loops}#endif
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
            const uint32_t rounded = (uint32_t)((product + half) >> shift);
            into[row + i] = (kdnas_value)(rounded < limit ? rounded : limit);
"""

_SIGNED = """\
            const uint32_t size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
            const uint32_t steps = kdnas_steps(((uint64_t)size * factors[row + i] + half) >> shift, limit + 1u);
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
    widths: Iterable[int], hidden: Iterable[tuple[str, int]], own: Iterable[str], *, columns: int, discrete: bool
) -> str:
    """What a file needs whose layers have weights of these bits (`FLOAT` too), and hidden layers of these activations
    and bits.

    `columns` are those of its widest layer, `own` the text that only some families need.
    """
    widths, hidden = sorted(set(widths)), sorted(set(hidden))
    integers = [bits for bits in widths if bits != FLOAT]
    parts = [_TRACE]
    if integers:
        parts += [_INTEGERS, _SEE_VALUES]
    if any(group_size(bits) > 2 for bits in integers):
        parts.append(f"#define KDNAS_COLUMNS {columns}u /* of the widest layer */\n")
    if any(kind == SOFTSIGN.name and bits != FLOAT for kind, bits in hidden):
        parts.append(_STEPS)
    for bits in integers:
        parts.append(_SUMS_8 if bits == 8 else _sums(bits))
        parts += [_layer(kind, bits) for kind, own in hidden if own == bits]
        parts.append(_layer("output", bits))
    if FLOAT in widths:
        parts += [_SEE_FLOATS, _DENSE]
        parts += [_FLOATS[kind] for kind, own in hidden if own == FLOAT]
    parts += dict.fromkeys(own)
    parts += [_BEST] if discrete else []
    return "\n".join(parts)


def _sums(bits: int) -> str:
    size = group_size(bits)
    unpacking, loops = [], []
    for run in range(size):  # the run-th span of the row
        begin, pieces = 0, []
        for start, width in planes(bits):
            each = 8 // width
            byte = f"at[{_offset(begin + run // each)}j]"
            shift = run % each * width
            piece = f"(({byte} >> {shift}) & {(1 << width) - 1})" if shift else f"({byte} & {(1 << width) - 1})"
            pieces.append(f"({piece} << {start})" if start else piece)
            begin += size // each
        stored = pieces[0] if len(pieces) == 1 else f"({' | '.join(pieces)})"
        loop = "        for (size_t j = 0; j < span; j++)\n            "
        unpacking.append(f"{loop}stored[{_offset(run)}j] = (uint8_t){stored if stored[0] == '(' else f'({stored})'};\n")
        loops.append(f"{loop}sum += {stored} * values[{_offset(run)}j];\n")
    return _SUMS_PACKED.format(
        bits=bits,
        size=size,
        group_bytes=size * bits // 8,
        # Compilers see through two runs, but not through more.
        loops="".join(loops)
        if size == 2
        else _UNPACKED.format(unpacking="".join(unpacking), loops="".join(loops)),
        remark="" if size == 2 else " Vector units unpack a row\n * first and multiply then.",
        straddle=8 - bits,
        mask=(1 << bits) - 1,
    )


def _offset(spans: int) -> str:
    return {0: "", 1: "span + "}.get(spans, f"{spans}u * span + ")


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
