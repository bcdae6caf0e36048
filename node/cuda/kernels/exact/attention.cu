// Attention inside segments, forward.
//
//   y_i = sum_j p_ij v_j      p_ij = exp(s_ij - m_i) / sum_j exp(s_ij - m_i)      s_ij = q_i . k_j / sqrt(d)
//
// A block has one head of a tile of 84 queries. It goes over the keys twice: for each query's largest score, then for
// exponentials, their sum and the weighted values. Sixteen threads have a query, as its row has sixteen lanes; a thread has
// three queries.

#include "exact/attention.cuh"

using namespace attention;

constexpr unsigned QUERIES = 3;
constexpr unsigned APART = TILE / QUERIES;
constexpr unsigned THREADS = APART * lanes::LANES;
constexpr unsigned KEYS = 4;
constexpr unsigned BLOCK = KEYS * lanes::LANES;
// keys whose values are staged at a time
constexpr unsigned VALUES = 16;

struct Inputs {
    const float* q;
    size_t q_stride;
    const float* k;
    size_t k_stride;
    const float* v;
    size_t v_stride;
};

// Scores, not yet scaled, of a thread's queries with its keys of the block from `first` on.
__device__ void scores_of(const float* q, size_t q_stride, unsigned count, const float* k, size_t k_stride,
                          unsigned keys, unsigned width, float (&q_room)[TILE][ROW], float (&k_room)[BLOCK][ROW],
                          float (&scores)[QUERIES][KEYS]) {
    zero(scores);
    for (unsigned column = 0; column < width; column += DEPTH) {
        __syncthreads();
        stage<TILE, THREADS>(q, q_stride, count, column, width, q_room);
        stage<BLOCK, THREADS>(k, k_stride, keys, column, width, k_room);
        __syncthreads();
        const unsigned depth = width - column < DEPTH ? width - column : DEPTH;
        go_on(q_room, k_room, threadIdx.x / lanes::LANES, APART, threadIdx.x % lanes::LANES, depth, scores);
    }
}

// `COLUMNS` times sixteen is at least the width of a head.
template <unsigned COLUMNS>
__device__ void forward(const Inputs& in, const Work* works, unsigned heads, unsigned groups, unsigned width,
                        float scale, bool causal, float* y, float* statistics) {
    constexpr unsigned WIDEST = COLUMNS * lanes::LANES;
    __shared__ float q_room[TILE][ROW];
    __shared__ float k_room[BLOCK][ROW];
    __shared__ float weights[TILE][BLOCK + 1];
    __shared__ float values[VALUES][WIDEST];
    const Work work = works[blockIdx.x];
    const unsigned head = blockIdx.y, group = head / (heads / groups);
    const unsigned count = tile_size(work, work.start);
    const Sight sight = sight_of(work, work.start, causal);
    const unsigned seen = sight.of(count - 1);
    const unsigned own = threadIdx.x / lanes::LANES, lane = threadIdx.x % lanes::LANES;
    const size_t first_query = work.query + work.start;
    const float* q = in.q + first_query * in.q_stride + head * width;
    const float* k = in.k + work.key * in.k_stride + group * width;
    const float* v = in.v + work.key * in.v_stride + group * width;

    float scores[QUERIES][KEYS];
    float largest[QUERIES];
#pragma unroll
    for (unsigned i = 0; i < QUERIES; i++) largest[i] = __uint_as_float(0xff800000u);
    for (unsigned first = 0; first < seen; first += BLOCK) {
        scores_of(q, in.q_stride, count, k + first * in.k_stride, in.k_stride, seen - first, width, q_room, k_room,
                  scores);
#pragma unroll
        for (unsigned i = 0; i < QUERIES; i++) {
            const unsigned sees = sight.of(own + i * APART);
#pragma unroll
            for (unsigned j = 0; j < KEYS; j++) {
                const bool visible = first + lane + j * lanes::LANES < sees;
                if (visible) largest[i] = lanes::larger(largest[i], scores[i][j]);
            }
        }
    }

    float sums[QUERIES], results[QUERIES][COLUMNS];
    zero(results);
#pragma unroll
    for (unsigned i = 0; i < QUERIES; i++) {
        largest[i] = scale * lanes::largest(largest[i]);
        sums[i] = 0.0f;
    }
    for (unsigned first = 0; first < seen; first += BLOCK) {
        scores_of(q, in.q_stride, count, k + first * in.k_stride, in.k_stride, seen - first, width, q_room, k_room,
                  scores);
#pragma unroll
        for (unsigned i = 0; i < QUERIES; i++) {
            const unsigned sees = sight.of(own + i * APART);
#pragma unroll
            for (unsigned j = 0; j < KEYS; j++) {
                const unsigned key = lane + j * lanes::LANES;
                float weight = 0.0f;
                if (first + key < sees) {
                    weight = math::exp(__fmaf_rn(scores[i][j], scale, -largest[i]));
                    sums[i] = sums[i] + weight;
                }
                weights[own + i * APART][key] = weight;
            }
        }
        for (unsigned block = 0; block < BLOCK && first + block < seen; block += VALUES) {
            const unsigned rest = seen - first - block, keys = rest < VALUES ? rest : VALUES;
            __syncthreads();
            for (unsigned number = threadIdx.x; number < keys * width; number += THREADS) {
                const unsigned key = number / width, column = number % width;
                values[key][column] = v[(first + block + key) * in.v_stride + column];
            }
            __syncthreads();
            for (unsigned key = 0; key < keys; key++) {
#pragma unroll
                for (unsigned i = 0; i < QUERIES; i++) {
                    const float weight = weights[own + i * APART][block + key];
#pragma unroll
                    for (unsigned c = 0; c < COLUMNS; c++) {
                        const float value = values[key][lane + c * lanes::LANES];
                        results[i][c] = __fmaf_rn(weight, value, results[i][c]);
                    }
                }
            }
        }
    }

#pragma unroll
    for (unsigned i = 0; i < QUERIES; i++) {
        const float share = 1.0f / lanes::in_order(sums[i]);
        const unsigned query = own + i * APART;
        if (query >= count) continue;
        float* row = y + ((first_query + query) * heads + head) * width;
#pragma unroll
        for (unsigned c = 0; c < COLUMNS; c++) {
            const unsigned column = lane + c * lanes::LANES;
            if (column < width) row[column] = results[i][c] * share;
        }
        if (lane == 0) {
            float* kept = statistics + ((first_query + query) * heads + head) * 2;
            kept[0] = largest[i];
            kept[1] = share;
        }
    }
}

// Heads of at most 64, 128 and 256 numbers; a block for each work of `works` and each head.
#define ATTENTION(name, columns)                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                             \
        name(const float* q, size_t q_stride, const float* k, size_t k_stride, const float* v, size_t v_stride,      \
             const Work* works, unsigned heads, unsigned groups, unsigned width, float scale, unsigned causal,        \
             float* y, float* statistics) {                                                                           \
        forward<columns>({q, q_stride, k, k_stride, v, v_stride}, works, heads, groups, width, scale, causal, y,      \
                         statistics);                                                                                 \
    }

ATTENTION(attention_64, 4)
ATTENTION(attention_128, 8)
ATTENTION(attention_256, 16)
