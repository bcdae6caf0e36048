// Sums over rows, in ascending order, that go on from what stands there. A thread has a column.
//
// The order leaves nothing to do side by side within a column, so rows are read ahead in groups: what a sum waits for is
// then the arithmetic, not the memory.

constexpr unsigned THREADS = 64;
constexpr unsigned AHEAD = 16;

// Feeds `step(sum, row)` with every row in order; `read(row)` is what is read ahead.
template <class Value, class Read, class Step>
__device__ void over_rows(unsigned rows, Read read, Step step) {
    unsigned row = 0;
    for (; row + AHEAD <= rows; row += AHEAD) {
        Value values[AHEAD];
#pragma unroll
        for (unsigned i = 0; i < AHEAD; i++) values[i] = read(row + i);
#pragma unroll
        for (unsigned i = 0; i < AHEAD; i++) step(values[i]);
    }
    for (; row < rows; row++) step(read(row));
}

// sums [width] += columns of x [rows, width]
extern "C" __global__ void __launch_bounds__(THREADS)
    column_sums(const float* x, float* sums, unsigned rows, unsigned width) {
    const unsigned column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= width) return;
    float sum = sums[column];
    over_rows<float>(
        rows, [=](unsigned row) { return x[size_t(row) * width + column]; }, [&](float x) { sum = sum + x; });
    sums[column] = sum;
}

struct Pair {
    float dy, normal;
};

// dweight += dy * (x * inverse), with an inverse for every row
extern "C" __global__ void __launch_bounds__(THREADS)
    rms_weight_gradient(const float* x, const float* inverses, const float* dy, float* dweight, unsigned rows,
                        unsigned width) {
    const unsigned column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= width) return;
    float sum = dweight[column];
    over_rows<Pair>(
        rows,
        [=](unsigned row) {
            const size_t at = size_t(row) * width + column;
            return Pair{dy[at], x[at] * inverses[row]};
        },
        [&](Pair pair) { sum = __fmaf_rn(pair.dy, pair.normal, sum); });
    dweight[column] = sum;
}

// dweight += dy * ((x - mean) * inverse), dbias += dy
extern "C" __global__ void __launch_bounds__(THREADS)
    layer_norm_parameter_gradients(const float* x, const float* means, const float* inverses, const float* dy,
                                   float* dweight, float* dbias, unsigned rows, unsigned width) {
    const unsigned column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= width) return;
    float weight = dweight[column], bias = dbias[column];
    over_rows<Pair>(
        rows,
        [=](unsigned row) {
            const size_t at = size_t(row) * width + column;
            return Pair{dy[at], (x[at] - means[row]) * inverses[row]};
        },
        [&](Pair pair) {
            weight = __fmaf_rn(pair.dy, pair.normal, weight);
            bias = bias + pair.dy;
        });
    dweight[column] = weight;
    dbias[column] = bias;
}
