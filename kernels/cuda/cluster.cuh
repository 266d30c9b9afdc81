// Messages between the blocks of a cluster (compute capability 9.0 on): a value and the news of its coming in one
// instruction, st.async, so that nobody has to fence or to ask. A mailbox is an mbarrier in shared memory.
//
// In PTX, for it needs no CUDA header then: NVRTC compiles it on a machine with a driver alone. See the PTX ISA,
// "st.async" and "mbarrier".
#pragma once
#include "common.cuh"

#ifndef EMULATION

typedef unsigned long long Mailbox;

__device__ inline unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// The same place in the shared memory of another block of the cluster.
__device__ inline unsigned in_block(unsigned address, unsigned rank) {
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

__device__ inline unsigned cluster_rank() {
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// All threads of all blocks of the cluster meet; what was written before is seen after.
__device__ inline void cluster_sync() {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

// One thread makes the mailbox; cluster_sync() has to follow before anybody sends to it.
__device__ inline void make_mailbox(Mailbox* box) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;" ::"r"(shared_address(box))
                 : "memory");
}

// One thread, once a phase: as many bytes have to come before it ends.
__device__ inline void expect(Mailbox* box, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(box)), "r"(bytes)
                 : "memory");
}

// Writes the value to the same place as `mine` in a block of the cluster, and counts it in that block's mailbox.
__device__ inline void send(float* mine, unsigned rank, float value, Mailbox* box) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                     in_block(shared_address(mine), rank)),
                 "r"(__float_as_uint(value)), "r"(in_block(shared_address(box), rank))
                 : "memory");
}

// Until the phase of that parity has ended: 0 for the first, 1 for the second, and so on in turns.
__device__ inline void wait(Mailbox* box, unsigned parity) {
    unsigned ended = 0;
    while (!ended)
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(ended)
                     : "r"(shared_address(box)), "r"(parity)
                     : "memory");
}

#else

typedef uint64_t Mailbox;

inline unsigned cluster_rank() { return emulation::current->block->rank; }
inline void make_mailbox(Mailbox* box) { emulation::make_mailbox(box, 1); }
inline void expect(Mailbox* box, unsigned bytes) { emulation::announce(box, bytes); }
inline void send(float* mine, unsigned rank, float value, Mailbox* box) { emulation::send(mine, rank, value, box); }
inline void wait(Mailbox* box, unsigned parity) { emulation::wait_for_phase(box, parity); }
#define cluster_sync() emulation::arrive_and_wait(emulation::group->cluster_barrier, __LINE__)

#endif
