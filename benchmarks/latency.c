/* What `latency.py` compares with: loops that time a step, an 18-64-64-5 perceptron written for this shape, and one on
 * BLAS. Compiled with -O3 -march=native; the generated C is not. */
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

typedef void step_t(const float *observation, int32_t *action, float *outputs);
typedef void gemv_t(int order, int transpose, int rows, int columns, float alpha, const float *matrix, int stride,
                    const float *vector, int step, float beta, float *into, int into_step);

/* Nanoseconds a call, of `calls` on the rows in turn. */
double time_step(step_t *step, const float *observations, size_t rows, size_t columns, size_t calls)
{
    struct timespec begin, end;
    volatile int32_t kept = 0;
    int32_t action[1];
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t call = 0; call < calls; call++) {
        step(observations + call % rows * columns, action, NULL);
        kept += action[0];
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / (double)calls;
}

/* Columns of weights one after the other (18 x 64, 64 x 64, 64 x 8, the last three rows empty), and biases. */
static float first[18 * 64], second[64 * 64], third[64 * 8], biases[64 + 64 + 8];
static gemv_t *gemv;

void fill(const float *weights_0, const float *weights_1, const float *weights_2, const float *all, gemv_t *blas)
{
    memcpy(first, weights_0, sizeof first);
    memcpy(second, weights_1, sizeof second);
    memcpy(third, weights_2, sizeof third);
    memcpy(biases, all, sizeof biases);
    gemv = blas;
}

static inline void layer(const float *weights, const float *bias, const float *from, float *restrict into, int rows,
                         int columns)
{
    float sums[64] = {0};
    for (int row = 0; row < rows; row++)
        sums[row] = bias[row];
    for (int column = 0; column < columns; column++)
        for (int row = 0; row < rows; row++)
            sums[row] += weights[column * rows + row] * from[column];
    for (int row = 0; row < rows; row++)
        into[row] = sums[row];
}

static inline void relu(float *values)
{
    for (int i = 0; i < 64; i++)
        values[i] = values[i] > 0.0f ? values[i] : 0.0f;
}

static inline int32_t best(const float *logits)
{
    int32_t most = 0;
    for (int i = 1; i < 5; i++)
        most = logits[i] > logits[most] ? i : most;
    return most;
}

void tuned_step(const float *observation, int32_t *action, float *outputs)
{
    float one[64], two[64], last[8];
    (void)outputs;
    layer(first, biases, observation, one, 64, 18);
    relu(one);
    layer(second, biases + 64, one, two, 64, 64);
    relu(two);
    layer(third, biases + 128, two, last, 8, 64);
    *action = best(last);
}

void blas_step(const float *observation, int32_t *action, float *outputs)
{
    float one[64], two[64], last[8];
    (void)outputs;
    memcpy(one, biases, sizeof one);
    memcpy(two, biases + 64, sizeof two);
    memcpy(last, biases + 128, sizeof last);
    gemv(102, 111, 64, 18, 1.0f, first, 64, observation, 1, 1.0f, one, 1); /* by columns, as they stand */
    relu(one);
    gemv(102, 111, 64, 64, 1.0f, second, 64, one, 1, 1.0f, two, 1);
    relu(two);
    gemv(102, 111, 8, 64, 1.0f, third, 8, two, 1, 1.0f, last, 1);
    *action = best(last);
}
