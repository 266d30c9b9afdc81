// What the kernels that train for a whole epoch share: how a network is split between blocks and warps, the host's table of
// tasks, the way between global and shared memory, the first product and the optimizer's step. See train_epoch.cu.
//
// WIDE is the kernel's own: whether it moves logits, deltas and sums four at a time, classes padded to a multiple of four.
#pragma once
#include "common.cuh"
#include "copy.cuh"

constexpr int WARPS = 8; // that compute
constexpr int THREADS = WARPS * LANES;
constexpr int BLOCKS = SPLIT_K * SPLIT_N;

__host__ __device__ constexpr int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }
constexpr int BATCH_ROWS = round_up(BATCH, BLOCKS > 16 ? BLOCKS : 16);
constexpr int PASS_ROWS = BATCH_ROWS / PASSES;           // rows in a pass of step 1
constexpr int PART_ROWS = BATCH_ROWS / SPLIT_K;          // rows whose logits belong to the blocks with the same q
constexpr int OWN_ROWS = BATCH_ROWS / BLOCKS;            // rows that a block owns
constexpr bool LINEAR = HIDDEN == 0;
constexpr int ALL_UNITS = LINEAR ? CLASSES : HIDDEN; // of the first layer
constexpr int UNITS = round_up(ALL_UNITS, 4 * SPLIT_N) / SPLIT_N; // of a block; those beyond ALL_UNITS stay zero
constexpr int SENT_CLASSES = WIDE ? round_up(CLASSES, 4) : CLASSES; // of a row's logits, deltas and W2; the padding stays zero
constexpr int SMALL = LINEAR ? 0 : SENT_CLASSES; // columns of W2
constexpr int COMING_CLASSES = LINEAR ? UNITS : SENT_CLASSES; // whose deltas a block is sent
constexpr int COLUMNS = round_up((INPUTS + SPLIT_K - 1) / SPLIT_K, 4 * WARPS); // inputs of a block, likewise
constexpr int WARP_COLUMNS = COLUMNS / WARPS;
constexpr int STRIDE = COLUMNS + (TENSOR_CORES ? 8 : 4); // of A and W1: rows that are read at once are in different banks

// Where a block has many units, there is no room for two batches and the warps' sums of step 1: they are in the place of
// the next batch, each warp's in its own columns, and the copies of that batch wait until they are added up.
constexpr bool SUMS_IN_BATCH = WIDE && BUFFERS == 2 && UNITS > 16 && UNITS <= WARP_COLUMNS;
constexpr int SUM_STRIDE = SUMS_IN_BATCH ? STRIDE : UNITS;                    // from a row of a warp's sums to the next
constexpr int WARP_SUMS = SUMS_IN_BATCH ? WARP_COLUMNS : PASS_ROWS * UNITS; // from one warp's to the next warp's

static_assert(PASS_ROWS % 16 == 0 && OWN_ROWS * BLOCKS == BATCH_ROWS && UNITS % 4 == 0, "this split does not fit");

#include "exchange.cuh"
#include "task.cuh"

// This thread's place in the block, and the block's in the network.
struct Place {
    int thread = threadIdx.x, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    int rank = blockIdx.x % BLOCKS;
    int part_k = rank / SPLIT_N, part_n = rank % SPLIT_N;
    int first_input = part_k * COLUMNS, first_unit = part_n * UNITS;
    int first_column = warp * WARP_COLUMNS;                    // of the warp, in the block
    int first_row = part_k * PART_ROWS + part_n * OWN_ROWS;    // that the block owns
};

__device__ inline float4& four(float* address) { return *reinterpret_cast<float4*>(address); }
__device__ inline float4 four(const float* address) { return *reinterpret_cast<const float4*>(address); }

template <int WIDTH> struct Pieces {
    using Type = float;
};
template <> struct Pieces<2> {
    using Type = float2;
};
template <> struct Pieces<4> {
    using Type = float4;
};

// Between registers and shared memory, in the largest pieces of which N numbers at a multiple of N are whole ones.
template <int N> constexpr int WIDEST = N % 4 == 0 ? 4 : N % 2 == 0 ? 2 : 1;
template <int N> using Widest = typename Pieces<WIDEST<N>>::Type;

template <int N> __device__ inline void load(float (&numbers)[N], const float* from) {
#pragma unroll
    for (int i = 0; i < N; i += WIDEST<N>)
        *reinterpret_cast<Widest<N>*>(&numbers[i]) = *reinterpret_cast<const Widest<N>*>(from + i);
}

template <int N> __device__ inline void store(const float (&numbers)[N], float* to) {
#pragma unroll
    for (int i = 0; i < N; i += WIDEST<N>)
        *reinterpret_cast<Widest<N>*>(to + i) = *reinterpret_cast<const Widest<N>*>(&numbers[i]);
}

__device__ inline void add_product(float4& sum, const float4& x, float y) {
    sum.x += x.x * y;
    sum.y += x.y * y;
    sum.z += x.z * y;
    sum.w += x.w * y;
}

// Between global and shared memory.

template <bool READ> __device__ inline void move(float* global, float& shared) {
    if (READ)
        shared = *global;
    else
        *global = shared;
}

// Load (READ) or store the block's share of the weights; what lies beyond the network is loaded as zero.
template <bool READ, class Share> __device__ void move_weights(const Task& task, Share& share, const Place& me) {
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) {
        const Slot& whole = task.slots[slot];
        for (int i = me.thread; i < UNITS * COLUMNS; i += THREADS) {
            const int unit = me.first_unit + i % UNITS, input = me.first_input + i / UNITS;
            float& here = share.w1[slot][i % UNITS * STRIDE + i / UNITS];
            if (READ) here = 0;
            if (unit < ALL_UNITS && input < INPUTS) move<READ>(&whole.w1[static_cast<int64>(input) * ALL_UNITS + unit], here);
        }
        for (int i = me.thread; i < UNITS * SMALL; i += THREADS) {
            const int unit = me.first_unit + i / SENT_CLASSES, c = i % SENT_CLASSES;
            if (READ) share.w2[slot][i] = 0;
            if (unit < HIDDEN && c < CLASSES && (READ || me.part_k == 0))
                move<READ>(&whole.w2[unit * CLASSES + c], share.w2[slot][i]);
        }
        for (int i = me.thread; i < UNITS; i += THREADS) {
            if (READ) share.b1[slot][i] = 0;
            if (me.first_unit + i < ALL_UNITS && (READ || me.part_k == 0)) move<READ>(&whole.b1[me.first_unit + i], share.b1[slot][i]);
        }
        for (int i = me.thread; i < SMALL; i += THREADS) {
            if (READ) share.b2[slot][i] = 0;
            if (i < CLASSES && (READ || me.rank == 0)) move<READ>(&whole.b2[i], share.b2[slot][i]);
        }
    }
}

// (features - mean) * scale, in place, of the warp's columns.
__device__ void centre(float* batch, const float* mean, float scale, int count, const Place& me) {
    for (int i = me.lane; i < count * WARP_COLUMNS; i += LANES) {
        const int column = me.first_column + i % WARP_COLUMNS;
        if (me.first_input + column >= INPUTS) continue;
        float& x = batch[i / WARP_COLUMNS * STRIDE + column];
        x = (x - mean[column]) * scale;
    }
    __syncwarp();
}

// 1: sums (16 ROWS, UNITS), a row each SUM_STRIDE, over the warp's inputs, for the rows from first_row on. A lane has every
// 16th row, and one half of the units.
template <int ROWS> __device__ void multiply_forward(const float* batch, const float* w1, float* sums, int first_row, const Place& me) {
    constexpr int COUNT = UNITS / 2;
    const int row = me.lane / 2, unit = me.lane % 2 * COUNT;
    const float* x_start = batch + (first_row + row) * STRIDE + me.first_column;
    const float* w_start = w1 + unit * STRIDE + me.first_column;
    float sum[ROWS][COUNT] = {};
#pragma unroll 2
    for (int k = 0; k < WARP_COLUMNS; k += 4) {
        float4 x[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; ++i) x[i] = four(x_start + 16 * i * STRIDE + k);
#pragma unroll
        for (int j = 0; j < COUNT; ++j) {
            const float4 w = four(w_start + j * STRIDE + k);
#pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                sum[i][j] += x[i].x * w.x;
                sum[i][j] += x[i].y * w.y;
                sum[i][j] += x[i].z * w.z;
                sum[i][j] += x[i].w * w.w;
            }
        }
    }
    float* out = sums + me.warp * WARP_SUMS;
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        float* here = out + (row + 16 * i) * SUM_STRIDE + unit;
        if constexpr (WIDE)
            store(sum[i], here);
        else
#pragma unroll
            for (int j = 0; j < COUNT; ++j) here[j] = sum[i][j];
    }
}
