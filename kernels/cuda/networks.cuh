// The networks that take a step together, as the host lays them out (fused_steps.py): a grid has a row of blocks, the same
// blockIdx.y, for each of them. What a network has of a batch, m numbers or rows of them, follows the one before's.
#pragma once
#include "common.cuh"

constexpr int MOST_SLOTS = 4; // of a parameter: its value, then the optimizer's moments

struct Layer {
    REAL* weights[MOST_SLOTS]; // (k, n)
    REAL* biases[MOST_SLOTS];  // (n,)
    REAL* inputs;              // (most, k); of the first layer null: rows of the features are
    REAL* delta;               // (most, n), and of the last one its logits before
    int k, n, tiles_in_row; // of descend.cu, like its first block
    unsigned first_block;
};

struct Network {
    const REAL* mean; // of the features (d,), which it takes as they are if null
    double scale, smoothing;
    int64 order; // which of the batch's is its own

    // Its rows, of orders (..., m). A network alone need not wait for the table to know them.
    __device__ const int64* rows(const int64* orders, int m) const { return gridDim.y == 1 ? orders : orders + order * m; }
};

// The block's own, in a table of all networks, and in one of all their layers.
__device__ inline const Network& own_network(const uint8* networks) {
    return reinterpret_cast<const Network*>(networks)[blockIdx.y];
}
__device__ inline const Layer* own_layers(const uint8* table, int layers) {
    return reinterpret_cast<const Layer*>(table) + blockIdx.y * layers;
}
