// The last layer and the loss in a step of few launches: a warp a row, WARPS rows a block. Labels and weights are those of
// all rows, which the network's own of orders (..., m) names; networks, table: see networks.cuh. Each row's loss, times its
// weight, and hit (networks, m) are left to descend.cu to add up.
#include "networks.cuh"

constexpr int WARPS = 8;

// The larger of two, and NaN if either is.
__device__ inline REAL larger(REAL a, REAL b) { return a >= b || a != a ? a : b; }

template <class T, class Combine> __device__ T over_lanes(T value, Combine combine) {
    for (int bits = LANES / 2; bits; bits /= 2) value = combine(value, __shfl_xor_sync(ALL_LANES, value, bits));
    return value;
}

// How a row counts, and what its target is.
struct Row {
    int label;
    REAL weight, smoothing; // the share of the target that is spread over all classes

    __device__ Row(const int64* labels, const REAL* weights, int64 row, bool weighted, REAL smoothing)
        : label(static_cast<int>(labels[row])), weight(weighted ? weights[row] : REAL(1)), smoothing(smoothing) {}
};

// Turns a row's logits z (classes,) into its delta, weight (softmax - target) / rows, in place; its loss and whether the
// first of its largest logits is at the label. The largest is subtracted, so that no exponential overflows.
__device__ void finish_row(REAL* z, const Row& row, int rows, int classes, REAL* loss, int* hit) {
    const int lane = threadIdx.x % LANES;
    REAL largest = z[min(lane, classes - 1)]; // lanes without a class of their own take the last
    for (int c = lane + LANES; c < classes; c += LANES) largest = larger(largest, z[c]);
    largest = over_lanes(largest, larger);
    const REAL at_label = z[row.label] - largest;
    REAL sum = 0, all = 0;
    int best = classes; // stays there in a row with NaN, which equals nothing
    for (int c = lane; c < classes; c += LANES) {
        if (z[c] == largest) best = min(best, c);
        all += z[c] - largest;
        sum += exp(z[c] - largest);
    }
    const auto add = [](REAL a, REAL b) { return a + b; };
    sum = over_lanes(sum, add);
    best = over_lanes(best, [](int a, int b) { return min(a, b); });
    REAL own = log(sum) - at_label;
    if (row.smoothing > 0) own += row.smoothing * (at_label - over_lanes(all, add) / classes);
    __syncwarp(); // every lane has read the label's logit, which one of them now overwrites
    for (int c = lane; c < classes; c += LANES) {
        REAL target = c == row.label;
        target += row.smoothing * (REAL(1) / classes - target);
        z[c] = (exp(z[c] - largest) / sum - target) / rows * row.weight;
    }
    if (lane == 0) {
        *loss = own * row.weight;
        *hit = best == row.label;
    }
    __syncwarp();
}

// The last layer's logits (m, c) become its delta.
extern "C" __global__ void __launch_bounds__(256, 1)
    softmax_rows(const int64* labels, const int64* orders, const REAL* weights, bool weighted, const uint8* networks,
                 const uint8* table, int layers, REAL* losses, int* hits, int m, int classes) {
    const int i = blockIdx.x * WARPS + threadIdx.x / LANES;
    if (i >= m) return;
    const Network& own = own_network(networks);
    REAL* logits = own_layers(table, layers)[layers - 1].delta;
    const Row row(labels, weights, own.rows(orders, m)[i], weighted, static_cast<REAL>(own.smoothing));
    const int64 place = static_cast<int64>(blockIdx.y) * m + i;
    finish_row(logits + static_cast<int64>(i) * classes, row, m, classes, losses + place, hits + place);
}

// The same of the logits inputs (m, k) times weights (k, c) + bias (c,), up to 32 classes: deltas (m, c), and those of the
// hidden layer that the inputs are, (m, k) = deltas weights' * (inputs > 0).
//
// A lane multiplies for one class; as many groups of lanes as there is room for share the inputs. Shared memory: the
// weights, a row of them `stride` numbers apart, an odd number so that 32 rows are in different banks; and of every warp
// its row of inputs and its logits, which become its deltas.
extern "C" __global__ void __launch_bounds__(256, 1)
    head(const int64* labels, const int64* orders, const REAL* weights, bool weighted, const uint8* networks,
         const uint8* table, int layers, REAL* losses, int* hits, int m, int k, int classes) {
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES, stride = classes | 1;
    const int i = blockIdx.x * WARPS + warp;
    const Network& own = own_network(networks);
    const Layer* layer = own_layers(table, layers) + layers - 1;
    const REAL *inputs = layer->inputs, *layer_weights = layer->weights[0], *bias = layer->biases[0];
    REAL *deltas = layer->delta, *hidden_deltas = layer[-1].delta;
    SharedMemory memory;
    REAL* w = memory.take<REAL>(k * stride);
    REAL* x = memory.take<REAL>(WARPS * k) + warp * k;
    REAL* z = memory.take<REAL>(WARPS * classes) + warp * classes;
    for (int n = threadIdx.x; n < k * classes; n += blockDim.x) w[n / classes * stride + n % classes] = layer_weights[n];
    if (i < m)
        for (int unit = lane; unit < k; unit += LANES) x[unit] = inputs[static_cast<int64>(i) * k + unit];
    __syncthreads();
    if (i >= m) return;

    int width = 1; // of a group
    while (width < classes) width *= 2;
    const int c = min(lane % width, classes - 1), groups = LANES / width;
    REAL sum = 0;
#pragma unroll 4
    for (int unit = lane / width; unit < k; unit += groups) sum += x[unit] * w[unit * stride + c];
    for (int bits = width; bits < LANES; bits *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, bits);
    if (lane < classes) z[lane] = sum + bias[lane];
    __syncwarp();

    const Row row(labels, weights, own.rows(orders, m)[i], weighted, static_cast<REAL>(own.smoothing));
    const int64 place = static_cast<int64>(blockIdx.y) * m + i;
    finish_row(z, row, m, classes, losses + place, hits + place);
    if (lane < classes) deltas[static_cast<int64>(i) * classes + lane] = z[lane];
    for (int unit = lane; unit < k; unit += LANES) {
        REAL back = 0;
        for (int n = 0; n < classes; ++n) back += z[n] * w[unit * stride + n];
        hidden_deltas[static_cast<int64>(i) * k + unit] = back * REAL(x[unit] > 0);
    }
}
