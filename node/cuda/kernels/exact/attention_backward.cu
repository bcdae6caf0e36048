// Attention inside segments, backward. Weights are computed again from queries, keys and kept statistics.
//
//   D_i = dy_i . y_i      dp_ij = dy_i . v_j      ds_ij = p_ij (dp_ij - D_i) / sqrt(d)
//   dq_i = sum_j ds_ij k_j      dk_j = sum_i ds_ij q_i      dv_j = sum_i p_ij dy_i
//
// Three kernels, none of which writes what another block writes: D; the gradient of queries, a block for one head of a
// tile; those of keys and values, a block for one group of 32 keys, which goes through the heads of the group in order, and
// the queries of a head in order.

#include "exact/attention.cuh"

using namespace attention;

struct Inputs {
    const float* q;
    size_t q_stride;
    const float* k;
    size_t k_stride;
    const float* v;
    size_t v_stride;
    // [n, heads, 2]
    const float* statistics;
    // [n, heads]
    const float* d;
    // [n, heads * width]
    const float* dy;
};

struct Sizes {
    unsigned heads, groups, width;
    float scale;
    bool causal;
};

// One query of one head, as the backward needs it.
struct Row {
    float largest, share, d;
};

__device__ Row row_of(const Inputs& in, unsigned heads, unsigned head, size_t query, bool inside) {
    if (!inside) return {0.0f, 0.0f, 0.0f};
    const size_t at = query * heads + head;
    return {in.statistics[2 * at], in.statistics[2 * at + 1], in.d[at]};
}

// The weight of a visible key, and zero of another one.
__device__ float weight_of(float score, float scale, const Row& row, bool visible) {
    return visible ? math::exp(__fmaf_rn(score, scale, -row.largest)) * row.share : 0.0f;
}

__device__ float score_gradient(float weight, float dp, float scale, const Row& row) {
    return weight * (dp - row.d) * scale;
}

constexpr unsigned PRODUCT_THREADS = 256;

// d [rows] = a . b, row by row of `width` numbers, sixteen threads a row, nothing fused
extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS)
    row_products(const float* a, const float* b, float* d, unsigned rows, unsigned width) {
    const unsigned number = (blockIdx.x * PRODUCT_THREADS + threadIdx.x) / lanes::LANES;
    const size_t row = number < rows ? number : rows - 1;
    float sum = 0.0f;
    for (unsigned i = threadIdx.x % lanes::LANES; i < width; i += lanes::LANES) {
        sum = sum + a[row * width + i] * b[row * width + i];
    }
    sum = lanes::in_order(sum);
    if (number < rows && threadIdx.x % lanes::LANES == 0) d[row] = sum;
}

// --- queries: threads as in the forward

constexpr unsigned QUERIES = 3;
constexpr unsigned APART = TILE / QUERIES;
constexpr unsigned QUERY_THREADS = APART * lanes::LANES;
constexpr unsigned KEYS = 4;
constexpr unsigned BLOCK = KEYS * lanes::LANES;
// keys that are staged at a time when their weighted sum is taken
constexpr unsigned STAGED_KEYS = 16;

template <unsigned COLUMNS>
__device__ void query_gradient(const Inputs& in, const Work* works, const Sizes& sizes, float* dq, size_t dq_stride) {
    constexpr unsigned WIDEST = COLUMNS * lanes::LANES;
    struct Operands {
        float q[TILE][ROW], dy[TILE][ROW], k[BLOCK][ROW], v[BLOCK][ROW];
    };
    // chains of scores first, then keys again, row by row
    union Room {
        Operands operands;
        float keys[STAGED_KEYS][WIDEST];
    };
    __shared__ Room room;
    __shared__ float gradients[TILE][BLOCK + 1];
    const auto [heads, groups, width, scale, causal] = sizes;
    const Work work = works[blockIdx.x];
    const unsigned head = blockIdx.y, group = head / (heads / groups);
    const unsigned count = tile_size(work, work.start);
    const Sight sight = sight_of(work, work.start, causal);
    const unsigned seen = sight.of(count - 1);
    const unsigned own = threadIdx.x / lanes::LANES, lane = threadIdx.x % lanes::LANES;
    const size_t first_query = work.query + work.start;
    const float* q = in.q + first_query * in.q_stride + head * width;
    const float* dy = in.dy + (first_query * heads + head) * width;
    const float* k = in.k + work.key * in.k_stride + group * width;
    const float* v = in.v + work.key * in.v_stride + group * width;

    Row rows[QUERIES];
#pragma unroll
    for (unsigned i = 0; i < QUERIES; i++) {
        const unsigned query = own + i * APART;
        rows[i] = row_of(in, heads, head, first_query + query, query < count);
    }
    float results[QUERIES][COLUMNS];
    zero(results);
    for (unsigned first = 0; first < seen; first += BLOCK) {
        float scores[QUERIES][KEYS], products[QUERIES][KEYS];
        zero(scores);
        zero(products);
        for (unsigned column = 0; column < width; column += DEPTH) {
            __syncthreads();
            stage<TILE, QUERY_THREADS>(q, in.q_stride, count, column, width, room.operands.q);
            stage<TILE, QUERY_THREADS>(dy, size_t(heads) * width, count, column, width, room.operands.dy);
            stage<BLOCK, QUERY_THREADS>(k + first * in.k_stride, in.k_stride, seen - first, column, width,
                                        room.operands.k);
            stage<BLOCK, QUERY_THREADS>(v + first * in.v_stride, in.v_stride, seen - first, column, width,
                                        room.operands.v);
            __syncthreads();
            const unsigned depth = width - column < DEPTH ? width - column : DEPTH;
            go_on(room.operands.q, room.operands.k, own, APART, lane, depth, scores);
            go_on(room.operands.dy, room.operands.v, own, APART, lane, depth, products);
        }
#pragma unroll
        for (unsigned i = 0; i < QUERIES; i++) {
            const unsigned query = own + i * APART;
#pragma unroll
            for (unsigned j = 0; j < KEYS; j++) {
                const unsigned key = lane + j * lanes::LANES;
                const float weight = weight_of(scores[i][j], scale, rows[i], first + key < sight.of(query));
                gradients[query][key] = score_gradient(weight, products[i][j], scale, rows[i]);
            }
        }
        for (unsigned block = 0; block < BLOCK && first + block < seen; block += STAGED_KEYS) {
            const unsigned rest = seen - first - block, keys = rest < STAGED_KEYS ? rest : STAGED_KEYS;
            __syncthreads();
            for (unsigned number = threadIdx.x; number < keys * width; number += QUERY_THREADS) {
                const unsigned key = number / width, column = number % width;
                room.keys[key][column] = k[(first + block + key) * in.k_stride + column];
            }
            __syncthreads();
            for (unsigned key = 0; key < keys; key++) {
#pragma unroll
                for (unsigned i = 0; i < QUERIES; i++) {
                    const float gradient = gradients[own + i * APART][block + key];
#pragma unroll
                    for (unsigned c = 0; c < COLUMNS; c++) {
                        const float number = room.keys[key][lane + c * lanes::LANES];
                        results[i][c] = __fmaf_rn(gradient, number, results[i][c]);
                    }
                }
            }
        }
    }
#pragma unroll
    for (unsigned i = 0; i < QUERIES; i++) {
        const unsigned query = own + i * APART;
        if (query >= count) continue;
        float* row = dq + (first_query + query) * dq_stride + head * width;
#pragma unroll
        for (unsigned c = 0; c < COLUMNS; c++) {
            const unsigned column = lane + c * lanes::LANES;
            if (column < width) row[column] = results[i][c];
        }
    }
}

// --- keys and values: 16 x 16 threads, each with two queries and two keys of a square of 32 x 32 scores, then with two keys
// and some columns of their gradients

constexpr unsigned SIDE = 32;
constexpr unsigned HALF = SIDE / 2;
constexpr unsigned KEY_THREADS = HALF * lanes::LANES;
// queries that are staged at a time when their weighted sum is taken
constexpr unsigned STAGED_QUERIES = 8;

template <unsigned COLUMNS>
__device__ void key_gradients(const Inputs& in, const Work* works, const Sizes& sizes, float* dk, size_t dk_stride,
                              float* dv, size_t dv_stride) {
    constexpr unsigned WIDEST = COLUMNS * lanes::LANES;
    struct Operands {
        float q[SIDE][ROW], dy[SIDE][ROW], k[SIDE][ROW], v[SIDE][ROW];
    };
    struct Queries {
        float q[STAGED_QUERIES][WIDEST], dy[STAGED_QUERIES][WIDEST];
    };
    union Room {
        Operands operands;
        Queries queries;
    };
    __shared__ Room room;
    __shared__ float weights[SIDE][SIDE + 1];
    __shared__ float gradients[SIDE][SIDE + 1];
    const auto [heads, groups, width, scale, causal] = sizes;
    const Work work = works[blockIdx.x];
    const unsigned group = blockIdx.y, each = heads / groups, row_width = heads * width;
    const unsigned own = threadIdx.x / lanes::LANES, lane = threadIdx.x % lanes::LANES;
    const unsigned first_key = work.start;
    const size_t key_row = work.key + first_key;
    const float* k = in.k + key_row * in.k_stride + group * width;
    const float* v = in.v + key_row * in.v_stride + group * width;

    float key_results[2][COLUMNS], value_results[2][COLUMNS];
    zero(key_results);
    zero(value_results);
    for (unsigned head = group * each; head < (group + 1) * each; head++) {
        for (unsigned tile = 0; tile < work.queries; tile += TILE) {
            const unsigned count = tile_size(work, tile);
            const Sight sight = sight_of(work, tile, causal);
            const unsigned seen = sight.of(count - 1);
            if (seen <= first_key) continue;
            for (unsigned square = 0; square < count; square += SIDE) {
                const unsigned queries = count - square < SIDE ? count - square : SIDE;
                const size_t first_query = work.query + tile + square;
                const float* q = in.q + first_query * in.q_stride + head * width;
                const float* dy = in.dy + first_query * row_width + head * width;
                float scores[2][2], products[2][2];
                zero(scores);
                zero(products);
                for (unsigned column = 0; column < width; column += DEPTH) {
                    __syncthreads();
                    stage<SIDE, KEY_THREADS>(q, in.q_stride, queries, column, width, room.operands.q);
                    stage<SIDE, KEY_THREADS>(dy, row_width, queries, column, width, room.operands.dy);
                    stage<SIDE, KEY_THREADS>(k, in.k_stride, seen - first_key, column, width, room.operands.k);
                    stage<SIDE, KEY_THREADS>(v, in.v_stride, seen - first_key, column, width, room.operands.v);
                    __syncthreads();
                    const unsigned depth = width - column < DEPTH ? width - column : DEPTH;
                    go_on(room.operands.q, room.operands.k, own, HALF, lane, depth, scores);
                    go_on(room.operands.dy, room.operands.v, own, HALF, lane, depth, products);
                }
#pragma unroll
                for (unsigned i = 0; i < 2; i++) {
                    const unsigned query = own + i * HALF;
                    const Row row = row_of(in, heads, head, first_query + query, query < queries);
                    const unsigned sees = sight.of(square + query);
#pragma unroll
                    for (unsigned j = 0; j < 2; j++) {
                        const unsigned key = lane + j * lanes::LANES;
                        const float weight = weight_of(scores[i][j], scale, row, first_key + key < sees);
                        weights[query][key] = weight;
                        gradients[query][key] = score_gradient(weight, products[i][j], scale, row);
                    }
                }
                for (unsigned block = 0; block < queries; block += STAGED_QUERIES) {
                    const unsigned rest = queries - block, staged = rest < STAGED_QUERIES ? rest : STAGED_QUERIES;
                    __syncthreads();
                    for (unsigned number = threadIdx.x; number < staged * width; number += KEY_THREADS) {
                        const unsigned query = number / width, column = number % width;
                        room.queries.q[query][column] = q[(block + query) * in.q_stride + column];
                        room.queries.dy[query][column] = dy[size_t(block + query) * row_width + column];
                    }
                    __syncthreads();
                    for (unsigned query = 0; query < staged; query++) {
#pragma unroll
                        for (unsigned j = 0; j < 2; j++) {
                            const unsigned key = own + j * HALF;
                            // chains of keys that no query of the tile sees don't go on
                            if (first_key + key >= seen) continue;
                            const float gradient = gradients[block + query][key], weight = weights[block + query][key];
#pragma unroll
                            for (unsigned c = 0; c < COLUMNS; c++) {
                                const unsigned column = lane + c * lanes::LANES;
                                key_results[j][c] =
                                    __fmaf_rn(gradient, room.queries.q[query][column], key_results[j][c]);
                                value_results[j][c] =
                                    __fmaf_rn(weight, room.queries.dy[query][column], value_results[j][c]);
                            }
                        }
                    }
                }
            }
        }
    }
#pragma unroll
    for (unsigned j = 0; j < 2; j++) {
        const unsigned key = own + j * HALF;
        if (first_key + key >= work.keys) continue;
#pragma unroll
        for (unsigned c = 0; c < COLUMNS; c++) {
            const unsigned column = lane + c * lanes::LANES;
            if (column >= width) continue;
            dk[(key_row + key) * dk_stride + group * width + column] = key_results[j][c];
            dv[(key_row + key) * dv_stride + group * width + column] = value_results[j][c];
        }
    }
}

// Heads of at most 64, 128 and 256 numbers; a block for each work of `works` and each head, or each group.
#define ATTENTION_BACKWARD(bound, columns)                                                                            \
    extern "C" __global__ void __launch_bounds__(QUERY_THREADS) attention_queries_##bound(                            \
        const float* q, size_t q_stride, const float* k, size_t k_stride, const float* v, size_t v_stride,            \
        const float* statistics, const float* d, const float* dy, const Work* works, unsigned heads, unsigned groups, \
        unsigned width, float scale, unsigned causal, float* dq, size_t dq_stride) {                                  \
        query_gradient<columns>({q, q_stride, k, k_stride, v, v_stride, statistics, d, dy}, works,                    \
                                {heads, groups, width, scale, causal != 0}, dq, dq_stride);                           \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(KEY_THREADS) attention_keys_##bound(                                 \
        const float* q, size_t q_stride, const float* k, size_t k_stride, const float* v, size_t v_stride,            \
        const float* statistics, const float* d, const float* dy, const Work* works, unsigned heads, unsigned groups, \
        unsigned width, float scale, unsigned causal, float* dk, size_t dk_stride, float* dv, size_t dv_stride) {     \
        key_gradients<columns>({q, q_stride, k, k_stride, v, v_stride, statistics, d, dy}, works,                     \
                               {heads, groups, width, scale, causal != 0}, dk, dk_stride, dv, dv_stride);             \
    }

ATTENTION_BACKWARD(64, 4)
ATTENTION_BACKWARD(128, 8)
ATTENTION_BACKWARD(256, 16)
