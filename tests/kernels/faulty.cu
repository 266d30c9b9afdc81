// Kernels with the faults that emulation has to find, for a block of 64 threads; each is right where `fault` is 0.
#include "cluster.cuh"
#include "copy.cuh"

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

extern "C" __global__ void fetch(const float* in, float* out, int fault) {
    SharedMemory memory;
    float* shared = memory.take<float>(64);
    const int t = threadIdx.x;
    start_copy(shared + t + 64 * (fault == 1), in + t + 64 * (fault == 2)); // 1: to, 2: from outside of an array
    finish_copies();
    out[t] = shared[t];
}

extern "C" __global__ void stray(const float* in, float* out, int fault) {
    const int t = threadIdx.x;
    const float4* packs = reinterpret_cast<const float4*>(in + (fault == 1)); // 1: not aligned to 16 bytes
    if (fault == 2) in = reinterpret_cast<const float*>(8);                   // 2: nothing is there
    out[t] = t < 4 ? packs[t].x : in[t];
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

extern "C" __global__ void rest(int) {
    __syncthreads();
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
    float* inbox = memory.take<float>(65);
    Mailbox* box = memory.take<Mailbox>(1);
    const int t = threadIdx.x;
    const unsigned rank = cluster_rank();
    if (t == 0) make_mailbox(box, 1);
    if (fault != 4) cluster_sync(); // 4: sends to mailboxes that may not have been made
    if (t == 0) expect(box, (fault == 1 ? 65 : 64) * sizeof(float)); // 1: waits for more than is sent
    send(&inbox[t], 1 - rank, static_cast<float>(100 * rank + t), box);
    if (fault != 2) wait(box, 0); // 2: does not wait at all
    out[rank * 64 + t] = inbox[t];
    if (fault == 5 && t == 0) send(&inbox[64], 1 - rank, 0.0f, box); // 5: one more than is expected
    if (fault != 3) cluster_sync(); // 3: may end while the other one sends to it
}

extern "C" __global__ void sum_of_warp(float* out) {
    float value = static_cast<float>(threadIdx.x);
    for (int bits = 16; bits; bits /= 2) value += __shfl_xor_sync(ALL_LANES, value, bits);
    out[threadIdx.x] = value;
}

// One block sends a number to the other one, through global memory.
extern "C" __global__ void publish(float* number, unsigned* flag, float* out, int fault) {
    volatile unsigned* raised = flag;
    const int t = threadIdx.x;
    if (blockIdx.x == 0) {
        if (t == 1) __stcg(number, 1.0f);
        if (fault == 2) __threadfence(); // 2: before it knows that the number is written
        if (fault != 3) __syncthreads(); // 3: another thread's number
        if (t != 0) return;
        if (fault != 1 && fault != 2 && fault != 4) __threadfence(); // 1: only its own block sees the number
        if (fault == 5)
            *flag = 1; // 5: whenever the compiler likes
        else
            *raised = 1;
        if (fault == 4) __threadfence(); // 4: too late
    } else {
        if (t != 0) return;
        while (*raised == 0) __nanosleep(20);
        if (fault != 6) __threadfence(); // 6: may have read the number before
        out[0] = __ldcg(number);
    }
}

// Each lane takes its neighbour's number.
extern "C" __global__ void neighbours(const float* in, float* out, int fault) {
    SharedMemory memory;
    float* shared = memory.take<float>(64);
    const int t = threadIdx.x, other = t ^ 1;
    if (fault < 3) {
        shared[t] = in[t];
    } else {
        start_copy(&shared[t], &in[t]);
        if (fault != 3) finish_copies(); // 3: has only started
    }
    if (fault == 1) // 1: a shuffle orders no writes
        __shfl_sync(ALL_LANES, t, 0);
    else if (fault != 2) // 2: nothing does
        __syncwarp();
    if (fault == 3) finish_copies();
    out[t] = shared[other];
    if (fault == 5) shared[t] = 0; // 5: the neighbour may not have read it yet
}

extern "C" __global__ void everyone_writes(float* out, int fault) {
    if (threadIdx.x >= 32) return;
    const int place = threadIdx.x / (fault == 1 ? 2 : 1) + 32 * blockIdx.x * (fault != 2); // 1: two threads, 2: two blocks
    out[place] = 1;
}
