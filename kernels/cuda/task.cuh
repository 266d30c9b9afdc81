// One network's epoch as the host lays it out (fused_epoch.py), and the optimizer's step, for the kernels that train for a
// whole epoch. OPTIMIZER and BATCH are set by the compiler's options.
#pragma once
#include "common.cuh"
#include "optimizers/OPTIMIZER.cuh"

constexpr int SLOTS = 1 + MOMENTS; // of a weight: its value, then each moment
constexpr int MOST_SLOTS = 4;      // that fit into the host's table
static_assert(SLOTS <= MOST_SLOTS, "the table of slots is too short");

struct Slot {
    float *w1, *b1, *w2, *b2; // (INPUTS, ALL_UNITS), (ALL_UNITS), (HIDDEN, CLASSES), (CLASSES); none of the last two if LINEAR
};
struct Task {
    Slot slots[MOST_SLOTS];
    const int64* order;         // (rows): the rows to train on
    const float* coefficients;  // (steps, 1 + COEFFICIENTS): see update.cu
    const float* mean;          // (INPUTS), if CENTRED
    const float* weights;       // of all rows, if WEIGHTED
    int64 rows;
    double scale, smoothing;
};

// The optimizer's coefficients for one step.
struct Update {
    float kept, own[COEFFICIENTS];
};

// The index in the features of row i of that step's batch; 0 where there is none.
__device__ inline int64 row_of(const Task& task, int step, int i) {
    const int64 place = static_cast<int64>(step) * BATCH + i;
    return i < BATCH && place < task.rows ? task.order[place] : 0;
}

__device__ inline int rows_in(const Task& task, int step) {
    return static_cast<int>(min(static_cast<int64>(BATCH), max(int64(0), task.rows - static_cast<int64>(step) * BATCH)));
}

template <class T, class F> __device__ inline T over_lanes(T value, F combine) {
    for (int bits = LANES / 2; bits; bits /= 2) value = combine(value, __shfl_xor_sync(ALL_LANES, value, bits));
    return value;
}

// One number's step.
__device__ inline void update(float* const* slots, int i, float gradient, const Update& by, float kept) {
    float numbers[SLOTS];
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) numbers[slot] = slots[slot][i];
    step(numbers, gradient, by.own, kept);
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) slots[slot][i] = numbers[slot];
}

__device__ inline Update update_of(const Task& task, int step) {
    const float* row = task.coefficients + (1 + COEFFICIENTS) * static_cast<int64>(step);
    Update by{row[0], {}};
#pragma unroll
    for (int k = 0; k < COEFFICIENTS; ++k) by.own[k] = row[1 + k];
    return by;
}
