// Additions, activations and AdamW: every number by itself.

#include "shared/math.cuh"

constexpr unsigned THREADS = 256;

__device__ size_t own_number() { return size_t(blockIdx.x) * THREADS + threadIdx.x; }

// y += x
extern "C" __global__ void __launch_bounds__(THREADS) add(const float* x, float* y, size_t n) {
    const size_t i = own_number();
    if (i < n) y[i] = y[i] + x[i];
}

// y = x * Phi(x)
extern "C" __global__ void __launch_bounds__(THREADS) gelu(const float* x, float* y, size_t n) {
    const size_t i = own_number();
    if (i >= n) return;
    float distribution, density;
    math::normal(x[i], distribution, density);
    y[i] = x[i] * distribution;
}

// dy becomes the gradient of x
extern "C" __global__ void __launch_bounds__(THREADS) gelu_backward(const float* x, float* dy, size_t n) {
    const size_t i = own_number();
    if (i >= n) return;
    float distribution, density;
    math::normal(x[i], distribution, density);
    dy[i] = dy[i] * __fmaf_rn(x[i], density, distribution);
}

// y = silu(gate) * up
extern "C" __global__ void __launch_bounds__(THREADS)
    swiglu(const float* gate, const float* up, float* y, size_t n) {
    const size_t i = own_number();
    if (i < n) y[i] = gate[i] * math::sigmoid(gate[i]) * up[i];
}

// gate and up become their gradients
extern "C" __global__ void __launch_bounds__(THREADS)
    swiglu_backward(float* gate, float* up, const float* dy, size_t n) {
    const size_t i = own_number();
    if (i >= n) return;
    const float s = math::sigmoid(gate[i]);
    const float silu = gate[i] * s;
    const float slope = s * __fmaf_rn(gate[i], 1.0f - s, 1.0f);
    gate[i] = dy[i] * up[i] * slope;
    up[i] = dy[i] * silu;
}

// One AdamW step in place, nothing fused, products from the left.
extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(const float* gradient, float* first, float* second, float* parameter, size_t n, float beta1, float beta2,
          float epsilon, float step_size, float root_correction, float gradient_factor, float keep) {
    const size_t i = own_number();
    if (i >= n) return;
    const float fresh1 = 1.0f - beta1, fresh2 = 1.0f - beta2;
    const float g = gradient_factor * gradient[i];
    const float m = beta1 * first[i] + fresh1 * g;
    const float v = beta2 * second[i] + fresh2 * g * g;
    first[i] = m;
    second[i] = v;
    parameter[i] = parameter[i] * keep - step_size * (m / (__fsqrt_rn(v) / root_correction + epsilon));
}
