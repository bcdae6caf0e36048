// Numbers as bf16, for products that a library does: nearest, ties to even, two side by side in a word.

#include "shared/tensor_core.cuh"

constexpr unsigned THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS) round_to_bf16(const float* x, size_t n, unsigned* y) {
    const size_t i = size_t(blockIdx.x) * THREADS + threadIdx.x;
    if (2 * i >= n) return;
    y[i] = pair_of(x[2 * i], 2 * i + 1 < n ? x[2 * i + 1] : 0.0f);
}
