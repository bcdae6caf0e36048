// What attention's kernels share: who sees whom, and scores of some queries against some keys.
//
// Queries of a segment go in tiles of 84, which belongs to the definition: chains over keys go up to the last key that any
// query of the tile sees, with weight zero where a query does not. No scores are kept: they are computed again where they
// are wanted, with the same bits, as every one is a chain over the width of a head.
#pragma once

#include "shared/lanes.cuh"
#include "shared/math.cuh"

namespace attention {

constexpr unsigned TILE = 84;
// steps of a chain that are staged at a time
constexpr unsigned DEPTH = 16;
// one more than that, so that rows begin in different banks
constexpr unsigned ROW = DEPTH + 1;

// A piece of a segment: `queries` rows from `query` on look at `keys` rows from `key` on. `start` counts within the
// segment: the first query of a tile, or the first key of a block of keys.
struct Work {
    unsigned query, queries, key, keys, start;
};

// How a tile of queries looks at its segment's keys.
struct Sight {
    unsigned first, step, keys;

    // Keys that query i of the tile sees.
    __device__ unsigned of(unsigned i) const {
        const unsigned seen = first + step * i;
        return seen < keys ? seen : keys;
    }
};

__device__ Sight sight_of(const Work& work, unsigned tile, bool causal) {
    if (!causal) return {work.keys, 0, work.keys};
    const unsigned behind = work.keys + tile + 1;
    return {behind > work.queries ? behind - work.queries : 0, 1, work.keys};
}

__device__ unsigned tile_size(const Work& work, unsigned tile) {
    return work.queries - tile < TILE ? work.queries - tile : TILE;
}

// Stages `DEPTH` columns from `column` on of `count` of `ROWS` rows; zeros behind them.
template <unsigned ROWS, unsigned THREADS>
__device__ void stage(const float* from, size_t stride, unsigned count, unsigned column, unsigned width,
                      float (&to)[ROWS][ROW]) {
    for (unsigned number = threadIdx.x; number < ROWS * DEPTH; number += THREADS) {
        const unsigned row = number / DEPTH, c = number % DEPTH;
        to[row][c] = row < count && column + c < width ? from[row * stride + column + c] : 0.0f;
    }
}

// Goes on with chains of `QUERIES` x `KEYS` products over the staged columns: queries `query`, `query + apart`, ..., keys
// `key`, `key + 16`, ...
template <unsigned QUERIES, unsigned KEYS, unsigned A, unsigned B>
__device__ void go_on(const float (&a)[A][ROW], const float (&b)[B][ROW], unsigned query, unsigned apart, unsigned key,
                      unsigned depth, float (&chains)[QUERIES][KEYS]) {
    for (unsigned c = 0; c < depth; c++) {
        float left[QUERIES], right[KEYS];
#pragma unroll
        for (unsigned i = 0; i < QUERIES; i++) left[i] = a[query + i * apart][c];
#pragma unroll
        for (unsigned j = 0; j < KEYS; j++) right[j] = b[key + j * lanes::LANES][c];
#pragma unroll
        for (unsigned i = 0; i < QUERIES; i++) {
#pragma unroll
            for (unsigned j = 0; j < KEYS; j++) chains[i][j] = __fmaf_rn(left[i], right[j], chains[i][j]);
        }
    }
}

template <unsigned A, unsigned B>
__device__ void zero(float (&numbers)[A][B]) {
#pragma unroll
    for (unsigned i = 0; i < A; i++) {
#pragma unroll
        for (unsigned j = 0; j < B; j++) numbers[i][j] = 0.0f;
    }
}

}  // namespace attention
