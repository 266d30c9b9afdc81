// Element-wise work: each thread computes several elements, all read before the first is written.
#pragma once
#include "common.cuh"

constexpr int EACH = 8; // elements per thread: enough loads in flight to hide memory latency

// write(i, read(i)) for every i below count; a block does blockDim.x * EACH of them. A thread's elements are a block
// apart, so that reads are coalesced. It reads all of them before it writes any: where an output may be an input, the
// compiler could not move a read before the write of another element, and each read would wait a whole latency.
template <class Read, class Write> __device__ void each(int64 count, Read read, Write write) {
    const int64 first = static_cast<int64>(blockIdx.x) * blockDim.x * EACH + threadIdx.x;
    decltype(read(first)) values[EACH];
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int64 i = first + j * blockDim.x;
        if (i < count) values[j] = read(i);
    }
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int64 i = first + j * blockDim.x;
        if (i < count) write(i, values[j]);
    }
}

// out[i] = compute(i) for every i below count.
template <class T, class Compute> __device__ void fill(T* out, int64 count, Compute compute) {
    each(count, compute, [=](int64 i, T value) { out[i] = value; });
}
