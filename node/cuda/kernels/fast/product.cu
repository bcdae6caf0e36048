// Matrix products of the fast class: operands in f32, rounded to bf16 on their way into shared memory, sums in f32.
//
//   c [rows, columns] = a * b, or c + a * b, then + bias[column], then + residual
//
//   nt: a [rows, depth], b [columns, depth]      forward of a linear map
//   nn: a [rows, depth], b [depth, columns]      gradient of its input
//   tn: a [depth, rows], b [depth, columns]      gradient of its weight
//
// A block makes 128 x 128 elements with eight warps, each 64 x 32 of them, in steps of 32 along the depth; the next step
// is on its way in registers meanwhile. Tiles are fixed and the depth is never divided among blocks, so the same GPU
// gives the same bits. What is missing at the edges counts as zero.
//
// The second operand of nt and nn may be halves of f32, as weights are held that are not trained: they are bf16 already, so
// that bits are those of the same numbers in f32.

#include "shared/tensor_core.cuh"

constexpr unsigned TILE = 128;
constexpr unsigned DEPTH = 32;
constexpr unsigned STRIDE = DEPTH + 8;
constexpr unsigned THREADS = 256;
// pairs of neighbours along the depth that one thread stages of each operand
constexpr unsigned STAGED = TILE * DEPTH / 2 / THREADS;

// An operand: element (i, k) at `start[i * across + k * along]`, for i below `count` and k below `depth`.
template <typename Number>
struct Operand {
    const Number* start;
    size_t across;
    size_t along;
    unsigned count;
    unsigned depth;
};

// Which pair is a thread's number `s`: neighbours in memory go to neighbouring threads.
template <bool depth_first>
__device__ void place_of(unsigned s, unsigned& i, unsigned& k) {
    const unsigned number = s * THREADS + threadIdx.x;
    i = depth_first ? number / (DEPTH / 2) : number % TILE;
    k = 2 * (depth_first ? number % (DEPTH / 2) : number / TILE);
}

// Whether every pair of neighbours along the depth is whole and can be read at once.
template <typename Number>
__device__ bool in_pairs(const Operand<Number>& from) {
    return (size_t(from.start) | from.across * sizeof(Number)) % (2 * sizeof(Number)) == 0 && from.depth % 2 == 0;
}

// Two neighbours that are read at once, and two that are not.
__device__ unsigned pair_at(const float* at) {
    const float2 both = *reinterpret_cast<const float2*>(at);
    return pair_of(both.x, both.y);
}
__device__ unsigned pair_at(const Half* at) { return *reinterpret_cast<const unsigned*>(at); }
__device__ unsigned joined(float low, float high) { return pair_of(low, high); }
__device__ unsigned joined(Half low, Half high) { return low | unsigned(high) << 16; }

template <bool depth_first, typename Number>
__device__ void fetch(const Operand<Number>& from, unsigned first, unsigned step, bool pairs, unsigned (&staged)[STAGED]) {
#pragma unroll
    for (unsigned s = 0; s < STAGED; s++) {
        unsigned i, k;
        place_of<depth_first>(s, i, k);
        const bool row = first + i < from.count;
        const Number* at = from.start + (first + i) * from.across + (step + k) * from.along;
        if (depth_first && pairs) {
            staged[s] = row && step + k < from.depth ? pair_at(at) : 0;
            continue;
        }
        const Number low = row && step + k < from.depth ? at[0] : Number(0);
        const Number high = row && step + k + 1 < from.depth ? at[from.along] : Number(0);
        staged[s] = joined(low, high);
    }
}

template <bool depth_first>
__device__ void put_down(const unsigned (&staged)[STAGED], Half* tile) {
#pragma unroll
    for (unsigned s = 0; s < STAGED; s++) {
        unsigned i, k;
        place_of<depth_first>(s, i, k);
        *reinterpret_cast<unsigned*>(tile + i * STRIDE + k) = staged[s];
    }
}

template <bool a_depth_first, bool b_depth_first, typename Left, typename Right>
__device__ void product(Operand<Left> a, Operand<Right> b, bool go_on, const float* bias, const float* residual,
                        float* c, size_t stride) {
    alignas(16) __shared__ Half a_tiles[2][TILE * STRIDE];
    alignas(16) __shared__ Half b_tiles[2][TILE * STRIDE];
    const unsigned first_row = blockIdx.y * TILE, first_column = blockIdx.x * TILE;
    const unsigned warp = threadIdx.x / 32, row = warp / 4 * 64, column = warp % 4 * 32;

    float sums[4][4][4] = {};
    unsigned a_staged[STAGED], b_staged[STAGED];
    const bool a_pairs = in_pairs(a), b_pairs = in_pairs(b);
    fetch<a_depth_first>(a, first_row, 0, a_pairs, a_staged);
    fetch<b_depth_first>(b, first_column, 0, b_pairs, b_staged);
    put_down<a_depth_first>(a_staged, a_tiles[0]);
    put_down<b_depth_first>(b_staged, b_tiles[0]);
    unsigned now = 0;
    for (unsigned step = 0; step < a.depth; step += DEPTH) {
        __syncthreads();
        const bool more = step + DEPTH < a.depth;
        if (more) {
            fetch<a_depth_first>(a, first_row, step + DEPTH, a_pairs, a_staged);
            fetch<b_depth_first>(b, first_column, step + DEPTH, b_pairs, b_staged);
        }
#pragma unroll
        for (unsigned k = 0; k < DEPTH; k += 16) {
            unsigned right[4][2];
#pragma unroll
            for (unsigned j = 0; j < 4; j++) load_right<STRIDE>(b_tiles[now], column + 8 * j, k, right[j]);
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                unsigned left[4];
                load_left<STRIDE>(a_tiles[now], row + 16 * i, k, left);
#pragma unroll
                for (unsigned j = 0; j < 4; j++) multiply_add(sums[i][j], left, right[j]);
            }
        }
        now ^= 1;
        if (more) {
            put_down<a_depth_first>(a_staged, a_tiles[now]);
            put_down<b_depth_first>(b_staged, b_tiles[now]);
        }
    }

    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
#pragma unroll
        for (unsigned j = 0; j < 4; j++) {
#pragma unroll
            for (unsigned e = 0; e < 4; e++) {
                const unsigned y = first_row + row + 16 * i + g + e / 2 * 8;
                const unsigned x = first_column + column + 8 * j + 2 * t + e % 2;
                if (y >= a.count || x >= b.count) continue;
                const size_t at = y * stride + x;
                float sum = sums[i][j][e];
                if (go_on) sum += c[at];
                if (bias) sum += bias[x];
                if (residual) sum += residual[at];
                c[at] = sum;
            }
        }
    }
}

template <typename Number>
__device__ void nt(const float* a, const Number* b, unsigned rows, unsigned columns, unsigned depth, bool go_on,
                   const float* bias, const float* residual, float* c) {
    const Operand<float> left = {a, depth, 1, rows, depth};
    const Operand<Number> right = {b, depth, 1, columns, depth};
    product<true, true>(left, right, go_on, bias, residual, c, columns);
}

template <typename Number>
__device__ void nn(const float* a, const Number* b, unsigned rows, unsigned columns, unsigned depth, bool go_on,
                   const float* bias, const float* residual, float* c) {
    const Operand<float> left = {a, depth, 1, rows, depth};
    const Operand<Number> right = {b, 1, columns, columns, depth};
    product<true, false>(left, right, go_on, bias, residual, c, columns);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    product_nt(const float* a, const float* b, unsigned rows, unsigned columns, unsigned depth, unsigned go_on,
               const float* bias, const float* residual, float* c) {
    nt(a, b, rows, columns, depth, go_on, bias, residual, c);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    product_nt_half(const float* a, const Half* b, unsigned rows, unsigned columns, unsigned depth, unsigned go_on,
                    const float* bias, const float* residual, float* c) {
    nt(a, b, rows, columns, depth, go_on, bias, residual, c);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    product_nn(const float* a, const float* b, unsigned rows, unsigned columns, unsigned depth, unsigned go_on,
               const float* bias, const float* residual, float* c) {
    nn(a, b, rows, columns, depth, go_on, bias, residual, c);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    product_nn_half(const float* a, const Half* b, unsigned rows, unsigned columns, unsigned depth, unsigned go_on,
                    const float* bias, const float* residual, float* c) {
    nn(a, b, rows, columns, depth, go_on, bias, residual, c);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    product_tn(const float* a, const float* b, unsigned rows, unsigned columns, unsigned depth, unsigned go_on,
               const float* bias, const float* residual, float* c) {
    const Operand<float> left = {a, 1, rows, rows, depth}, right = {b, 1, columns, columns, depth};
    product<false, false>(left, right, go_on, bias, residual, c, columns);
}
