// One AdamW step, in place, whose moments are packed in eight bits: blocks of 256 numbers, a word with the scale and 64 words
// with a code each byte. What levels and codes are is said in `moments/eight_bit.rs` of the trainer; the bits are its.
//
// A thread has a number of every block. The largest magnitude of a block is the same in whatever order it is looked for.

constexpr unsigned THREADS = 256, WORDS = 65, WARPS = THREADS / 32;
// Blocks of moments that a block of threads goes through, so that the levels are computed once for all of them.
constexpr unsigned EACH = 8;
// The smallest magnitude that a block keeps, 2^-100.
constexpr unsigned LEAST_SCALE = (127u - 100u) << 23;

// Level `code` of `count` levels: the middle of a part of its decade.
__device__ float level(unsigned code, unsigned count) {
    if (code == 0) return 0.0f;
    if (code == count - 1) return 1.0f;
    const unsigned more = count / 256, place = code + more;
    const unsigned power = 31 - __clz(static_cast<int>(place)), parts = 1u << power, part = place - parts;
    unsigned below = 20 * parts;
    for (unsigned decade = power - more; decade < 6; decade++) below *= 10;
    return static_cast<float>(2 * parts + 9 * (2 * part + 1)) / static_cast<float>(below);
}

// The nearest of `count` levels; the lower one of two that are equally near.
__device__ unsigned nearest(const float* levels, unsigned count, float share) {
    unsigned code = 0;
    for (unsigned step = count / 2; step > 0; step /= 2) {
        const unsigned next = code + step;
        if (share > 0.5f * (levels[next - 1] + levels[next])) code = next;
    }
    return code;
}

// The largest magnitude of a block; what is no number is passed over. All threads take part, and all get it.
__device__ float largest(float number, float* of_warps) {
    const float magnitude = fabsf(number);
    float most = magnitude > 0.0f ? magnitude : 0.0f;
    for (int with = 16; with > 0; with /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, most, with);
        most = other > most ? other : most;
    }
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = most;
    __syncthreads();
    for (unsigned warp = 0; warp < WARPS; warp++) most = of_warps[warp] > most ? of_warps[warp] : most;
    return most;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    adamw_eight_bit(const float* gradient, unsigned* first, unsigned* second, float* parameter, size_t n, float beta1,
                    float beta2, float epsilon, float step_size, float root_correction, float gradient_factor,
                    float keep, float most) {
    __shared__ float first_levels[128], second_levels[256], largest_first[WARPS], largest_second[WARPS];
    const unsigned own = threadIdx.x;
    if (own < 128) first_levels[own] = level(own, 128);
    second_levels[own] = level(own, 256);
    const float least = __uint_as_float(LEAST_SCALE);
    const float fresh1 = 1.0f - beta1, fresh2 = 1.0f - beta2;
    const size_t blocks = (n + THREADS - 1) / THREADS;
    for (size_t block = size_t(blockIdx.x) * EACH; block < blocks && block < size_t(blockIdx.x + 1) * EACH; block++) {
        // also: nobody reads the last block's largest magnitudes any more
        __syncthreads();
        const size_t i = block * THREADS + own;
        unsigned *first_words = first + block * WORDS, *second_words = second + block * WORDS;
        unsigned char* first_codes = reinterpret_cast<unsigned char*>(first_words + 1);
        unsigned char* second_codes = reinterpret_cast<unsigned char*>(second_words + 1);
        float m = 0.0f, v = 0.0f;
        if (i < n) {
            const unsigned code = first_codes[own];
            m = first_levels[code & 127u] * __uint_as_float(first_words[0]);
            if (code & 128u) m = -m;
            v = second_levels[second_codes[own]] * __uint_as_float(second_words[0]);
            const float g = gradient_factor * gradient[i];
            m = beta1 * m + fresh1 * g;
            v = beta2 * v + fresh2 * g * g;
            float ratio = m / (__fsqrt_rn(v) / root_correction + epsilon);
            if (ratio < -most) ratio = -most;
            if (ratio > most) ratio = most;
            parameter[i] = parameter[i] * keep - step_size * ratio;
        }
        const float first_scale = largest(m, largest_first);
        const float second_scale = largest(v, largest_second);
        unsigned first_code = 0, second_code = 0;
        if (first_scale >= least) {
            first_code = nearest(first_levels, 128, fabsf(m) / first_scale);
            if (first_code > 0 && m < 0.0f) first_code |= 128u;
        }
        if (second_scale >= least) {
            second_code = nearest(second_levels, 256, fabsf(v) / second_scale);
            if (second_code == 0 && v > 0.0f) second_code = 1;
        }
        // what is left of the last word of codes is zero
        if (i < (n + 3) / 4 * 4) {
            first_codes[own] = static_cast<unsigned char>(first_code);
            second_codes[own] = static_cast<unsigned char>(second_code);
        }
        if (own == 0) {
            first_words[0] = first_scale >= least ? __float_as_uint(first_scale) : 0;
            second_words[0] = second_scale >= least ? __float_as_uint(second_scale) : 0;
        }
    }
}
