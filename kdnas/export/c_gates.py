"""C text of GRU cells: their gates, in float and in steps of 2^-24, as `kdnas.students.integer` has them."""

from kdnas.export.c_network import Table
from kdnas.students.integer import GATE_LIMIT, KNOT_BITS, ONE, TANH, UNIT_BITS

KNOTS = Table(name="kdnas_knots", kind="int32_t", values=TANH)

CURVES = f"""\
/* Numbers with a curve are in steps of 2^-24; tanh at multiples of 1/8: */
{KNOTS.text}
static inline int32_t kdnas_share(int32_t left, int32_t right)
{{
    const int64_t product = (int64_t)left * right + ((int64_t)1 << {UNIT_BITS - 1}) + ((int64_t)1 << 62);
    return (int32_t)((int64_t)((uint64_t)product >> {UNIT_BITS}) - ((int64_t)1 << {62 - UNIT_BITS}));
}}

static int32_t kdnas_tanh(int32_t sum)
{{
    const uint32_t whole = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum, size = whole < {8 * ONE}u ? whole : {8 * ONE}u;
    const uint32_t knot = (size + {1 << (KNOT_BITS - 1)}u) >> {KNOT_BITS};
    const int32_t known = kdnas_knots[knot], beyond = (int32_t)size - (int32_t)(knot << {KNOT_BITS});
    const int32_t square = kdnas_share(known, known);
    int32_t slope = square - {round(ONE / 3)} + kdnas_share(kdnas_share(known, {round(2 * ONE / 3)} - square), beyond);
    slope = {ONE} + kdnas_share(kdnas_share(slope, beyond) - known, beyond);
    slope = known + kdnas_share(kdnas_share({ONE} - square, beyond), slope);
    return sum < 0 ? -slope : slope;
}}

/* Of twice what is given. */
static inline int32_t kdnas_sigmoid(int32_t half)
{{
    return (int32_t)((uint32_t)({ONE + 1} + kdnas_tanh(half)) >> 1);
}}

static inline int32_t kdnas_measure(int32_t sum, uint32_t factor, unsigned shift)
{{
    const uint64_t size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
    const uint64_t scaled = (size * factor + ((uint64_t)1 << (shift - 1u))) >> shift;
    const int32_t clipped = scaled < {GATE_LIMIT}u ? (int32_t)scaled : {GATE_LIMIT};
    return sum < 0 ? -clipped : clipped;
}}
"""

SEE_SUMS = """\
#ifdef KDNAS_TRACE
#define KDNAS_SEE_SUMS(vector, count) \\
    for (size_t seen_ = 0; seen_ < 4u * (count); seen_++) \\
    *kdnas_seen++ = (unsigned char)((uint32_t)(vector)[seen_ / 4u] >> seen_ % 4u * 8u)
#else
#define KDNAS_SEE_SUMS(vector, count) ((void)0)
#endif
"""

_INTEGER_CELL = """\
static void kdnas_gates_{bits}(const uint8_t *weights, const int32_t *biases, const uint32_t *factors, unsigned shift,
                          const kdnas_value *values, int32_t *restrict into, size_t rows, size_t columns)
{{
    const int32_t excess = {offset} * kdnas_total(values, columns); /* weights are stored as unsigned integers */
    kdnas_inputs inputs;
    kdnas_open_{bits}(&inputs, values, columns);
    for (size_t row = 0; row < rows; row += KDNAS_TILE) {{
        const size_t count = rows - row < KDNAS_TILE ? rows - row : KDNAS_TILE;
        int32_t sums[KDNAS_TILE];
        kdnas_sums_{bits}(weights, &inputs, sums, row, count, rows, columns);
        for (size_t i = 0; i < count; i++)
            into[row + i] = kdnas_measure(biases[row + i] + sums[i] - excess, factors[row + i], shift);
    }}
}}

/* The next state from the sums of gates and the state before, both counted from their lowest integer. */
static void kdnas_cell_{bits}(const uint8_t *weights, const int32_t *biases, const uint32_t *factors, unsigned shift,
                         unsigned bits, const int32_t *gates, const kdnas_value *held, kdnas_value *restrict into,
                         size_t units)
{{
    const int32_t excess = {offset} * kdnas_total(held, units), zero = (int32_t)1 << (bits - 1u);
    const unsigned drop = {unit_bits}u + 1u - bits;
    kdnas_inputs inputs;
    kdnas_open_{bits}(&inputs, held, units);
    for (size_t unit = 0; unit < units; unit += KDNAS_TILE) {{
        const size_t count = units - unit < KDNAS_TILE ? units - unit : KDNAS_TILE;
        int32_t sums[3][KDNAS_TILE];
        for (size_t gate = 0; gate < 3u; gate++) {{
            const size_t row = gate * units + unit;
            kdnas_sums_{bits}(weights, &inputs, sums[gate], row, count, 3u * units, units);
            for (size_t i = 0; i < count; i++)
                sums[gate][i] = kdnas_measure(biases[row + i] + sums[gate][i] - excess, factors[row + i], shift);
        }}
        for (size_t i = 0; i < count; i++) {{
            const size_t at = unit + i;
            const int32_t reset = kdnas_sigmoid(gates[at] + sums[0][i]);
            const int32_t update = kdnas_sigmoid(gates[units + at] + sums[1][i]);
            const int32_t candidate = kdnas_tanh(gates[2u * units + at] + kdnas_share(reset, sums[2][i]));
            const int32_t before = ((int32_t)held[at] - zero) * ((int32_t)1 << drop);
            const int32_t mixed = candidate + kdnas_share(update, before - candidate);
            const uint32_t whole = (uint32_t)(mixed + {one}) + ((uint32_t)1 << (drop - 1u)), above = whole >> drop;
            const uint32_t steps = above - (whole == above << drop ? above & 1u : 0u); /* half to even */
            into[at] = (kdnas_value)(steps < 2u * (uint32_t)zero ? steps : 2u * (uint32_t)zero - 1u);
        }}
    }}
}}
"""

FLOAT_CELL = """\
static inline float kdnas_sigmoidf(float sum)
{
    return 1.0f / (1.0f + expf(-sum));
}

/* The next state from the sums of gates and the state before. */
static void kdnas_cell(const float *weights, const float *biases, const float *gates, const float *held,
                       float *restrict into, size_t units)
{
    for (size_t unit = 0; unit < units; unit += 16u) {
        const size_t count = units - unit < 16u ? units - unit : 16u;
        float sums[3][16];
        for (size_t gate = 0; gate < 3u; gate++) {
            const size_t row = gate * units + unit;
            for (size_t i = 0; i < count; i++)
                sums[gate][i] = biases[row + i];
            for (size_t column = 0; column < units; column++) {
                const float *const weight = weights + column * 3u * units + row;
                for (size_t i = 0; i < count; i++)
                    sums[gate][i] += weight[i] * held[column];
            }
        }
        for (size_t i = 0; i < count; i++) {
            const size_t at = unit + i;
            const float reset = kdnas_sigmoidf(gates[at] + sums[0][i]);
            const float update = kdnas_sigmoidf(gates[units + at] + sums[1][i]);
            const float candidate = tanhf(gates[2u * units + at] + reset * sums[2][i]);
            into[at] = candidate + update * (held[at] - candidate);
        }
    }
}
"""


def integer_cell(bits: int) -> str:
    """What a GRU with weights of these bits needs."""
    return _INTEGER_CELL.format(bits=bits, offset=1 << (bits - 1), unit_bits=UNIT_BITS, one=ONE)
