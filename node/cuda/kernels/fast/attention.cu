// Attention inside segments, forward: no mask, no matrix of scores, one pass over the keys.
//
//   y_i = sum_j p_ij v_j     p_ij = exp(s_ij - m_i) / sum_j exp(s_ij - m_i)     s_ij = q_i . k_j * scale
//
// A block makes 64 queries of one head with four warps of 16 queries each, and goes over the keys 32 at a time, in
// ascending order; a row's largest score so far and its sum are kept by the four lanes that share the row. Kept for
// backward: the largest score, and one over the sum. Heads are at most 64 or 128 wide; narrower ones are padded with zeros.
//
// Source: Dao, "FlashAttention-2", arXiv 2307.08691.

#include "shared/heads.cuh"

constexpr unsigned QUERIES = 64;
constexpr unsigned KEYS = 32;

template <unsigned WIDE>
__device__ void forward(Heads q, Heads k, Heads v, const Tile* tiles, unsigned heads, unsigned groups, unsigned width,
                        bool causal, float scale, float* y, float* statistics) {
    constexpr unsigned STRIDE = WIDE + 8;
    alignas(16) __shared__ Half q_tile[QUERIES * STRIDE];
    alignas(16) __shared__ Half k_tile[KEYS * STRIDE];
    alignas(16) __shared__ Half v_tile[KEYS * STRIDE];
    const Tile tile = tiles[blockIdx.x];
    const unsigned head = blockIdx.y, group = head / (heads / groups);
    const unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    load_tile<QUERIES, WIDE>(q, tile.queries_start, tile.first, tile.queries, head, width, q_tile);

    const unsigned own[2] = {tile.first + 16 * warp + g, tile.first + 16 * warp + g + 8};
    const unsigned sees[2] = {seen_by(tile, own[0], causal), seen_by(tile, own[1], causal)};
    const unsigned last = tile.first + QUERIES < tile.queries ? tile.first + QUERIES : tile.queries;
    const unsigned end = seen_by(tile, last - 1, causal);
    float largest[2] = {UNSEEN, UNSEEN}, sum[2] = {0.0f, 0.0f};
    float mixed[WIDE / 8][4] = {};
    for (unsigned first = 0; first < end; first += KEYS) {
        __syncthreads();
        load_tile<KEYS, WIDE>(k, tile.keys_start, first, tile.keys, group, width, k_tile);
        load_tile<KEYS, WIDE>(v, tile.keys_start, first, tile.keys, group, width, v_tile);
        __syncthreads();
        float scores[KEYS / 8][4] = {};
#pragma unroll
        for (unsigned x = 0; x < WIDE; x += 16) {
            unsigned left[4];
            load_left<STRIDE>(q_tile, 16 * warp, x, left);
#pragma unroll
            for (unsigned j = 0; j < KEYS / 8; j++) {
                unsigned right[2];
                load_right<STRIDE>(k_tile, 8 * j, x, right);
                multiply_add(scores[j], left, right);
            }
        }
        float now[2] = {largest[0], largest[1]};
#pragma unroll
        for (unsigned j = 0; j < KEYS / 8; j++) {
#pragma unroll
            for (unsigned e = 0; e < 4; e++) {
                const unsigned key = first + 8 * j + 2 * t + e % 2;
                scores[j][e] = key < sees[e / 2] ? scores[j][e] * scale : UNSEEN;
                now[e / 2] = fmaxf(now[e / 2], scores[j][e]);
            }
        }
#pragma unroll
        for (unsigned r = 0; r < 2; r++) {
            now[r] = fmaxf(now[r], __shfl_xor_sync(0xffffffffu, now[r], 1));
            now[r] = fmaxf(now[r], __shfl_xor_sync(0xffffffffu, now[r], 2));
            const float shrink = expf(largest[r] - now[r]);
            largest[r] = now[r];
            sum[r] *= shrink;
#pragma unroll
            for (unsigned x = 0; x < WIDE / 8; x++) mixed[x][2 * r] *= shrink, mixed[x][2 * r + 1] *= shrink;
        }
#pragma unroll
        for (unsigned j = 0; j < KEYS / 8; j++) {
#pragma unroll
            for (unsigned e = 0; e < 4; e++) {
                const bool seen = first + 8 * j + 2 * t + e % 2 < sees[e / 2];
                scores[j][e] = seen ? expf(scores[j][e] - largest[e / 2]) : 0.0f;
                sum[e / 2] += scores[j][e];
            }
        }
#pragma unroll
        for (unsigned j = 0; j < KEYS / 16; j++) {
            const float(&near)[4] = scores[2 * j], (&far)[4] = scores[2 * j + 1];
            const unsigned left[4] = {pair_of(near[0], near[1]), pair_of(near[2], near[3]), pair_of(far[0], far[1]),
                                      pair_of(far[2], far[3])};
#pragma unroll
            for (unsigned x = 0; x < WIDE / 8; x++) {
                unsigned right[2];
                load_right_as_is<STRIDE>(v_tile, 16 * j, 8 * x, right);
                multiply_add(mixed[x], left, right);
            }
        }
    }
#pragma unroll
    for (unsigned r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
        sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
        if (own[r] >= tile.queries) continue;
        const float share = 1.0f / sum[r];
        const size_t row = tile.queries_start + own[r];
        if (t == 0) {
            statistics[(row * heads + head) * 2] = largest[r];
            statistics[(row * heads + head) * 2 + 1] = share;
        }
#pragma unroll
        for (unsigned x = 0; x < WIDE / 8; x++) {
#pragma unroll
            for (unsigned e = 0; e < 2; e++) {
                const unsigned column = 8 * x + 2 * t + e;
                if (column < width) y[(row * heads + head) * width + column] = mixed[x][2 * r + e] * share;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(128)
    attention_64(const float* q, size_t q_stride, const float* k, size_t k_stride, const float* v, size_t v_stride,
                 const Tile* tiles, unsigned heads, unsigned groups, unsigned width, unsigned causal, float scale,
                 float* y, float* statistics) {
    forward<64>({q, q_stride}, {k, k_stride}, {v, v_stride}, tiles, heads, groups, width, causal, scale, y, statistics);
}

extern "C" __global__ void __launch_bounds__(128)
    attention_128(const float* q, size_t q_stride, const float* k, size_t k_stride, const float* v, size_t v_stride,
                  const Tile* tiles, unsigned heads, unsigned groups, unsigned width, unsigned causal, float scale,
                  float* y, float* statistics) {
    forward<128>({q, q_stride}, {k, k_stride}, {v, v_stride}, tiles, heads, groups, width, causal, scale, y, statistics);
}
