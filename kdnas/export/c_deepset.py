"""Networks over sets of entities in C."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdnas.export.c_kernels import FLOAT, OTHER, OUTPUT
from kdnas.export.c_network import (
    Network,
    Reading,
    Table,
    Vector,
    copy_inputs,
    dense_tables,
    integer_tables,
    kernel,
    layer_call,
    quantize_inputs,
)
from kdnas.policies.arrays import Floats
from kdnas.students.activation import RELU
from kdnas.students.deepset import DeepSet
from kdnas.students.integer_deepset import IntegerDeepSet

_INTEGER_MEAN = """\
/* The mean of what a layer makes of each of `members` rows of values, counted from the lowest integer. */
static void kdnas_mean_{bits}(const uint8_t *weights, const int32_t *biases, const uint32_t *factors, unsigned shift,
                         uint32_t limit, const kdnas_value *values, kdnas_value *restrict into, size_t rows,
                         size_t columns, uint32_t members)
{{
    const uint64_t half = (uint64_t)1 << (shift - 1u);
    const uint32_t zero = (limit + 1u) / 2u;
    for (size_t row = 0; row < rows; row += KDNAS_TILE) {{
        const size_t count = rows - row < KDNAS_TILE ? rows - row : KDNAS_TILE;
        uint32_t totals[KDNAS_TILE] = {{0}};
        for (size_t member = 0; member < members; member++) {{
            const kdnas_value *const own = values + member * columns;
            const int32_t excess = {offset} * kdnas_total(own, columns); /* weights are stored as unsigned integers */
            int32_t sums[KDNAS_TILE];
            kdnas_inputs inputs;
            kdnas_open_{bits}(&inputs, own, columns);
            kdnas_sums_{bits}(weights, &inputs, sums, row, count, rows, columns);
            for (size_t i = 0; i < count; i++) {{
                const int32_t sum = biases[row + i] + sums[i] - excess;
                const uint64_t product = (uint64_t)(uint32_t)(sum > 0 ? sum : 0) * factors[row + i];
                const uint32_t rounded = (uint32_t)((product + half) >> shift);
                totals[i] += rounded < limit ? rounded : limit;
            }}
        }}
        for (size_t i = 0; i < count; i++) {{
            const uint32_t total = totals[i] + members, above = total / (2u * members);
            const uint32_t steps = above - (total % (2u * members) == 0u ? above & 1u : 0u); /* half to even */
            into[row + i] = (kdnas_value)(zero + (steps < zero ? steps : zero - 1u));
        }}
    }}
}}
"""

_FLOAT_MEAN = """\
/* The mean of what a layer with ReLU makes of each of `members` rows of values. */
static void kdnas_mean(const float *weights, const float *biases, const float *values, float *restrict into,
                       size_t rows, size_t columns, size_t members)
{
    for (size_t row = 0; row < rows; row++) {
        float total = 0.0f;
        for (size_t member = 0; member < members; member++) {
            float sum = biases[row];
            for (size_t column = 0; column < columns; column++)
                sum += weights[column * rows + row] * values[member * columns + column];
            total += sum > 0.0f ? sum : 0.0f;
        }
        into[row] = total / (float)members;
    }
}
"""


class FloatDeepSetC(Network):
    """Columns of weights in float32; one set is read after the other."""

    parts = (_FLOAT_MEAN,)

    def __init__(self, network: DeepSet) -> None:
        self.index = tuple(network.sets.index.tolist())
        self._own, self._encoding, self._shapes = network.sets.own, network.sets.encoding, network.sets.shapes
        self._encoders, self._layers = (
            [(linear.weight.detach().numpy(), linear.bias.detach().numpy()) for linear in linears]
            for linears in ([*network.encoders], [*network.linears])
        )
        self.kernels = [(RELU.name, FLOAT), (OUTPUT, FLOAT)]
        self.vectors = [
            Vector(entries=max(count * width for count, width in self._shapes)),
            *(Vector(entries=weights.shape[1]) for weights, _ in self._layers),
        ]
        seen = sum(count * width for count, width in self._shapes)
        self.traced = 4 * (seen + sum(vector.entries for vector in self.vectors[1:]))

    def tables(self, name: str) -> list[Table]:
        named = {f"set_{index}": layer for index, layer in enumerate(self._encoders)}
        named |= {str(index): layer for index, layer in enumerate(self._layers)}
        return [table for index, layer in named.items() for table in dense_tables(name, index, *layer)]

    def calls(self, name: str, vectors: Sequence[str], *, reading: Reading) -> list[str]:
        seen, pooled = vectors[:2]
        lines = copy_inputs(pooled, self._own, reading) if self._own else []
        begin, into = self._own, self._own
        for index, (count, width) in enumerate(self._shapes):
            tables = f"{name}_weights_set_{index}, {name}_biases_set_{index}"
            lines += copy_inputs(seen, count * width, reading, begin)
            lines.append(f"KDNAS_SEE_FLOATS({seen}, {count * width}u);")
            lines.append(f"kdnas_mean({tables}, {seen}, {pooled} + {into}, {self._encoding}u, {width}u, {count}u);")
            begin, into = begin + count * width, into + self._encoding
        for index, (weights, _) in enumerate(self._layers):
            rows, columns = weights.shape
            tables = f"{name}_weights_{index}, {name}_biases_{index}"
            ends = f"{vectors[index + 1]}, {vectors[index + 2]}"
            lines.append(f"KDNAS_SEE_FLOATS({vectors[index + 1]}, {columns}u);")
            lines.append(f"kdnas_dense({tables}, {ends}, {rows}u, {columns}u);")
            if index < len(self._layers) - 1:
                lines.append(f"kdnas_relu({vectors[index + 2]}, {rows}u);")
        return lines

    def step(self, inputs: Floats, state: NDArray[Any] | None) -> tuple[NDArray[Any], Floats, None]:
        features, begin = inputs[:, list(self.index or ())], self._own
        pooled, seen = [features[:, :begin]], []
        for (weights, biases), (count, width) in zip(self._encoders, self._shapes, strict=True):
            seen.append(features[:, begin : begin + count * width])
            encoded = np.maximum(seen[-1].reshape(-1, width) @ weights.T + biases, 0)
            pooled.append(encoded.reshape(len(inputs), count, -1).mean(1))
            begin += count * width
        seen.append(np.concatenate(pooled, 1))
        for weights, biases in self._layers[:-1]:
            seen.append(np.maximum(seen[-1] @ weights.T + biases, 0))
        weights, biases = self._layers[-1]
        return np.concatenate(seen, 1), seen[-1] @ weights.T + biases, None


class IntegerDeepSetC(Network):
    """Packed integers; own features and means are counted from their lowest integer."""

    integer = True
    value = "kdnas_value"

    def __init__(self, integers: IntegerDeepSet) -> None:
        self._integers = integers
        self.index, widths = integers.index, {each.encoder.bits for each in integers.sets}
        self.kernels = [kernel(layer, RELU.name) for layer in integers.layers] + [(OTHER, bits) for bits in widths]
        self.parts = [_INTEGER_MEAN.format(bits=bits, offset=1 << (bits - 1)) for bits in widths]
        sizes = [each.members * len(each.inputs.factors) for each in integers.sets]
        layers = [layer.weights.shape[1] for layer in integers.layers]
        self.vectors = [Vector(entries=size) for size in (max(sizes), *layers)]
        self.traced = sum(sizes) + sum(layers)

    def tables(self, name: str) -> list[Table]:
        own, sets = self._integers.own, self._integers.sets
        steps = np.concatenate([own.factors, *(each.inputs.factors for each in sets)])
        tables = [Table(name=f"{name}_input_steps", kind="float", values=steps)]
        for index, each in enumerate(sets):
            tables += integer_tables(name, f"set_{index}", each.encoder, each.inputs.limits[0])
        for index, layer in enumerate(self._integers.layers):
            lowest = own.limits[0] if index == 0 else 0
            tables += integer_tables(name, str(index), layer, lowest)
        return tables

    def calls(self, name: str, vectors: Sequence[str], *, reading: Reading) -> list[str]:
        integers, (seen, pooled) = self._integers, vectors[:2]
        begin = into = step = len(integers.own.factors)
        lines = quantize_inputs(pooled, into, f"{name}_input_steps[i]", integers.own, reading) if into else []
        for index, each in enumerate(integers.sets):
            (rows, width), encoder = each.encoder.weights.shape, each.encoder
            count = each.members * width
            place = f"{step}u + i % {width}u" if step else f"i % {width}u"
            tables = f"{name}_weights_set_{index}, {name}_biases_set_{index}, {name}_factors_set_{index}"
            lines += [
                *quantize_inputs(seen, count, f"{name}_input_steps[{place}]", each.inputs, reading, begin),
                f"KDNAS_SEE_VALUES({seen}, {count}u);",
                f"kdnas_mean_{encoder.bits}({tables}, {encoder.shift}u, {encoder.limit}u, {seen}, {pooled} + {into}, "
                f"{rows}u, {width}u, {each.members}u);",
            ]
            begin, into, step = begin + count, into + rows, step + width
        for index, layer in enumerate(integers.layers):
            lines.append(f"KDNAS_SEE_VALUES({vectors[index + 1]}, {layer.weights.shape[1]}u);")
            ends = f"{vectors[index + 1]}, {vectors[index + 2]}"
            lines.append(layer_call(name, str(index), layer, RELU.name, ends))
        return lines

    def step(self, inputs: Floats, state: NDArray[Any] | None) -> tuple[NDArray[Any], Floats, None]:
        *read, sums = self._integers.vectors(inputs)
        lowest = [each.inputs.limits[0] for each in self._integers.sets] + [self._integers.own.limits[0]]
        lowest += [0] * (len(read) - len(lowest))
        vectors = [vector - least for vector, least in zip(read, lowest, strict=True)]
        return np.concatenate(vectors, 1).astype(np.uint8), self._integers.layers[-1].read(sums), None
