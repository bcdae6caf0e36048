// Sum of squares in f64, where the square of an f32 is exact: parts of 65,536 numbers, each in sixteen lanes added in
// order. The host adds the parts in order.

#include "shared/lanes.cuh"

constexpr unsigned THREADS = 256;
constexpr size_t PART = 65536;

extern "C" __global__ void __launch_bounds__(THREADS) sums_of_squares(const float* x, size_t n, double* parts) {
    const size_t part = (size_t(blockIdx.x) * THREADS + threadIdx.x) / lanes::LANES;
    const size_t end = (part + 1) * PART < n ? (part + 1) * PART : n;
    double lane = 0.0;
    for (size_t i = part * PART + threadIdx.x % lanes::LANES; i < end; i += lanes::LANES) {
        const double number = x[i];
        lane = __fma_rn(number, number, lane);
    }
    const double sum = lanes::in_order(lane);
    if (part * PART < n && threadIdx.x % lanes::LANES == 0) parts[part] = sum;
}
