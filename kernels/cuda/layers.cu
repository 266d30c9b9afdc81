// A layer's products in a step of few launches: TILE x TILE numbers a block, see product.cuh; with all that is done to a
// number before it is stored. Shared memory: WARPS * OF_WARP numbers.
#include "product.cuh"

template <class Batch>
__device__ void layer(const Batch& batch, const REAL* weights, const REAL* bias, REAL* out, int k, int n, bool relu) {
    SharedMemory memory;
    REAL* sums = memory.take<REAL>(WARPS * OF_WARP);
    const int tiles_in_row = (n + TILE - 1) / TILE;
    const int first_row = blockIdx.x / tiles_in_row * TILE, first_column = blockIdx.x % tiles_in_row * TILE;
    multiply<false>(Side<true, Batch>(batch, first_row), Side<false, Matrix>({weights, k, n}, first_column), k, sums);
    for (int place = threadIdx.x; place < TILE * TILE; place += THREADS) {
        const int row = first_row + place / TILE, column = first_column + place % TILE;
        if (row >= batch.rows || column >= n) continue;
        const REAL z = total(sums, place) + bias[column];
        out[static_cast<int64>(row) * n + column] = relu && z < 0 ? REAL(0) : z; // NaN is kept: no comparison with it holds
    }
}

// out (m, n) = inputs (m, k) times weights (k, n) + bias (n,), and with relu max(that, 0).
extern "C" __global__ void __launch_bounds__(256, 1)
    forward(const REAL* inputs, const REAL* weights, const REAL* bias, REAL* out, int m, int k, int n, bool relu) {
    layer(Matrix{inputs, m, k}, weights, bias, out, k, n, relu);
}

// The same of the rows of features (..., k) at order (m,), each (row - mean (k,)) * scale if centred.
extern "C" __global__ void __launch_bounds__(256, 1)
    gather_forward(const REAL* features, const int64* order, const REAL* mean, REAL scale, bool centred,
                   const REAL* weights, const REAL* bias, REAL* out, int m, int k, int n, bool relu) {
    layer(BatchOf{features, m, k, order, mean, scale, centred}, weights, bias, out, k, n, relu);
}

// out (m, n) = delta (m, k) times the transposed weights (n, k), * (activation (m, n) > 0): a product, which keeps NaN.
extern "C" __global__ void __launch_bounds__(256, 1)
    backward(const REAL* delta, const REAL* weights, const REAL* activation, REAL* out, int m, int k, int n) {
    SharedMemory memory;
    REAL* sums = memory.take<REAL>(WARPS * OF_WARP);
    const int tiles_in_row = (n + TILE - 1) / TILE;
    const int first_row = blockIdx.x / tiles_in_row * TILE, first_column = blockIdx.x % tiles_in_row * TILE;
    multiply<false>(Side<true, Matrix>({delta, m, k}, first_row), Side<true, Matrix>({weights, n, k}, first_column), k, sums);
    for (int place = threadIdx.x; place < TILE * TILE; place += THREADS) {
        const int row = first_row + place / TILE, column = first_column + place % TILE;
        if (row >= m || column >= n) continue;
        const int64 there = static_cast<int64>(row) * n + column;
        out[there] = total(sums, place) * REAL(activation[there] > 0);
    }
}
