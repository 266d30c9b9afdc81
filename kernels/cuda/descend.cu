// The end of a step of few launches: all layers' gradients and the optimizer's step along them, and the batch's loss and
// hits. A block has a tile of one layer's weights, see product.cuh, and the first ones of a layer its biases too; the last
// block adds up the losses. Large tiles are those of large layers, or of many networks: each warp has its own, so that
// no sums of warps are to be added up. OPTIMIZER, set by the compiler's options, names the header with its `step`.
#include "product.cuh"
#include "optimizers/OPTIMIZER.cuh"

constexpr bool ALONE = TILE == 32; // a warp with its tile
constexpr int TILES = ALONE ? WARPS : 1;
constexpr int SHARING = ALONE ? LANES : THREADS;               // threads that share a tile
constexpr int NUMBERS = (TILE * TILE + SHARING - 1) / SHARING; // of the tile, that a thread has
constexpr int SLOTS = 1 + MOMENTS; // of a parameter: its value, then each moment
constexpr bool EARLY = NUMBERS * SLOTS <= 4; // whether registers are left to read parameters before they are needed
constexpr int BLOCKS = ALONE || sizeof(REAL) > 4 ? 1 : 2; // that a multiprocessor has registers for
static_assert(SLOTS <= MOST_SLOTS, "the table of slots is too short");

struct Update {
    REAL kept, own[COEFFICIENTS];
};

// A parameter.
struct Parameter {
    REAL slots[SLOTS];

    __device__ void read(REAL* const* from, int64 i) {
#pragma unroll
        for (int slot = 0; slot < SLOTS; ++slot) slots[slot] = from[slot][i];
    }
    __device__ void take_step(REAL gradient, const Update& by, REAL kept, REAL* const* to, int64 i) {
        step(slots, gradient, by.own, kept);
#pragma unroll
        for (int slot = 0; slot < SLOTS; ++slot) to[slot][i] = slots[slot];
    }
};

template <class Batch> __device__ void descend_tile(const Layer& layer, const Batch& batch, const Update& by, REAL* sums) {
    const int block = static_cast<int>(blockIdx.x - layer.first_block), warp = threadIdx.x / LANES, n = layer.n;
    const int tile = block * TILES + (ALONE ? warp : 0), thread = threadIdx.x % SHARING;
    const int first_row = tile / layer.tiles_in_row * TILE, first_column = tile % layer.tiles_in_row * TILE;
    if (first_row >= layer.k) return; // a warp that has no tile
    const bool has_biases = first_row == 0 && thread < TILE && first_column + thread < n;
    Parameter early[EARLY ? NUMBERS : 1] = {}, bias = {};
    const auto is_there = [&](int place) {
        return place < TILE * TILE && first_row + place / TILE < layer.k && first_column + place % TILE < n;
    };
    const auto index = [&](int place) {
        return static_cast<int64>(first_row + place / TILE) * n + first_column + place % TILE;
    };
#pragma unroll
    for (int i = 0; EARLY && i < NUMBERS; ++i) {
        const int place = thread + i * SHARING;
        if (is_there(place)) early[i].read(layer.weights, index(place));
    }
    if (has_biases) bias.read(layer.biases, first_column + thread);
    const Side<false, Batch> inputs(batch, first_row);
    const Side<false, Matrix> delta({layer.delta, batch.rows, n}, first_column);
    REAL* own = ALONE ? sums + warp * OF_WARP : sums;
    if (ALONE)
        multiply_alone<true>(inputs, delta, batch.rows, own);
    else
        multiply<true>(inputs, delta, batch.rows, own);
    const auto gradient = [&](int place) { return ALONE ? own[place] : total(own, place); };
#pragma unroll(EARLY ? NUMBERS : 4)
    for (int i = 0; i < NUMBERS; ++i) {
        const int place = thread + i * SHARING;
        if (!is_there(place)) continue;
        Parameter weight = early[EARLY ? i : 0];
        if (!EARLY) weight.read(layer.weights, index(place));
        weight.take_step(gradient(place), by, by.kept, layer.weights, index(place));
    }
    if (has_biases) bias.take_step(gradient(COLUMN_SUMS + thread), by, REAL(1), layer.biases, first_column + thread);
}

// loss, hits (1,) = the sums of the rows' (m,), of losses in float64, so that a sum of a thousand loses no digit.
__device__ void add_up(const REAL* losses, const int* hits_of_rows, int m, void* memory, REAL* loss, int64* hits) {
    double* losses_of_warps = static_cast<double*>(memory);
    int* hits_of_warps = reinterpret_cast<int*>(losses_of_warps + WARPS);
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    double sum = 0;
    int count = 0;
    for (int row = threadIdx.x; row < m; row += THREADS) {
        sum += losses[row];
        count += hits_of_rows[row];
    }
    for (int bits = LANES / 2; bits; bits /= 2) {
        sum += __shfl_xor_sync(ALL_LANES, sum, bits);
        count += __shfl_xor_sync(ALL_LANES, count, bits);
    }
    if (lane == 0) {
        losses_of_warps[warp] = sum;
        hits_of_warps[warp] = count;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int other = 1; other < WARPS; ++other) {
        sum += losses_of_warps[other];
        count += hits_of_warps[other];
    }
    *loss = static_cast<REAL>(sum);
    *hits = count;
}

// features, orders (..., m): of the batch, see product.cuh. networks, table: see networks.cuh. coefficients double
// (networks, 1 + COEFFICIENTS), see update.cu: weights decay, biases do not. losses, hits_of_rows (networks, m) are summed
// up to loss, hits (networks,). Shared memory: WARPS * OF_WARP numbers.
extern "C" __global__ void __launch_bounds__(256, BLOCKS)
    descend(const REAL* features, const int64* orders, const uint8* networks, const uint8* table, int layers,
            const double* coefficients, const REAL* losses, const int* hits_of_rows, REAL* loss, int64* hits, int m) {
    SharedMemory memory;
    REAL* sums = memory.take<REAL>(WARPS * OF_WARP);
    if (blockIdx.x == gridDim.x - 1) {
        const int64 first = static_cast<int64>(blockIdx.y) * m;
        add_up(losses + first, hits_of_rows + first, m, sums, loss + blockIdx.y, hits + blockIdx.y);
        return;
    }
    coefficients += blockIdx.y * (1 + COEFFICIENTS);
    Update by;
    by.kept = static_cast<REAL>(coefficients[0]);
#pragma unroll
    for (int i = 0; i < COEFFICIENTS; ++i) by.own[i] = static_cast<REAL>(coefficients[1 + i]);
    const Layer *first = own_layers(table, layers), *layer = first;
    while (layer + 1 < first + layers && blockIdx.x >= layer[1].first_block) ++layer;
    if (layer == first)
        descend_tile(*layer, BatchOf(features, orders, own_network(networks), m, layer->k), by, sums);
    else
        descend_tile(*layer, Matrix{layer->inputs, m, layer->k}, by, sums);
}
