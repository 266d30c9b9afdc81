// The elementwise steps of a layer, and the sum over a batch. All arrays are of REAL, with contiguous rows of
// `columns` numbers; out may be the first input. NaN is kept: every comparison with it is false.
#include "each.cuh"

// out (m, n) = (features (m, n) - mean (n,)) * scale.
extern "C" __global__ void standardize(const REAL* features, const REAL* mean, REAL scale, REAL* out, int64 count,
                                       int64 columns) {
    fill(out, count, [=](int64 i) { return (features[i] - mean[i % columns]) * scale; });
}

// out (m, n) = z (m, n) + bias (n,).
extern "C" __global__ void add_bias(const REAL* z, const REAL* bias, REAL* out, int64 count, int64 columns) {
    fill(out, count, [=](int64 i) { return z[i] + bias[i % columns]; });
}

// out (m, n) = max(z + bias, 0).
extern "C" __global__ void bias_relu(const REAL* z, const REAL* bias, REAL* out, int64 count, int64 columns) {
    fill(out, count, [=](int64 i) {
        const REAL biased = z[i] + bias[i % columns];
        return biased < 0 ? REAL(0) : biased;
    });
}

// out (m, n) = gradient * (activation > 0), a product, which keeps NaN in the gradient.
extern "C" __global__ void relu_backward(const REAL* gradient, const REAL* activation, REAL* out, int64 count) {
    fill(out, count, [=](int64 i) { return gradient[i] * REAL(activation[i] > 0); });
}

// out (n,) = the sum of values (m, n) over its rows. A block sums 32 columns: of W warps, warp w sums rows w, w + W, and
// so on, then the first warp adds up the warps' sums in order. Shared memory: one number per thread.
extern "C" __global__ void column_sum(const REAL* values, REAL* out, int64 rows, int64 columns) {
    SharedMemory memory;
    REAL* sums = memory.take<REAL>(blockDim.x);
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, warps = blockDim.x / LANES;
    const int64 column = static_cast<int64>(blockIdx.x) * LANES + lane;
    REAL sum = 0;
    if (column < columns)
        for (int64 row = warp; row < rows; row += warps) sum += values[row * columns + column];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp > 0 || column >= columns) return;
    for (int w = 1; w < warps; ++w) sum += sums[w * LANES + lane];
    out[column] = sum;
}
