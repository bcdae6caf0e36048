// Kernels with the faults that the emulator is to find.

constexpr unsigned THREADS = 64;

// reads one number behind its buffer
extern "C" __global__ void reads_behind(const float* x, float* y, unsigned n) { y[threadIdx.x] = x[threadIdx.x + 1]; }

// writes one number before its buffer
extern "C" __global__ void writes_before(float* y) { (y - 1)[threadIdx.x] = 1.0f; }

// turns a row around in shared memory, and forgets to wait until it is there
template <bool waits>
__device__ void turn(const float* x, float* y) {
    __shared__ float room[THREADS];
    room[threadIdx.x] = x[threadIdx.x];
    if (waits) __syncthreads();
    y[threadIdx.x] = room[THREADS - 1 - threadIdx.x];
}
extern "C" __global__ void turns_without_waiting(const float* x, float* y) { turn<false>(x, y); }
extern "C" __global__ void turns(const float* x, float* y) { turn<true>(x, y); }

// only some threads come to the barrier
extern "C" __global__ void waits_apart(float* y) {
    if (threadIdx.x < 40) __syncthreads();
    y[threadIdx.x] = 1.0f;
}

// sums a warp's numbers
extern "C" __global__ void sums_a_warp(const float* x, float* y) {
    float sum = x[threadIdx.x];
    for (int with = 16; with > 0; with /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, with);
    y[threadIdx.x] = sum;
}

// shows what shared memory holds before anybody wrote there
extern "C" __global__ void shows_fresh_memory(float* y) {
    __shared__ float room[THREADS];
    y[threadIdx.x] = room[threadIdx.x];
    room[threadIdx.x] = 5.0f;
}
