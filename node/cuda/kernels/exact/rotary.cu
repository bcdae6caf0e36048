// Rotary positions, half-split form: the pair of a = x[i] of a head is b = x[i + d/2]; nothing fused.
//
//   a' = a cos - b sin      b' = b cos + a sin      back: the sine's sign turned

constexpr unsigned THREADS = 256;

// x [rows, stride] with `heads` heads of `width`; turns [rows, width]: cosines, then sines. A thread turns a pair.
extern "C" __global__ void __launch_bounds__(THREADS)
    rotate(const float* turns, float* x, unsigned rows, unsigned heads, unsigned width, size_t stride, float sign) {
    const unsigned half = width / 2;
    const size_t number = size_t(blockIdx.x) * THREADS + threadIdx.x;
    if (number >= size_t(rows) * heads * half) return;
    const unsigned i = number % half;
    const unsigned head = number / half % heads;
    const size_t row = number / half / heads;
    const float cosine = turns[row * width + i];
    const float sine = sign * turns[row * width + half + i];
    float* at = x + row * stride + head * width + i;
    const float a = at[0], b = at[half];
    at[0] = a * cosine - b * sine;
    at[half] = b * cosine + a * sine;
}

// dangles[i] += dy[i + d/2] * y[i] - dy[i] * y[i + d/2], over the chosen rows and all heads in order. A thread has an angle.
extern "C" __global__ void __launch_bounds__(THREADS)
    angle_gradient(const unsigned* rows, unsigned count, const float* y, size_t y_stride, const float* dy,
                   size_t dy_stride, float* dangles, unsigned heads, unsigned width) {
    const unsigned half = width / 2;
    const unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= half) return;
    float sum = dangles[i];
    for (unsigned r = 0; r < count; r++) {
        for (unsigned head = 0; head < heads; head++) {
            const float* own_y = y + rows[r] * y_stride + head * width + i;
            const float* own_dy = dy + rows[r] * dy_stride + head * width + i;
            sum = sum + (own_dy[half] * own_y[0] - own_dy[0] * own_y[half]);
        }
    }
    dangles[i] = sum;
}
