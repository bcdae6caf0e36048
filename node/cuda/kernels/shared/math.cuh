// Exponential, logistic function, logarithm and normal distribution in f32: the bits of `cpu/math` of the trainer, where
// errors and sources stand. Every operation is one that IEEE defines; the compiler is told to contract nothing.
#pragma once

namespace math {

constexpr float LN_2 = 0.693147180559945309417232121458176568f;
constexpr float LOG2_E = 1.44269504088896340735992468100189214f;
// what LN_2 lacks to the logarithm of two
constexpr float LN_2_REST = -1.9046543e-9f;
// adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits
constexpr float MAGIC = 12582912.0f;
constexpr unsigned INFINITE = 0x7f800000u;

__device__ float power_of_two(int n) { return __uint_as_float(static_cast<unsigned>(n + 127) << 23); }

// e to the power of x
__device__ float exp(float x) {
    // keeps a NaN
    if (x < -104.0f) x = -104.0f;
    if (x > 89.0f) x = 89.0f;
    const float shifted = __fmaf_rn(x, LOG2_E, MAGIC);
    const float n = shifted - MAGIC;
    const float high = __fmaf_rn(n, -LN_2, x);
    const float low = n * -LN_2_REST;
    const float r = high + low;
    float q = 0.0013814286f;
    q = __fmaf_rn(q, r, 0.008368854f);
    q = __fmaf_rn(q, r, 0.0416684f);
    q = __fmaf_rn(q, r, 0.1666652f);
    q = __fmaf_rn(q, r, 0.49999993f);
    const float p = 1.0f + (high + __fmaf_rn(q, r * r, low));
    // two factors, so that a subnormal result is rounded once and 2^128 is no obstacle
    const int power = static_cast<int>(__float_as_uint(shifted) - __float_as_uint(MAGIC));
    const int half = power >> 1;
    return p * power_of_two(half) * power_of_two(power - half);
}

// 1 / (1 + exp(-x))
__device__ float sigmoid(float x) {
    const float e = exp(x < 0.0f ? x : -x);
    const float numerator = x < 0.0f ? e : 1.0f;
    return numerator / (1.0f + e);
}

// The natural logarithm; minus infinity of zero, NaN of a negative number.
__device__ float ln(float x) {
    const bool small = x < 1.17549435e-38f;
    const float lifted = small ? x * 8388608.0f : x;
    const unsigned above = __float_as_uint(lifted) - 0x3f3504f3u;
    const float n = static_cast<float>(static_cast<int>(above) >> 23) - (small ? 23.0f : 0.0f);
    const float f = __uint_as_float((above & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    float p = 0.06747417f;
    p = __fmaf_rn(p, f, -0.11676583f);
    p = __fmaf_rn(p, f, 0.118883006f);
    p = __fmaf_rn(p, f, -0.12405419f);
    p = __fmaf_rn(p, f, 0.14219507f);
    p = __fmaf_rn(p, f, -0.16668006f);
    p = __fmaf_rn(p, f, 0.20002122f);
    p = __fmaf_rn(p, f, -0.2500001f);
    p = __fmaf_rn(p, f, 0.33333313f);
    const float bend = (f * f) * __fmaf_rn(p, f, -0.5f);
    // n ln 2 and its sum with f, each with what its rounding lost
    const float whole = n * LN_2;
    const float whole_rest = __fmaf_rn(n, LN_2_REST, __fmaf_rn(n, LN_2, -whole));
    const float sum = whole + f;
    const float sum_rest = f - (sum - whole);
    const float infinity = __uint_as_float(INFINITE);
    float result = sum + (sum_rest + (bend + whole_rest));
    result = x < infinity ? result : infinity;
    const float of_nothing = x == 0.0f ? -infinity : __uint_as_float(0x7fc00000u);
    return x > 0.0f ? result : of_nothing;
}

// The standard normal distribution function of x, and its density.
__device__ void normal(float x, float& distribution, float& density) {
    float z = x < 0.0f ? -x : x;
    // keeps a NaN
    z = z > 15.0f ? 15.0f : z;
    const float square = z * z;
    const float rest = __fmaf_rn(z, z, -square);
    float e = exp(-0.5f * square);
    e = __fmaf_rn(e, -0.5f * rest, e);
    float p = 0.0041520193f;
    p = __fmaf_rn(p, z, 0.04087338f);
    p = __fmaf_rn(p, z, 0.1839468f);
    p = __fmaf_rn(p, z, 0.43925434f);
    p = __fmaf_rn(p, z, 0.5f);
    float q = 0.010407457f;
    q = __fmaf_rn(q, z, 0.10246049f);
    q = __fmaf_rn(q, z, 0.47134957f);
    q = __fmaf_rn(q, z, 1.2054572f);
    q = __fmaf_rn(q, z, 1.6763937f);
    q = __fmaf_rn(q, z, 1.0f);
    const float tail = e * (p / q);
    distribution = x < 0.0f ? tail : 1.0f - tail;
    density = e * 0.3989423f;
}

}  // namespace math
