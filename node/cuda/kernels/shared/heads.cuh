// Rows of heads, and tiles of them in shared memory as bf16: what the three passes of attention read.
#pragma once

#include "shared/tensor_core.cuh"

// One number per head and row at `start[row * stride + head * width + i]`.
struct Heads {
    const float* start;
    size_t stride;
};

// A tile of a segment: its own rows, and the segment's queries and keys. As `Tile` in the Rust part has it.
struct Tile {
    unsigned first;
    unsigned queries_start, queries;
    unsigned keys_start, keys;
};

// How many keys query `i` of a segment sees.
__device__ unsigned seen_by(const Tile& tile, unsigned i, bool causal) {
    if (!causal) return tile.keys;
    const unsigned last = tile.keys + i + 1;
    return last > tile.queries ? (last - tile.queries < tile.keys ? last - tile.queries : tile.keys) : 0;
}

// Rows `first` to `first + ROWS - 1` of a head, below `count`, padded with zeros to `WIDE` numbers; by the whole block.
template <unsigned ROWS, unsigned WIDE>
__device__ void load_tile(Heads from, size_t row, unsigned first, unsigned count, unsigned head, unsigned width,
                          Half* tile) {
    constexpr unsigned STRIDE = WIDE + 8;
    for (unsigned number = threadIdx.x; number < ROWS * WIDE / 2; number += blockDim.x) {
        const unsigned i = number / (WIDE / 2), x = number % (WIDE / 2) * 2;
        const float* at = from.start + (row + first + i) * from.stride + head * width + x;
        const bool inside = first + i < count;
        const float low = inside && x < width ? at[0] : 0.0f, high = inside && x + 1 < width ? at[1] : 0.0f;
        *reinterpret_cast<unsigned*>(tile + i * STRIDE + x) = pair_of(low, high);
    }
}

// Scores that a query does not see.
constexpr float UNSEEN = -1e30f;
