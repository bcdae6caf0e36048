// Rows of tables, copied and added. A block has a row that is written, so that no two write the same number.

#include "shared/half.cuh"

constexpr unsigned THREADS = 128;

// to[to_rows[b]] = from[from_rows[b]], for block b
template <typename Number>
__device__ void copy(const Number* from, const unsigned* from_rows, float* to, const unsigned* to_rows, unsigned width) {
    const Number* source = from + size_t(from_rows[blockIdx.x]) * width;
    float* target = to + size_t(to_rows[blockIdx.x]) * width;
    for (unsigned i = threadIdx.x; i < width; i += THREADS) target[i] = number_of(source[i]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    copy_rows(const float* from, const unsigned* from_rows, float* to, const unsigned* to_rows, unsigned width) {
    copy(from, from_rows, to, to_rows, width);
}

// the same from a table of halves
extern "C" __global__ void __launch_bounds__(THREADS)
    copy_rows_half(const Half* from, const unsigned* from_rows, float* to, const unsigned* to_rows, unsigned width) {
    copy(from, from_rows, to, to_rows, width);
}

// to[to_rows[b]] += from[from_rows[m]], for block b and its moves m from firsts[b] up to firsts[b + 1], in order
extern "C" __global__ void __launch_bounds__(THREADS)
    add_rows(const float* from, const unsigned* from_rows, float* to, const unsigned* to_rows, const unsigned* firsts,
             unsigned width) {
    float* target = to + size_t(to_rows[blockIdx.x]) * width;
    const unsigned first = firsts[blockIdx.x], end = firsts[blockIdx.x + 1];
    for (unsigned i = threadIdx.x; i < width; i += THREADS) {
        float sum = target[i];
        for (unsigned m = first; m < end; m++) sum = sum + from[size_t(from_rows[m]) * width + i];
        target[i] = sum;
    }
}
