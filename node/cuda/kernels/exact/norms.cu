// Norms along a row, sixteen threads a row.
//
//   LayerNorm  y = z * weight + bias,  z = (x - mean) * r,  r = 1 / sqrt(mean((x - mean)^2) + eps)
//              dx += r * (g - mean(g) - z * mean(g * z)),  g = dy * weight
//   RMSNorm    y = (x * r) * weight,   r = 1 / sqrt(mean(x^2) + eps)
//              dx += r * g - x * r^3 * mean(g * x)
//
// Gradients of weights and biases are sums over rows: see columns.cu. They need r, and the mean, of every row, which the
// backward leaves behind.

#include "shared/lanes.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned ROWS = THREADS / lanes::LANES;

// A thread's row and lane. Threads behind the last row go along with it and write nothing: exchanges need all.
struct Place {
    unsigned row;
    unsigned lane;
    bool inside;
};

__device__ Place place(unsigned rows) {
    const unsigned row = blockIdx.x * ROWS + threadIdx.x / lanes::LANES;
    return {row < rows ? row : rows - 1, threadIdx.x % lanes::LANES, row < rows};
}

struct Moments {
    float mean;
    float inverse;
};

__device__ Moments moments_of(const float* x, unsigned width, unsigned lane, float eps) {
    const float count = static_cast<float>(width);
    float sum = 0.0f, squares = 0.0f;
    for (unsigned i = lane; i < width; i += lanes::LANES) sum = sum + x[i];
    const float mean = lanes::in_order(sum) / count;
    for (unsigned i = lane; i < width; i += lanes::LANES) squares = __fmaf_rn(x[i] - mean, x[i] - mean, squares);
    const float variance = lanes::in_order(squares) / count;
    return {mean, 1.0f / __fsqrt_rn(variance + eps)};
}

__device__ float inverse_rms(const float* x, unsigned width, unsigned lane, float eps) {
    float squares = 0.0f;
    for (unsigned i = lane; i < width; i += lanes::LANES) squares = __fmaf_rn(x[i], x[i], squares);
    return 1.0f / __fsqrt_rn(lanes::in_order(squares) / static_cast<float>(width) + eps);
}

// How much of x itself its gradient loses.
__device__ float pull(const float* x, const float* weight, const float* dy, unsigned width, unsigned lane,
                      float inverse) {
    float sum = 0.0f;
    for (unsigned i = lane; i < width; i += lanes::LANES) sum = __fmaf_rn(dy[i] * weight[i], x[i], sum);
    const float mean = lanes::in_order(sum) / static_cast<float>(width);
    return inverse * inverse * inverse * mean;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    layer_norm(const float* xs, const float* weight, const float* bias, float* ys, unsigned rows, unsigned width,
               float eps) {
    const auto [row, lane, inside] = place(rows);
    const float* x = xs + size_t(row) * width;
    float* y = ys + size_t(row) * width;
    const auto [mean, inverse] = moments_of(x, width, lane, eps);
    if (!inside) return;
    for (unsigned i = lane; i < width; i += lanes::LANES) {
        y[i] = __fmaf_rn((x[i] - mean) * inverse, weight[i], bias[i]);
    }
}

// `means` and `inverses [rows]` are left behind.
extern "C" __global__ void __launch_bounds__(THREADS)
    layer_norm_backward(const float* xs, const float* weight, const float* dys, float* dxs, float* means,
                        float* inverses, unsigned rows, unsigned width, float eps) {
    const auto [row, lane, inside] = place(rows);
    const float* x = xs + size_t(row) * width;
    const float* dy = dys + size_t(row) * width;
    float* dx = dxs + size_t(row) * width;
    const float count = static_cast<float>(width);
    const auto [mean, inverse] = moments_of(x, width, lane, eps);
    float shift = 0.0f, twist = 0.0f;
    for (unsigned i = lane; i < width; i += lanes::LANES) {
        shift = __fmaf_rn(dy[i], weight[i], shift);
        twist = __fmaf_rn(dy[i] * weight[i], (x[i] - mean) * inverse, twist);
    }
    shift = lanes::in_order(shift) / count;
    twist = lanes::in_order(twist) / count;
    if (!inside) return;
    for (unsigned i = lane; i < width; i += lanes::LANES) {
        const float normal = (x[i] - mean) * inverse;
        dx[i] = dx[i] + inverse * __fmaf_rn(-normal, twist, __fmaf_rn(dy[i], weight[i], -shift));
    }
    if (lane == 0) means[row] = mean, inverses[row] = inverse;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    rms_norm(const float* xs, const float* weight, float* ys, unsigned rows, unsigned width, float eps) {
    const auto [row, lane, inside] = place(rows);
    const float* x = xs + size_t(row) * width;
    float* y = ys + size_t(row) * width;
    const float inverse = inverse_rms(x, width, lane, eps);
    if (!inside) return;
    for (unsigned i = lane; i < width; i += lanes::LANES) y[i] = x[i] * inverse * weight[i];
}

// `inverses [rows]` are left behind.
extern "C" __global__ void __launch_bounds__(THREADS)
    rms_norm_backward(const float* xs, const float* weight, const float* dys, float* dxs, float* inverses,
                      unsigned rows, unsigned width, float eps) {
    const auto [row, lane, inside] = place(rows);
    const float* x = xs + size_t(row) * width;
    const float* dy = dys + size_t(row) * width;
    float* dx = dxs + size_t(row) * width;
    const float inverse = inverse_rms(x, width, lane, eps);
    const float loss = pull(x, weight, dy, width, lane, inverse);
    if (!inside) return;
    for (unsigned i = lane; i < width; i += lanes::LANES) {
        dx[i] = dx[i] + __fmaf_rn(dy[i] * weight[i], inverse, -(loss * x[i]));
    }
    if (lane == 0) inverses[row] = inverse;
}

// One over the root mean square of every row.
extern "C" __global__ void __launch_bounds__(THREADS)
    inverses_of(const float* xs, float* inverses, unsigned rows, unsigned width, float eps) {
    const auto [row, lane, inside] = place(rows);
    const float inverse = inverse_rms(xs + size_t(row) * width, width, lane, eps);
    if (inside && lane == 0) inverses[row] = inverse;
}

// dy becomes the gradient of x
extern "C" __global__ void __launch_bounds__(THREADS)
    rms_norm_backward_in_place(const float* xs, const float* weight, float* dys, unsigned rows, unsigned width,
                               float eps) {
    const auto [row, lane, inside] = place(rows);
    const float* x = xs + size_t(row) * width;
    float* dy = dys + size_t(row) * width;
    const float inverse = inverse_rms(x, width, lane, eps);
    const float loss = pull(x, weight, dy, width, lane, inverse);
    if (!inside) return;
    for (unsigned i = lane; i < width; i += lanes::LANES) {
        dy[i] = __fmaf_rn(dy[i] * weight[i], inverse, -(loss * x[i]));
    }
}
