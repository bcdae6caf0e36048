// Loss of a row of logits, which become their own gradient where that is wanted. A block has a row.
//
//   l = ln sum_j exp(z_j - m) + m - z_t      dz_j = scale (exp(z_j - m) / sum - [j = t])      m = max_j z_j
//
// The sum goes in parts of 4,096, each in sixteen lanes added in order, the parts in order. Sixteen parts go at a time, a
// thread for each part and lane.

#include "shared/lanes.cuh"
#include "shared/math.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned PART = 4096;
constexpr unsigned PARTS = THREADS / lanes::LANES;

extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy(float* logits, const unsigned* targets, const float* scales, float* losses, unsigned width,
                  unsigned differentiate) {
    __shared__ float room[THREADS];
    __shared__ float sums[PARTS];
    float* z = logits + size_t(blockIdx.x) * width;
    const unsigned target = targets[blockIdx.x];
    const unsigned lane = threadIdx.x % lanes::LANES, part = threadIdx.x / lanes::LANES;

    float largest = __uint_as_float(0xff800000u);
    for (unsigned i = threadIdx.x; i < width; i += THREADS) largest = lanes::larger(largest, z[i]);
    room[threadIdx.x] = largest;
    __syncthreads();
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) room[threadIdx.x] = lanes::larger(room[threadIdx.x], room[threadIdx.x + half]);
        __syncthreads();
    }
    largest = room[0];
    const float wanted = z[target] - largest;

    // every thread adds up the same total
    float total = 0.0f;
    const unsigned parts = (width + PART - 1) / PART;
    for (unsigned first = 0; first < parts; first += PARTS) {
        __syncthreads();
        const size_t start = size_t(first + part) * PART;
        const size_t end = start + PART < width ? start + PART : width;
        float sum = 0.0f;
        for (size_t i = start + lane; i < end; i += lanes::LANES) {
            const float e = math::exp(z[i] - largest);
            z[i] = e;
            sum = sum + e;
        }
        sum = lanes::in_order(sum);
        if (lane == 0) sums[part] = sum;
        __syncthreads();
        for (unsigned i = 0; i < PARTS && first + i < parts; i++) total = total + sums[i];
    }

    if (differentiate) {
        __syncthreads();
        const float scale = scales[blockIdx.x];
        const float share = scale / total;
        for (unsigned i = threadIdx.x; i < width; i += THREADS) {
            const float gradient = z[i] * share;
            z[i] = i == target ? gradient - scale : gradient;
        }
    }
    if (threadIdx.x == 0) losses[blockIdx.x] = math::ln(total) - wanted;
}
