// The part of CUDA that our kernels use, for a C++ compiler: words of the language, built-in variables and functions.
//
// Arithmetic is the processor's, which rounds as the standard says, as NVIDIA's does without -use_fast_math.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "launch.h"

#define TALKOOT_EMULATED 1

#define __global__
#define __device__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __host__
#define __constant__ static const
#define __forceinline__ __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
// variables of an operating system's thread stand together, which lets the runtime find them and fill them with poison
// before every block
#define __shared__ static __thread

#define threadIdx (emulator::block.current->index)
#define blockIdx (emulator::block.index)
#define blockDim (emulator::block.size)
#define gridDim (emulator::block.grid)

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline void __syncthreads() { emulator::block_barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) { emulator::warp_barrier(); }

inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }

template <class To, class From>
inline To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits of the same number");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float x) { return emulated_bits<unsigned>(x); }
inline int __float_as_int(float x) { return emulated_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return emulated_bits<float>(x); }
inline float __int_as_float(int x) { return emulated_bits<float>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }

template <class T>
inline T __ldg(const T* at) {
    return *at;
}
template <class T>
inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
inline T max(T a, T b) {
    return a < b ? b : a;
}

// Exchanges inside a warp. Only whole warps take part.
inline void emulated_whole_warp(unsigned mask) {
    if (mask != 0xffffffffu) emulator::fail("an exchange of part of a warp is not emulated: mask %08x", mask);
}
template <class T>
inline T emulated_exchange(unsigned mask, T mine, unsigned lane) {
    static_assert(sizeof(T) <= 8, "a lane shows at most eight bytes");
    emulated_whole_warp(mask);
    uint64_t bits = 0;
    memcpy(&bits, &mine, sizeof mine);
    const uint64_t* shown = emulator::show(bits);
    T other;
    memcpy(&other, &shown[lane], sizeof other);
    return other;
}
template <class T>
inline T __shfl_sync(unsigned mask, T mine, int lane, int width = 32) {
    const unsigned own = emulator::own_lane();
    return emulated_exchange(mask, mine, own / width * width + static_cast<unsigned>(lane) % width);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T mine, int with, int = 32) {
    return emulated_exchange(mask, mine, emulator::own_lane() ^ static_cast<unsigned>(with));
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T mine, unsigned by, int width = 32) {
    const unsigned own = emulator::own_lane();
    return emulated_exchange(mask, mine, own % width + by < static_cast<unsigned>(width) ? own + by : own);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T mine, unsigned by, int width = 32) {
    const unsigned own = emulator::own_lane();
    return emulated_exchange(mask, mine, own % width >= by ? own - by : own);
}
inline unsigned __ballot_sync(unsigned mask, int mine) {
    emulated_whole_warp(mask);
    const uint64_t* shown = emulator::show(mine != 0);
    const unsigned threads = emulator::block.threads, first = emulator::block.current->number / 32 * 32;
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32 && first + lane < threads; lane++) votes |= unsigned(shown[lane]) << lane;
    return votes;
}
inline int __any_sync(unsigned mask, int mine) { return __ballot_sync(mask, mine) != 0; }
inline int __all_sync(unsigned mask, int mine) { return __ballot_sync(mask, !mine) == 0; }

// One thread runs at a time, so a plain addition is atomic.
template <class T>
inline T atomicAdd(T* at, T x) {
    const T before = *at;
    *at = before + x;
    return before;
}
