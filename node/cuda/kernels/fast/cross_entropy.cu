// Loss of rows of logits, and their gradient in their place: a block a row.
//
//   l = ln sum_j exp(z_j - m) + m - z_target      dz_j = scale (exp(z_j - m) / sum - [j = target])
//
// Each of 256 threads sums every 256th number in ascending order, then a tree of fixed shape adds the threads.

constexpr unsigned THREADS = 256;

struct Largest {
    __device__ static float of(float a, float b) { return fmaxf(a, b); }
};

struct Sum {
    __device__ static float of(float a, float b) { return a + b; }
};

// Of all threads' `mine`, to all threads.
template <class How>
__device__ float together(float mine, float (&places)[THREADS]) {
    __syncthreads();
    places[threadIdx.x] = mine;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) places[threadIdx.x] = How::of(places[threadIdx.x], places[threadIdx.x + half]);
    }
    __syncthreads();
    return places[0];
}

extern "C" __global__ void __launch_bounds__(256)
    cross_entropy(float* logits, unsigned vocabulary, const unsigned* targets, const float* scales, unsigned differentiate,
                  float* losses) {
    __shared__ float places[THREADS];
    float* row = logits + size_t(blockIdx.x) * vocabulary;
    const unsigned target = targets[blockIdx.x];
    float largest = row[0];
    bool broken = false;
    for (unsigned j = threadIdx.x; j < vocabulary; j += THREADS) {
        largest = fmaxf(largest, row[j]);
        // fmaxf passes over what is not a number, and a loss must not
        broken = broken || row[j] != row[j];
    }
    largest = together<Largest>(largest, places);
    float sum = broken ? __uint_as_float(0x7fc00000u) : 0.0f;
    for (unsigned j = threadIdx.x; j < vocabulary; j += THREADS) sum += expf(row[j] - largest);
    sum = together<Sum>(sum, places);
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(sum) + (largest - row[target]);
    if (!differentiate) return;
    __syncthreads();
    const float scale = scales[blockIdx.x], share = scale / sum;
    for (unsigned j = threadIdx.x; j < vocabulary; j += THREADS) {
        row[j] = expf(row[j] - largest) * share - (j == target ? scale : 0.0f);
    }
}
