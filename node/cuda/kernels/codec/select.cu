// The contribution codec up to the bits: what is sent of each chunk, and what stays in the error feedback. The same
// numbers as on the processor, to the last bit: `+ - * /` on f32 in the order that the format prescribes.
//
//   sum = decay * feedback + delta, tiny ones flushed           all threads
//   the k largest, ties to the lower position                   all threads: a threshold bit by bit, then places in order
//   one scale and small levels                                  two threads: a start each of Lloyd's method
//   feedback = sum - sent                                       all threads
//
// A block of 256 threads a chunk; each owns a run of neighbouring places, so that places come out in ascending order.
// Magnitudes are compared as integers: with the sign clear, the bits of f32 order as the numbers do.

constexpr unsigned THREADS = 256;
constexpr unsigned FITS = 4;
// 2^-100, 2^-60, 2^40 and the smallest normal number
constexpr unsigned FLUSH_BELOW = (127 - 100) << 23;
constexpr unsigned MIN_SCALE = (127 - 60) << 23;
constexpr unsigned MAX_SCALE = (127 + 40) << 23;
constexpr unsigned MIN_POSITIVE = 1u << 23;
constexpr unsigned SIGN = 0x80000000u;

struct Settings {
    unsigned first, last;
};

__device__ unsigned magnitude_of(float x) { return __float_as_uint(x) & ~SIGN; }

// The sum of all threads' `mine`, to all threads.
__device__ unsigned total(unsigned mine, unsigned (&places)[THREADS]) {
    __syncthreads();
    places[threadIdx.x] = mine;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) places[threadIdx.x] += places[threadIdx.x + half];
    }
    __syncthreads();
    return places[0];
}

// The sum of what the threads before this one have.
__device__ unsigned before(unsigned mine, unsigned (&places)[THREADS]) {
    __syncthreads();
    places[threadIdx.x] = mine;
    for (unsigned step = 1; step < THREADS; step *= 2) {
        __syncthreads();
        const unsigned more = threadIdx.x >= step ? places[threadIdx.x - step] : 0;
        __syncthreads();
        places[threadIdx.x] += more;
    }
    __syncthreads();
    return places[threadIdx.x] - mine;
}

// The level nearest to `magnitude / scale`; 0 when nothing at all is nearer than the lowest level.
__device__ unsigned level_of(float magnitude, float scale, Settings settings) {
    const float ratio = __fdiv_rn(magnitude, scale), rounded = __fadd_rn(ratio, 0.5f);
    if (rounded >= float(settings.last)) return settings.last;
    const unsigned nearest = unsigned(rounded);
    if (nearest >= settings.first) return nearest;
    return __fmul_rn(ratio, 2.0f) >= float(settings.first) ? settings.first : 0;
}

struct Fit {
    float scale, gain;
};

// Takes turns of assigning levels and solving for the scale by least squares; see `quantise.rs`.
__device__ Fit refine(const float* sums, const unsigned* chosen, unsigned count, float start, Settings settings) {
    Fit fit = {start, 0.0f};
    for (unsigned round = 0; round < FITS; round++) {
        if (fit.scale < __uint_as_float(MIN_SCALE)) return {0.0f, 0.0f};
        float product = 0.0f, square = 0.0f;
        for (unsigned i = 0; i < count; i++) {
            const float magnitude = __uint_as_float(magnitude_of(sums[chosen[i]]));
            const float level = float(level_of(magnitude, fit.scale, settings));
            product = __fadd_rn(product, __fmul_rn(level, magnitude));
            square = __fadd_rn(square, __fmul_rn(level, level));
        }
        if (square == 0.0f) return {0.0f, 0.0f};
        fit.scale = __fdiv_rn(product, square);
        fit.gain = __fmul_rn(product, fit.scale);
    }
    return fit;
}

// largest [chunks]: the bits of each chunk's largest magnitude, by which the host refuses what has diverged.
extern "C" __global__ void __launch_bounds__(256)
    contribution_largest(const float* delta, size_t elements, unsigned chunk, unsigned* largest) {
    __shared__ unsigned places[THREADS];
    const size_t start = size_t(blockIdx.x) * chunk;
    const unsigned length = elements - start < chunk ? unsigned(elements - start) : chunk;
    unsigned mine = 0;
    for (unsigned i = threadIdx.x; i < length; i += THREADS) mine = max(mine, magnitude_of(delta[start + i]));
    places[threadIdx.x] = mine;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) places[threadIdx.x] = max(places[threadIdx.x], places[threadIdx.x + half]);
    }
    if (threadIdx.x == 0) largest[blockIdx.x] = places[0];
}

// heads [chunks, 2]: the scale's bfloat16, and how many entries were chosen. Of those, in ascending order,
// entries [chunks, k]: position, then from bit 16 on the level (0: not sent), and bit 31 for a negative value.
extern "C" __global__ void __launch_bounds__(256)
    contribution_select(const float* delta, float* feedback, size_t elements, unsigned chunk, unsigned k, unsigned first,
                        unsigned last, float decay, unsigned* heads, unsigned* entries) {
    __shared__ unsigned places[THREADS];
    __shared__ Fit fits[2];
    const Settings settings = {first, last};
    const size_t start = size_t(blockIdx.x) * chunk;
    const unsigned length = elements - start < chunk ? unsigned(elements - start) : chunk;
    const unsigned wanted = unsigned((size_t(k) * length + chunk - 1) / chunk);
    const unsigned each = (length + THREADS - 1) / THREADS;
    const unsigned begin = min(threadIdx.x * each, length), end = min(begin + each, length);
    float* sums = feedback + start;
    unsigned* chosen = entries + size_t(blockIdx.x) * k;

    unsigned nonzero = 0;
    for (unsigned i = begin; i < end; i++) {
        float sum = __fadd_rn(__fmul_rn(decay, sums[i]), delta[start + i]);
        if (magnitude_of(sum) < FLUSH_BELOW) sum = 0.0f;
        sums[i] = sum;
        nonzero += magnitude_of(sum) >= MIN_POSITIVE;
    }
    nonzero = total(nonzero, places);

    // the largest threshold that at least as many entries reach as are wanted
    unsigned threshold = MIN_POSITIVE;
    if (nonzero > wanted) {
        threshold = 0;
        for (unsigned bit = 1u << 30; bit > 0; bit >>= 1) {
            unsigned reach = 0;
            for (unsigned i = begin; i < end; i++) reach += magnitude_of(sums[i]) >= (threshold | bit);
            if (total(reach, places) >= wanted) threshold |= bit;
        }
    }
    unsigned above = 0, equal = 0;
    for (unsigned i = begin; i < end; i++) {
        above += magnitude_of(sums[i]) > threshold;
        equal += magnitude_of(sums[i]) == threshold;
    }
    const unsigned all_above = total(above, places);
    const unsigned count = min(nonzero, wanted), ties = count - all_above;
    const unsigned ties_before = before(equal, places);
    const unsigned mine = above + min(equal, ties - min(ties, ties_before));
    unsigned at = before(mine, places), tie = ties_before;
    for (unsigned i = begin; i < end; i++) {
        const unsigned magnitude = magnitude_of(sums[i]);
        const bool tied = magnitude == threshold;
        if (magnitude > threshold || (tied && tie < ties)) chosen[at++] = i;
        tie += tied;
    }
    __syncthreads();

    if (threadIdx.x < 2) {
        float start_from = 0.0f;
        for (unsigned i = 0; i < count; i++) {
            const float magnitude = __uint_as_float(magnitude_of(sums[chosen[i]]));
            if (threadIdx.x == 1) start_from = __fadd_rn(start_from, magnitude);
            else if (magnitude > start_from) start_from = magnitude;
        }
        if (threadIdx.x == 1) {
            start_from = __fdiv_rn(start_from, float(max(count, 1u)));
            start_from = __fdiv_rn(start_from, __fmul_rn(float(first + last), 0.5f));
        } else {
            start_from = __fdiv_rn(start_from, float(last));
        }
        fits[threadIdx.x] = refine(sums, chosen, count, start_from, settings);
    }
    __syncthreads();
    const unsigned bits = __float_as_uint(fits[1].gain > fits[0].gain ? fits[1].scale : fits[0].scale);
    unsigned word = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    const float scale = __uint_as_float(word << 16);
    const bool within = scale >= __uint_as_float(MIN_SCALE) && scale <= __uint_as_float(MAX_SCALE);
    if (!within) word = 0;

    unsigned sent = 0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) {
        const unsigned place = chosen[i];
        const float sum = sums[place];
        const unsigned level = within ? level_of(__uint_as_float(magnitude_of(sum)), scale, settings) : 0;
        const unsigned negative = __float_as_uint(sum) & SIGN;
        if (level > 0) {
            const float value = __fmul_rn(float(level), scale);
            sums[place] = __fsub_rn(sum, negative ? -value : value);
            sent++;
        }
        chosen[i] = place | level << 16 | negative;
    }
    sent = total(sent, places);
    if (threadIdx.x == 0) {
        heads[2 * blockIdx.x] = sent > 0 ? word : 0;
        heads[2 * blockIdx.x + 1] = count;
    }
}
