// The matrix product of the exact class: every element is one chain of fused multiply-adds over ascending k.
//
//   c[i, j] = fma(a[i, K-1], b[K-1, j], ... fma(a[i, 0], b[0, j], c0))      then + bias[j], then + residual[i, j]
//
// with c0 zero, or what stands in c. A block makes 128 x 128 elements with 256 threads, a thread 8 x 8 of them: four
// rows and four columns, and the same 64 further. Sixteen steps of k at a time are staged in shared memory, the next
// sixteen on their way in registers meanwhile.
//
// A step is never padded: fma(0, 0, -0) is +0, so even zeros would change bits.
//
// The second operand of products with a weight may be halves of f32, as weights are held that are not trained: they are
// widened where they are fetched, so that bits are those of the same numbers in f32.

#include "shared/half.cuh"

constexpr unsigned TILE = 128;
constexpr unsigned DEPTH = 16;
constexpr unsigned THREADS = 256;
// what one thread stages of each operand
constexpr unsigned STAGED = TILE * DEPTH / THREADS;
// four more than a tile, so that staging a turned operand meets fewer banks twice
constexpr unsigned ROW = TILE + 4;

// An operand as the product reads it: element (i, k) at `start[i * across + k * along]`, for i below `count`.
template <typename Number>
struct Operand {
    const Number* start;
    size_t across;
    size_t along;
    unsigned count;
};

// Which element of a staged tile a thread's number `s` is: neighbours in memory go to neighbouring threads.
template <bool depth_first>
__device__ void place_of(unsigned s, unsigned& i, unsigned& k) {
    const unsigned number = s * THREADS + threadIdx.x;
    i = depth_first ? number / DEPTH : number % TILE;
    k = depth_first ? number % DEPTH : number / TILE;
}

template <bool depth_first, typename Number>
__device__ void fetch(const Operand<Number>& from, unsigned first, unsigned step, unsigned depth, float (&staged)[STAGED]) {
#pragma unroll
    for (unsigned s = 0; s < STAGED; s++) {
        unsigned i, k;
        place_of<depth_first>(s, i, k);
        const bool inside = first + i < from.count && step + k < depth;
        staged[s] = inside ? number_of(from.start[(first + i) * from.across + (step + k) * from.along]) : 0.0f;
    }
}

template <bool depth_first>
__device__ void put_down(const float (&staged)[STAGED], float (&tile)[DEPTH][ROW]) {
#pragma unroll
    for (unsigned s = 0; s < STAGED; s++) {
        unsigned i, k;
        place_of<depth_first>(s, i, k);
        tile[k][i] = staged[s];
    }
}

// The eight numbers of a thread in one step: four, and four 64 further.
__device__ void eight(const float (&row)[ROW], unsigned first, float (&numbers)[8]) {
    const float4 near = *reinterpret_cast<const float4*>(&row[first]);
    const float4 far = *reinterpret_cast<const float4*>(&row[first + 64]);
    numbers[0] = near.x, numbers[1] = near.y, numbers[2] = near.z, numbers[3] = near.w;
    numbers[4] = far.x, numbers[5] = far.y, numbers[6] = far.z, numbers[7] = far.w;
}

__device__ void step(const float (&a)[ROW], const float (&b)[ROW], unsigned row, unsigned column, float (&chains)[8][8]) {
    float left[8], right[8];
    eight(a, row, left);
    eight(b, column, right);
#pragma unroll
    for (unsigned i = 0; i < 8; i++) {
#pragma unroll
        for (unsigned j = 0; j < 8; j++) chains[i][j] = __fmaf_rn(left[i], right[j], chains[i][j]);
    }
}

template <bool a_depth_first, bool b_depth_first, typename Number>
__device__ void product(Operand<float> a, Operand<Number> b, unsigned depth, bool go_on, const float* bias,
                        const float* residual, float* c, size_t stride) {
    __shared__ __align__(16) float a_tiles[2][DEPTH][ROW];
    __shared__ __align__(16) float b_tiles[2][DEPTH][ROW];
    const unsigned first_row = blockIdx.y * TILE, first_column = blockIdx.x * TILE;
    const unsigned row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
    auto place = [](unsigned first, unsigned own, unsigned i) { return first + own + i % 4 + i / 4 * 64; };

    float chains[8][8];
#pragma unroll
    for (unsigned i = 0; i < 8; i++) {
#pragma unroll
        for (unsigned j = 0; j < 8; j++) {
            const unsigned y = place(first_row, row, i), x = place(first_column, column, j);
            chains[i][j] = go_on && y < a.count && x < b.count ? c[y * stride + x] : 0.0f;
        }
    }

    float a_staged[STAGED], b_staged[STAGED];
    if (depth > 0) {
        fetch<a_depth_first>(a, first_row, 0, depth, a_staged);
        fetch<b_depth_first>(b, first_column, 0, depth, b_staged);
        put_down<a_depth_first>(a_staged, a_tiles[0]);
        put_down<b_depth_first>(b_staged, b_tiles[0]);
    }
    unsigned now = 0;
    for (unsigned k = 0; k < depth; k += DEPTH) {
        __syncthreads();
        const bool more = k + DEPTH < depth;
        if (more) {
            fetch<a_depth_first>(a, first_row, k + DEPTH, depth, a_staged);
            fetch<b_depth_first>(b, first_column, k + DEPTH, depth, b_staged);
        }
        if (k + DEPTH <= depth) {
#pragma unroll
            for (unsigned i = 0; i < DEPTH; i++) step(a_tiles[now][i], b_tiles[now][i], row, column, chains);
        } else {
            for (unsigned i = 0; i < depth - k; i++) step(a_tiles[now][i], b_tiles[now][i], row, column, chains);
        }
        now ^= 1;
        if (more) {
            put_down<a_depth_first>(a_staged, a_tiles[now]);
            put_down<b_depth_first>(b_staged, b_tiles[now]);
        }
    }

#pragma unroll
    for (unsigned i = 0; i < 8; i++) {
        const unsigned y = place(first_row, row, i);
        if (y >= a.count) continue;
#pragma unroll
        for (unsigned j = 0; j < 8; j++) {
            const unsigned x = place(first_column, column, j);
            if (x >= b.count) continue;
            float result = chains[i][j];
            if (bias) result = result + bias[x];
            if (residual) result = result + residual[y * stride + x];
            c[y * stride + x] = result;
        }
    }
}

// c [rows, columns] from a [rows, depth] and b [depth, columns]
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    product_nn(const float* a, size_t a_stride, const float* b, size_t b_stride, unsigned rows, unsigned depth,
               unsigned columns, unsigned go_on, const float* bias, const float* residual, float* c, size_t stride) {
    const Operand<float> left = {a, a_stride, 1, rows}, right = {b, 1, b_stride, columns};
    product<true, false>(left, right, depth, go_on, bias, residual, c, stride);
}

// the same where b is halves
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    product_nn_half(const float* a, size_t a_stride, const Half* b, size_t b_stride, unsigned rows, unsigned depth,
                    unsigned columns, unsigned go_on, const float* bias, const float* residual, float* c,
                    size_t stride) {
    const Operand<float> left = {a, a_stride, 1, rows};
    const Operand<Half> right = {b, 1, b_stride, columns};
    product<true, false>(left, right, depth, go_on, bias, residual, c, stride);
}

// c [rows, columns] from a [rows, depth] and b [columns, depth]
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    product_nt(const float* a, size_t a_stride, const float* b, size_t b_stride, unsigned rows, unsigned depth,
               unsigned columns, unsigned go_on, const float* bias, const float* residual, float* c, size_t stride) {
    const Operand<float> left = {a, a_stride, 1, rows}, right = {b, b_stride, 1, columns};
    product<true, true>(left, right, depth, go_on, bias, residual, c, stride);
}

// the same where b is halves
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    product_nt_half(const float* a, size_t a_stride, const Half* b, size_t b_stride, unsigned rows, unsigned depth,
                    unsigned columns, unsigned go_on, const float* bias, const float* residual, float* c,
                    size_t stride) {
    const Operand<float> left = {a, a_stride, 1, rows};
    const Operand<Half> right = {b, b_stride, 1, columns};
    product<true, true>(left, right, depth, go_on, bias, residual, c, stride);
}

// c [rows, columns] from a [depth, rows] and b [depth, columns]
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    product_tn(const float* a, size_t a_stride, const float* b, size_t b_stride, unsigned rows, unsigned depth,
               unsigned columns, unsigned go_on, const float* bias, const float* residual, float* c, size_t stride) {
    const Operand<float> left = {a, 1, a_stride, rows}, right = {b, 1, b_stride, columns};
    product<false, false>(left, right, depth, go_on, bias, residual, c, stride);
}
