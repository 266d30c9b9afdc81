// Kernels with the faults that emulation has to find, for a block of 64 threads; each is right where `fault` is 0.
#include "cluster.cuh"

extern "C" __global__ void neighbour(const float* in, float* out, int fault) {
    SharedMemory memory;
    float* shared = memory.take<float>(64);
    float* other = memory.take<float>(64);
    const int t = threadIdx.x;
    other[t] = shared[t] = in[t + (fault == 1)];           // 1: reads outside of an array on the device
    __syncthreads();
    out[t] = shared[(t + 1) % 64 + 64 * (fault == 2)];     // 2: into the gap between two arrays of shared memory
    if (fault == 3) out[t + 64] = other[t];                // 3: writes outside
}

extern "C" __global__ void meet(float* out, int fault) {
    const int t = threadIdx.x;
    if (fault == 1 && t == 7) return; // the others wait for it
    if (fault == 2 && t < 32)
        __syncthreads(); // one half waits here,
    else
        __syncthreads(); // the other one there
    out[t] = static_cast<float>(t);
}

extern "C" __global__ void forgotten(float* out, int fault) {
    SharedMemory memory;
    float* shared = memory.take<float>(64);
    const int t = threadIdx.x;
    if (fault != 1 || t != 7) shared[t] = 1; // 1: one number is never set
    if (fault != 2) __syncthreads();         // 2: nothing keeps a thread from being early
    out[t] = shared[63 - t];
}

extern "C" __global__ void large(float* out, int count) {
    SharedMemory memory;
    memory.take<float>(count); // more than the launch gives
    out[threadIdx.x] = 1;
}

// Blocks count each other in, by polling global memory.
extern "C" __global__ void poll(unsigned* arrived, int fault) {
    if (threadIdx.x) return;
    atomicAdd(arrived, 1);
    const unsigned all = gridDim.x + fault; // 1: one block more than there is
    while (*static_cast<volatile unsigned*>(arrived) < all) __nanosleep(20);
}

// Every block of a cluster of two sends its numbers to the other.
extern "C" __global__ void __cluster_dims__(2, 1, 1) swap(float* out, int fault) {
    SharedMemory memory;
    float* inbox = memory.take<float>(64);
    Mailbox* box = memory.take<Mailbox>(1);
    const int t = threadIdx.x;
    const unsigned rank = cluster_rank();
    if (t == 0) make_mailbox(box);
    cluster_sync();
    if (t == 0) expect(box, (fault == 1 ? 65 : 64) * sizeof(float)); // 1: waits for more than is sent
    send(&inbox[t], 1 - rank, static_cast<float>(100 * rank + t), box);
    if (fault != 2) wait(box, 0); // 2: does not wait at all
    out[rank * 64 + t] = inbox[t];
    cluster_sync();
}

extern "C" __global__ void sum_of_warp(float* out) {
    float value = static_cast<float>(threadIdx.x);
    for (int bits = 16; bits; bits /= 2) value += __shfl_xor_sync(ALL_LANES, value, bits);
    out[threadIdx.x] = value;
}
