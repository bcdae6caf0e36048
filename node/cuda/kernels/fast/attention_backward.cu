// Attention inside segments, backward: weights are computed again from queries, keys and each row's kept statistics.
//
//   D_i = dy_i . y_i     ds_ij = p_ij (dy_i . v_j - D_i) scale
//   dq_i = sum_j ds_ij k_j      dk_j = sum_i ds_ij q_i      dv_j = sum_i p_ij dy_i
//
// Two passes, so that every number has one owner and nothing is added atomically: a block of the first owns 64 queries of
// a head and goes over the keys; a block of the second owns 64 keys of a group, and goes over the heads of the group in
// order and each head's queries in order. Both go 16 rows at a time, a warp owning 16 rows of its block.
//
// Source: Dao, "FlashAttention-2", arXiv 2307.08691.

#include "shared/heads.cuh"

constexpr unsigned OWN = 64;
constexpr unsigned OTHER = 16;

// A row's largest score, one over its sum, and D.
struct Row {
    float largest, share, product;
};

__device__ Row row_of(const Tile& tile, unsigned i, unsigned heads, unsigned head, const float* statistics,
                      const float* products) {
    if (i >= tile.queries) return {0.0f, 0.0f, 0.0f};
    const size_t at = size_t(tile.queries_start + i) * heads + head;
    return {statistics[2 * at], statistics[2 * at + 1], products[at]};
}

// Scores and products of values of 16 rows of `left` with 16 of `right`: both are rows of heads in shared memory.
template <unsigned WIDE>
__device__ void against(const Half* left_tile, unsigned row, const Half* right_tile, float (&sums)[2][4]) {
    constexpr unsigned STRIDE = WIDE + 8;
#pragma unroll
    for (unsigned x = 0; x < WIDE; x += 16) {
        unsigned left[4];
        load_left<STRIDE>(left_tile, row, x, left);
#pragma unroll
        for (unsigned j = 0; j < 2; j++) {
            unsigned right[2];
            load_right<STRIDE>(right_tile, 8 * j, x, right);
            multiply_add(sums[j], left, right);
        }
    }
}

// `to [16, WIDE] += weights [16, 16] * tile [16, WIDE]`, the weights as they come out of `against`.
template <unsigned WIDE>
__device__ void add_weighted(const float (&weights)[2][4], const Half* tile, float (&to)[WIDE / 8][4]) {
    constexpr unsigned STRIDE = WIDE + 8;
    const unsigned left[4] = {pair_of(weights[0][0], weights[0][1]), pair_of(weights[0][2], weights[0][3]),
                              pair_of(weights[1][0], weights[1][1]), pair_of(weights[1][2], weights[1][3])};
#pragma unroll
    for (unsigned x = 0; x < WIDE / 8; x++) {
        unsigned right[2];
        load_right_as_is<STRIDE>(tile, 0, 8 * x, right);
        multiply_add(to[x], left, right);
    }
}

// Writes a warp's 16 rows, those below `count`.
template <unsigned WIDE>
__device__ void put_down(const float (&sums)[WIDE / 8][4], float* to, size_t stride, size_t row, unsigned first,
                         unsigned count, unsigned column, unsigned width) {
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (unsigned x = 0; x < WIDE / 8; x++) {
#pragma unroll
        for (unsigned e = 0; e < 4; e++) {
            const unsigned i = first + g + e / 2 * 8, at = 8 * x + 2 * t + e % 2;
            if (i < count && at < width) to[(row + i) * stride + column + at] = sums[x][e];
        }
    }
}

template <unsigned WIDE>
__device__ void queries(Heads q, Heads k, Heads v, const float* dy, const float* statistics, const float* products,
                        const Tile* tiles, unsigned heads, unsigned groups, unsigned width, bool causal, float scale,
                        float* dq, size_t dq_stride) {
    constexpr unsigned STRIDE = WIDE + 8;
    alignas(16) __shared__ Half q_tile[OWN * STRIDE];
    alignas(16) __shared__ Half dy_tile[OWN * STRIDE];
    alignas(16) __shared__ Half k_tile[OTHER * STRIDE];
    alignas(16) __shared__ Half v_tile[OTHER * STRIDE];
    const Tile tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y, group = head / (heads / groups);
    const unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    load_tile<OWN, WIDE>(q, tile.queries_start, tile.first, tile.queries, head, width, q_tile);
    load_tile<OWN, WIDE>({dy, size_t(heads) * width}, tile.queries_start, tile.first, tile.queries, head, width, dy_tile);
    const unsigned own[2] = {tile.first + 16 * warp + g, tile.first + 16 * warp + g + 8};
    const unsigned sees[2] = {seen_by(tile, own[0], causal), seen_by(tile, own[1], causal)};
    const Row rows[2] = {row_of(tile, own[0], heads, head, statistics, products),
                         row_of(tile, own[1], heads, head, statistics, products)};
    const unsigned last = tile.first + OWN < tile.queries ? tile.first + OWN : tile.queries;
    const unsigned end = seen_by(tile, last - 1, causal);
    float sums[WIDE / 8][4] = {};
    for (unsigned first = 0; first < end; first += OTHER) {
        __syncthreads();
        load_tile<OTHER, WIDE>(k, tile.keys_start, first, tile.keys, group, width, k_tile);
        load_tile<OTHER, WIDE>(v, tile.keys_start, first, tile.keys, group, width, v_tile);
        __syncthreads();
        float weights[2][4] = {}, wanted[2][4] = {};
        against<WIDE>(q_tile, 16 * warp, k_tile, weights);
        against<WIDE>(dy_tile, 16 * warp, v_tile, wanted);
#pragma unroll
        for (unsigned j = 0; j < 2; j++) {
#pragma unroll
            for (unsigned e = 0; e < 4; e++) {
                const Row& row = rows[e / 2];
                const bool seen = first + 8 * j + 2 * t + e % 2 < sees[e / 2];
                const float p = seen ? expf(weights[j][e] * scale - row.largest) * row.share : 0.0f;
                weights[j][e] = p * (wanted[j][e] - row.product) * scale;
            }
        }
        add_weighted<WIDE>(weights, k_tile, sums);
    }
    put_down<WIDE>(sums, dq, dq_stride, tile.queries_start, tile.first + 16 * warp, tile.queries, head * width, width);
}

template <unsigned WIDE>
__device__ void keys(Heads q, Heads k, Heads v, const float* dy, const float* statistics, const float* products,
                     const Tile* tiles, unsigned heads, unsigned groups, unsigned width, bool causal, float scale,
                     float* dk, size_t dk_stride, float* dv, size_t dv_stride) {
    constexpr unsigned STRIDE = WIDE + 8;
    alignas(16) __shared__ Half k_tile[OWN * STRIDE];
    alignas(16) __shared__ Half v_tile[OWN * STRIDE];
    alignas(16) __shared__ Half q_tile[OTHER * STRIDE];
    alignas(16) __shared__ Half dy_tile[OTHER * STRIDE];
    const Tile tile = tiles[blockIdx.x];
    const unsigned group = blockIdx.y, each = heads / groups;
    const unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    load_tile<OWN, WIDE>(k, tile.keys_start, tile.first, tile.keys, group, width, k_tile);
    load_tile<OWN, WIDE>(v, tile.keys_start, tile.first, tile.keys, group, width, v_tile);
    // the first query that sees any key of this block, at the begin of a tile of queries
    const unsigned hidden = tile.first + tile.queries > tile.keys ? tile.first + tile.queries - tile.keys : 0;
    const unsigned begin = causal ? hidden / OTHER * OTHER : 0;
    float dk_sums[WIDE / 8][4] = {}, dv_sums[WIDE / 8][4] = {};
    for (unsigned head = group * each; head < (group + 1) * each; head++) {
        for (unsigned first = begin; first < tile.queries; first += OTHER) {
            __syncthreads();
            load_tile<OTHER, WIDE>(q, tile.queries_start, first, tile.queries, head, width, q_tile);
            load_tile<OTHER, WIDE>({dy, size_t(heads) * width}, tile.queries_start, first, tile.queries, head, width,
                                   dy_tile);
            __syncthreads();
            float weights[2][4] = {}, wanted[2][4] = {};
            against<WIDE>(k_tile, 16 * warp, q_tile, weights);
            against<WIDE>(v_tile, 16 * warp, dy_tile, wanted);
#pragma unroll
            for (unsigned j = 0; j < 2; j++) {
#pragma unroll
                for (unsigned e = 0; e < 4; e++) {
                    const unsigned query = first + 8 * j + 2 * t + e % 2, key = tile.first + 16 * warp + g + e / 2 * 8;
                    const Row row = row_of(tile, query, heads, head, statistics, products);
                    const bool seen = query < tile.queries && key < seen_by(tile, query, causal);
                    weights[j][e] = seen ? expf(weights[j][e] * scale - row.largest) * row.share : 0.0f;
                    wanted[j][e] = weights[j][e] * (wanted[j][e] - row.product) * scale;
                }
            }
            add_weighted<WIDE>(weights, dy_tile, dv_sums);
            add_weighted<WIDE>(wanted, q_tile, dk_sums);
        }
    }
    const unsigned own = tile.first + 16 * warp;
    put_down<WIDE>(dk_sums, dk, dk_stride, tile.keys_start, own, tile.keys, group * width, width);
    put_down<WIDE>(dv_sums, dv, dv_stride, tile.keys_start, own, tile.keys, group * width, width);
}

// products [rows]: of each row's gradient and output, a warp a row.
extern "C" __global__ void __launch_bounds__(256)
    row_products(const float* y, const float* dy, unsigned rows, unsigned width, float* products) {
    const unsigned row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float sum = 0.0f;
    for (unsigned x = lane; x < width; x += 32) sum += y[size_t(row) * width + x] * dy[size_t(row) * width + x];
#pragma unroll
    for (unsigned by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
    if (lane == 0) products[row] = sum;
}

#define PASSES(WIDE)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(128)                                                                 \
        attention_queries_##WIDE(const float* q, size_t q_stride, const float* k, size_t k_stride, const float* v,    \
                                 size_t v_stride, const float* dy, const float* statistics, const float* products,    \
                                 const Tile* tiles, unsigned heads, unsigned groups, unsigned width, unsigned causal, \
                                 float scale, float* dq, size_t dq_stride) {                                          \
        queries<WIDE>({q, q_stride}, {k, k_stride}, {v, v_stride}, dy, statistics, products, tiles, heads, groups,    \
                      width, causal, scale, dq, dq_stride);                                                           \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(128)                                                                 \
        attention_keys_##WIDE(const float* q, size_t q_stride, const float* k, size_t k_stride, const float* v,       \
                              size_t v_stride, const float* dy, const float* statistics, const float* products,       \
                              const Tile* tiles, unsigned heads, unsigned groups, unsigned width, unsigned causal,    \
                              float scale, float* dk, size_t dk_stride, float* dv, size_t dv_stride) {                \
        keys<WIDE>({q, q_stride}, {k, k_stride}, {v, v_stride}, dy, statistics, products, tiles, heads, groups,       \
                   width, causal, scale, dk, dk_stride, dv, dv_stride);                                               \
    }

PASSES(64)
PASSES(128)
