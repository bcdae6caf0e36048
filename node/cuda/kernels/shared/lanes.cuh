// Sums along a row, of the exact class's shape: element i goes to lane i mod 16 in ascending order, then the lanes are
// added in ascending order.
//
// Sixteen neighbouring threads have one row, a lane each: half a warp.
#pragma once

namespace lanes {

constexpr unsigned LANES = 16;

// The sum of sixteen lanes in order. All threads of the warp take part; each gets its own row's sum.
template <class T>
__device__ T in_order(T lane) {
    T total = __shfl_sync(0xffffffffu, lane, 0, LANES);
#pragma unroll
    for (int i = 1; i < static_cast<int>(LANES); i++) total = total + __shfl_sync(0xffffffffu, lane, i, LANES);
    return total;
}

// The larger one; a NaN is passed over.
__device__ float larger(float a, float b) { return b > a ? b : a; }

// The largest of sixteen lanes, in order.
__device__ float largest(float lane) {
    float found = __uint_as_float(0xff800000u);
#pragma unroll
    for (int i = 0; i < static_cast<int>(LANES); i++) {
        found = larger(found, __shfl_sync(0xffffffffu, lane, i, LANES));
    }
    return found;
}

}  // namespace lanes
