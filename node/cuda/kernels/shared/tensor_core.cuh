// One multiplication of a tensor core, and the numbers that it takes: bf16 in, f32 sums.
//
//   d [16, 8] = a [16, 16] * b [16, 8] + d        by the 32 lanes of a warp together (PTX: mma.m16n8k16)
//
// A lane holds, with g = lane / 4 and t = lane % 4:
//   a[0]: row g,     columns 2t, 2t+1        a[2]: row g,     columns 2t+8, 2t+9
//   a[1]: row g + 8, columns 2t, 2t+1        a[3]: row g + 8, columns 2t+8, 2t+9
//   b[0]: rows 2t, 2t+1 of column g          b[1]: rows 2t+8, 2t+9 of column g
//   d[0], d[1]: row g, columns 2t, 2t+1      d[2], d[3]: row g + 8, the same columns
// Two bf16 share a register, the one of the lower index in the lower half.
//
// How a tensor core rounds inside is its own affair and differs between generations: that is why these numbers belong to
// the class `fast`. The emulation adds in f32, in ascending order.
#pragma once

#include "shared/half.cuh"

// Nearest, ties to even; what is not a number stays so.
__device__ unsigned bf16_of(float x) {
    const unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

// Two numbers as one register.
__device__ unsigned pair_of(float low, float high) {
#ifdef TALKOOT_EMULATED
    return bf16_of(low) | bf16_of(high) << 16;
#else
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

__device__ float low_of(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ float high_of(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

__device__ void multiply_add(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef TALKOOT_EMULATED
    struct Mine {
        unsigned a[4], b[2];
    };
    const Mine mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    Mine all[emulator::LANES];
    emulator::gather(mine, all);
    const unsigned g = emulator::own_lane() / 4, t = emulator::own_lane() % 4;
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = g, column = 2 * t + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            const unsigned from = k % 8 / 2, upper = k / 8;
            const unsigned left = all[row * 4 + from].a[2 * upper + i / 2], right = all[column * 4 + from].b[upper];
            d[i] += k % 2 ? high_of(left) * high_of(right) : low_of(left) * low_of(right);
        }
    }
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// A matrix of bf16 in shared memory, rows of `STRIDE` numbers. With a stride of eight more than a multiple of 64 the
// lanes of a warp meet different banks in all three ways of reading.

// `a`: rows `row` to `row + 15`, columns `column` to `column + 15`.
template <unsigned STRIDE>
__device__ void load_left(const Half* matrix, unsigned row, unsigned column, unsigned (&a)[4]) {
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const Half* at = matrix + (row + g) * STRIDE + column + 2 * t;
    a[0] = *reinterpret_cast<const unsigned*>(at);
    a[1] = *reinterpret_cast<const unsigned*>(at + 8 * STRIDE);
    a[2] = *reinterpret_cast<const unsigned*>(at + 8);
    a[3] = *reinterpret_cast<const unsigned*>(at + 8 * STRIDE + 8);
}

// `b` turned over: its columns are rows `row` to `row + 7` of the matrix, its inner index the columns from `column` on.
template <unsigned STRIDE>
__device__ void load_right(const Half* matrix, unsigned row, unsigned column, unsigned (&b)[2]) {
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const Half* at = matrix + (row + g) * STRIDE + column + 2 * t;
    b[0] = *reinterpret_cast<const unsigned*>(at);
    b[1] = *reinterpret_cast<const unsigned*>(at + 8);
}

// `b` as it stands: its inner index are rows `row` to `row + 15`, its columns those from `column` on.
template <unsigned STRIDE>
__device__ void load_right_as_is(const Half* matrix, unsigned row, unsigned column, unsigned (&b)[2]) {
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const Half* at = matrix + (row + 2 * t) * STRIDE + column + g;
    b[0] = at[0] | unsigned(at[STRIDE]) << 16;
    b[1] = at[8 * STRIDE] | unsigned(at[9 * STRIDE]) << 16;
}
