// A layer's products in a step of few launches: TILE x TILE numbers a block, see product.cuh; with all that is done to a
// number before it is stored. networks, table: see networks.cuh. Shared memory: WARPS * OF_WARP numbers.
#include "product.cuh"

template <class Batch> __device__ void multiply_layer(const Batch& batch, const Layer* layer, int k, int n, bool relu) {
    SharedMemory memory;
    REAL* sums = memory.take<REAL>(WARPS * OF_WARP);
    const REAL *weights = layer->weights[0], *bias = layer->biases[0];
    REAL* out = relu ? layer[1].inputs : layer->delta;
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

// inputs (m, k) times weights (k, n) + bias (n,): the last layer's logits, or with relu max(that, 0), the next one's inputs.
extern "C" __global__ void __launch_bounds__(256, 2)
    forward(const uint8* table, int layers, int layer, int m, int k, int n, bool relu) {
    const Layer* own = own_layers(table, layers) + layer;
    multiply_layer(Matrix{own->inputs, m, k}, own, k, n, relu);
}

// The same of the first layer, of the rows of features (..., k) at the network's own of orders (..., m).
extern "C" __global__ void __launch_bounds__(256, 2)
    gather_forward(const REAL* features, const int64* orders, const uint8* networks, const uint8* table, int layers, int m,
                   int k, int n, bool relu) {
    const BatchOf batch(features, orders, own_network(networks), m, k);
    multiply_layer(batch, own_layers(table, layers), k, n, relu);
}

// The delta (m, n) of the layer before = delta (m, k) times the transposed weights (n, k), * (activation (m, n) > 0): a
// product, which keeps NaN.
extern "C" __global__ void __launch_bounds__(256, 2)
    backward(const uint8* table, int layers, int layer, int m, int k, int n) {
    SharedMemory memory;
    REAL* sums = memory.take<REAL>(WARPS * OF_WARP);
    const Layer* own = own_layers(table, layers) + layer;
    const REAL *delta = own->delta, *weights = own->weights[0], *activation = own->inputs;
    REAL* out = own[-1].delta;
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
