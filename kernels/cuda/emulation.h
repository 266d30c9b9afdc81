// Runs CUDA kernels on a CPU, so that their sources are tested, under sanitizers, where there is no GPU.
//
// Every CUDA thread is a fiber: it runs until it waits (at a barrier, in a shuffle, for a message) and continues when
// the others have arrived. Blocks that may wait for one another (a cluster, a cooperative grid) run together, all others
// one by one. What hardware leaves open is random: which thread runs next, and when a message sent to another block
// arrives. Shared memory starts as NaN and has guard zones between its arrays, and a thread that waits for something that
// can no longer happen is an error with a message, not a hang.
//
// Only what the kernels here use is emulated; a kernel that uses more does not compile.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "races.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)

struct dim3 {
    unsigned x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::exp;
using std::isnan;
using std::log;
using std::max;
using std::min;
using std::sqrt;

namespace emulation {

constexpr int WARP = 32;
constexpr size_t STACK = 128 * 1024;
constexpr size_t GUARD = 64; // bytes between two arrays in shared memory

// Switching between stacks. The C library asks the kernel for the signal mask every time, which takes ten times as long.

#if defined(__x86_64__)

using Context = void*; // the stack pointer; everything else is on the stack

asm(R"(
.pushsection .text
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.popsection
)");
extern "C" __attribute__((visibility("hidden"))) void emulation_switch(Context* from, const Context* to);

inline void switch_to(Context& from, const Context& to) { emulation_switch(&from, &to); }

inline void make_context(Context& context, char* stack, size_t size, void (*entry)()) {
    auto* top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + size) / 16 * 16);
    std::fill(top - 8, top, nullptr); // a backtrace, such as the sanitizer's, ends here
    top[-2] = reinterpret_cast<void*>(entry);
    context = top - 8; // six registers below
}

#else

using Context = ucontext_t;

inline void switch_to(Context& from, const Context& to) { swapcontext(&from, &to); }

inline void make_context(Context& context, char* stack, size_t size, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = size;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}

#endif

// Threads, blocks and what they wait for.

struct Block;

struct Fiber {
    Context context;
    std::unique_ptr<char[]> stack{new char[STACK]}; // uninitialised: pages are only allocated once used
    void* shadow = nullptr; // the address sanitizer's handle of the stack
};

struct Thread {
    dim3 index;
    int number = 0; // in its block
    Block* block = nullptr;
    Fiber* fiber = nullptr;
    bool done = false;
    unsigned shuffles = 0;
    races::Known known;
    size_t taken = 0; // bytes of shared memory that it has claimed so far
    std::vector<std::function<void()>> copies; // started and not yet waited for
};

struct Barrier { // for a known number of threads
    int expected = 0;
    int line = 0; // in the source, of the first to arrive
    unsigned meetings = 0; // so far
    std::vector<Thread*> waiting;
};

struct Warp {
    Barrier barrier;
    uint32_t shuffled[WARP] = {}; // see races.h
    uint64_t values[2][WARP] = {}; // of this shuffle and of the previous one, which some lanes may still be reading
};

struct Mailbox { // an mbarrier: its phase ends once all threads and all announced bytes have arrived
    int expected = 0, pending = 0;
    long bytes = 0;
    unsigned phase = 0;
    races::Post post;
    std::vector<Thread*> waiting;
};

struct Block {
    dim3 index;
    unsigned rank = 0; // in its cluster
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    Barrier barrier;
    std::vector<unsigned char> shared;
    std::map<size_t, Mailbox> mailboxes; // by their offset in shared memory
    bool in_use = false; // by other blocks, which have sent to it
    unsigned meetings = 0; // of the cluster, when the last message was sent
};

struct Launch {
    dim3 grid, block;
    size_t shared_bytes = 0;
    unsigned cluster = 1; // blocks in a cluster
    bool cooperative = false;
    unsigned seed = 0;
};

struct Group { // the blocks that run together
    Launch launch;
    std::vector<Block> blocks;
    Barrier cluster_barrier;
    std::vector<Thread*> ready, next;
    std::vector<std::function<void()>> messages; // sent and not yet delivered
    std::mt19937 random;
    size_t running = 0;
    bool spinning = false; // only spinning has happened in this round
};

inline Group* group;
inline Thread* current;
inline std::vector<Fiber*> idle_fibers;
inline Context scheduler;
inline void* scheduler_shadow;
inline const void* scheduler_stack;
inline size_t scheduler_stack_size;
inline const std::function<void()>* body;
inline std::string failure;

// Fibers.

inline void leave(bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
    void** shadow = for_good ? nullptr : &current->fiber->shadow;
    __sanitizer_start_switch_fiber(shadow, scheduler_stack, scheduler_stack_size);
#endif
    (void)for_good;
    switch_to(current->fiber->context, scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(current->fiber->shadow, &scheduler_stack, &scheduler_stack_size);
#endif
}

inline void entry() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    races::watch(&current->known);
    (*body)();
    races::watch(nullptr);
    const Block& block = *current->block;
    if (block.in_use && block.meetings == group->cluster_barrier.meetings)
        fail("the thread ends before the whole cluster has met after the last message to its block");
    current->done = true;
    leave(true);
}

inline void start_fiber(Thread& thread) {
    if (idle_fibers.empty()) idle_fibers.push_back(new Fiber);
    thread.fiber = idle_fibers.back();
    idle_fibers.pop_back();
    char* stack = thread.fiber->stack.get();
    ASAN_UNPOISON_MEMORY_REGION(stack, STACK);
    thread.fiber->shadow = nullptr;
    make_context(thread.fiber->context, stack, STACK, entry);
    races::set_stack(thread.known, stack, STACK);
}

inline void resume(Thread& thread) {
    current = &thread;
    if (!thread.fiber) start_fiber(thread);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_shadow, thread.fiber->stack.get(), STACK);
#endif
    switch_to(scheduler, thread.fiber->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_shadow, nullptr, nullptr);
#endif
    if (thread.done) {
        idle_fibers.push_back(thread.fiber);
        thread.fiber = nullptr;
        --group->running;
    }
}

// Fails the launch: the thread that notices the error stops here for good.
[[noreturn]] inline void fail(const std::string& sentence) {
    races::watch(nullptr);
    const dim3 &b = current->block->index, &t = current->index;
    if (failure.empty())
        failure = sentence + " (block " + std::to_string(b.x) + "," + std::to_string(b.y) + ", thread " +
                  std::to_string(t.x) + "," + std::to_string(t.y) + ")";
    for (;;) leave(false);
}

// Waiting.

inline void wake(std::vector<Thread*>& waiting) {
    group->next.insert(group->next.end(), waiting.begin(), waiting.end());
    waiting.clear();
}

// shuffled: of the warp, if this is no barrier but a shuffle.
inline void arrive_and_wait(Barrier& barrier, int line, uint32_t* shuffled = nullptr) {
    races::Quiet quiet;
    group->spinning = false;
    if (barrier.waiting.empty()) barrier.line = line;
    if (barrier.line != line)
        fail("threads meet at different barriers, of lines " + std::to_string(barrier.line) + " and " +
             std::to_string(line));
    barrier.waiting.push_back(current);
    if (static_cast<int>(barrier.waiting.size()) < barrier.expected) {
        leave(false);
        return;
    }
    if (shuffled)
        races::shuffle(barrier.waiting, shuffled);
    else
        races::meet(barrier.waiting);
    ++barrier.meetings;
    barrier.waiting.pop_back();
    wake(barrier.waiting);
}

// Called by a loop that polls global memory, between two reads.
inline void spin() {
    races::Quiet quiet;
    group->next.push_back(current);
    leave(false);
}

inline Warp& my_warp() { return current->block->warps[current->number / WARP]; }

template <class T>
T exchange_in_warp(unsigned mask, T value, int lane, int line) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves up to eight bytes");
    races::Quiet quiet;
    if (mask != 0xffffffffu) fail("a shuffle is emulated for whole warps only");
    Warp& warp = my_warp();
    uint64_t* values = warp.values[current->shuffles++ % 2];
    std::memcpy(&values[current->number % WARP], &value, sizeof(T));
    arrive_and_wait(warp.barrier, line, warp.shuffled);
    T result;
    std::memcpy(&result, &values[lane], sizeof(T));
    return result;
}

// Shared memory.

inline size_t offset_of(const void* address) {
    const auto* byte = static_cast<const unsigned char*>(address);
    const auto& shared = current->block->shared;
    if (byte < shared.data() || byte >= shared.data() + shared.size()) fail("this is no address in shared memory");
    return static_cast<size_t>(byte - shared.data());
}

// Where the kernel's next array in shared memory starts; `used` is the kernel's own count, without guard zones.
inline unsigned char* take_shared(size_t used, size_t bytes) {
    if (used % 16) fail("an array in shared memory starts at no multiple of 16 bytes");
    races::Quiet quiet;
    if (used + bytes > group->launch.shared_bytes)
        fail("the kernel takes more shared memory than its launch gives it: " + std::to_string(used + bytes) +
             " of " + std::to_string(group->launch.shared_bytes) + " bytes");
    auto& shared = current->block->shared;
    const size_t start = current->taken + GUARD;
    const size_t whole = (bytes + 15) / 16 * 16;
    current->taken = start + whole;
    if (shared.size() < start + whole + GUARD) fail("more arrays of shared memory than emulated");
    ASAN_UNPOISON_MEMORY_REGION(shared.data() + start, bytes);
    return shared.data() + start;
}

template <class T>
T* in_block(T* mine, unsigned rank) {
    Block* first = current->block - current->block->rank;
    return reinterpret_cast<T*>(first[rank].shared.data() + offset_of(mine));
}

// Copies that a thread has started arrive when it waits for them; until then their destination is NaN.
template <class T> void start_copy(T* shared, const T* global) {
    races::Quiet quiet;
    offset_of(shared);
    races::seen(current->known, shared, sizeof(T), races::COPY, true);
    std::memset(static_cast<void*>(shared), 0xff, sizeof(T));
    current->copies.push_back([=] {
        races::seen(current->known, global, sizeof(T), races::COPY, false);
        races::seen(current->known, shared, sizeof(T), races::COPY, true);
        *shared = *global;
    });
}

inline void finish_copies() {
    races::Quiet quiet;
    for (auto& copy : current->copies) copy();
    current->copies.clear();
}

// Mailboxes.

inline Mailbox& mailbox(Block& block, size_t place) {
    auto found = block.mailboxes.find(place);
    if (found == block.mailboxes.end()) fail("a mailbox is used before it was made");
    return found->second;
}

inline void end_phase_if_complete(Mailbox& box) {
    if (box.pending > 0 || box.bytes != 0) return;
    box.pending = box.expected;
    ++box.phase;
    wake(box.waiting);
}

inline void make_mailbox(uint64_t* bar, int arrivals) {
    races::Quiet quiet;
    races::seen(current->known, bar, sizeof *bar, races::MAILBOX, true);
    Mailbox& box = current->block->mailboxes[offset_of(bar)];
    box.expected = box.pending = arrivals;
}

inline void announce(uint64_t* bar, long bytes) { // arrive, and expect that many bytes in this phase
    races::Quiet quiet;
    races::seen(current->known, bar, sizeof *bar, races::MAILBOX, false);
    Mailbox& box = mailbox(*current->block, offset_of(bar));
    box.bytes += bytes;
    if (--box.pending < 0) fail("more arrivals in a phase than the mailbox was made for");
    races::deliver(box.post, current->known, races::tell(current->known));
    end_phase_if_complete(box);
}

inline void wait_for_phase(uint64_t* bar, unsigned parity) {
    races::Quiet quiet;
    races::seen(current->known, bar, sizeof *bar, races::MAILBOX, false);
    group->spinning = false;
    Mailbox& box = mailbox(*current->block, offset_of(bar));
    while ((box.phase & 1) == parity) {
        box.waiting.push_back(current);
        leave(false);
    }
    races::learn(current->known, box.post);
}

template <class T>
void send(T* mine, unsigned rank, T value, uint64_t* bar) {
    races::Quiet quiet;
    group->spinning = false;
    Block* to = current->block - current->block->rank + rank;
    T* place = in_block(mine, rank);
    Mailbox* box = &mailbox(*to, offset_of(bar));
    to->in_use = true;
    to->meetings = group->cluster_barrier.meetings;
    Thread* sender = current;
    races::seen(sender->known, in_block(bar, rank), sizeof *bar, races::MAILBOX, false);
    races::seen(sender->known, place, sizeof(T), races::MESSAGE, true);
    const auto told = races::tell(sender->known);
    group->messages.push_back([=] {
        *place = value;
        races::deliver(box->post, sender->known, told);
        box->bytes -= static_cast<long>(sizeof(T));
        end_phase_if_complete(*box);
    });
}

// The scheduler.

inline void deliver_some(bool all) {
    std::vector<std::function<void()>> later, now;
    for (auto& message : group->messages) (all || group->random() % 2 ? now : later).push_back(std::move(message));
    group->messages = std::move(later);
    std::shuffle(now.begin(), now.end(), group->random);
    for (auto& message : now) message();
}

inline void run_round() {
    group->ready.swap(group->next);
    group->next.clear();
    if (group->launch.seed) std::shuffle(group->ready.begin(), group->ready.end(), group->random);
    for (Thread* thread : group->ready) {
        resume(*thread);
        if (thread->done) group->spinning = false;
        if (!failure.empty()) return;
    }
}

inline void poison(Block& block) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (size_t i = 0; i + sizeof nan <= block.shared.size(); i += sizeof nan)
        std::memcpy(block.shared.data() + i, &nan, sizeof nan);
    ASAN_POISON_MEMORY_REGION(block.shared.data(), block.shared.size());
}

inline void make_block(Block& block, const dim3& index, unsigned rank) {
    const dim3& size = group->launch.block;
    const int count = static_cast<int>(size.x * size.y * size.z);
    block.index = index;
    block.rank = rank;
    block.threads.resize(count);
    block.warps.resize((count + WARP - 1) / WARP);
    block.barrier.expected = count;
    block.shared.resize(group->launch.shared_bytes + 64 * (GUARD + 16));
    poison(block);
    races::forget(block.shared.data(), block.shared.size());
    for (int i = 0; i < count; ++i) {
        Thread& thread = block.threads[i];
        thread.number = i;
        thread.block = &block;
        thread.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
        ++block.warps[i / WARP].barrier.expected;
        group->next.push_back(&thread);
        const auto block_in_group = static_cast<int>(&block - group->blocks.data());
        races::begin_thread(thread.known, block_in_group * count + i, i % WARP, block.warps[i / WARP].shuffled);
    }
}

inline void run_group(const std::vector<dim3>& indices) {
    // the new blocks may lie where shared memory was, and threads read their own indices there
    for (const Block& block : group->blocks) races::forget(block.shared.data(), block.shared.size());
    group->blocks = std::vector<Block>(indices.size());
    group->next.clear();
    group->messages.clear();
    const dim3 &grid = group->launch.grid, &size = group->launch.block, &first = indices[0];
    races::begin_group(first.x + grid.x * (first.y + grid.y * first.z), static_cast<unsigned>(indices.size()),
                       size.x * size.y * size.z);
    for (size_t b = 0; b < indices.size(); ++b)
        make_block(group->blocks[b], indices[b], static_cast<unsigned>(b) % group->launch.cluster);
    group->running = group->next.size();
    group->cluster_barrier = {};
    group->cluster_barrier.expected = static_cast<int>(group->running);
    for (int idle_rounds = 0; group->running > 0 && failure.empty();) {
        group->spinning = true;
        run_round();
        const bool sent = !group->messages.empty();
        if (failure.empty()) deliver_some(group->next.empty());
        idle_rounds = group->spinning && !sent ? idle_rounds + 1 : 0;
        if (failure.empty() && group->running > 0 && (group->next.empty() || idle_rounds > 2)) {
            current = group->ready.empty() ? &group->blocks[0].threads[0] : group->ready[0];
            failure = "deadlock: " + std::to_string(group->running) + " threads wait for something that cannot come";
        }
    }
    if (failure.empty() && !group->messages.empty()) failure = "a message was sent to a block that had ended";
    for (Block& block : group->blocks) {
        ASAN_UNPOISON_MEMORY_REGION(block.shared.data(), block.shared.size());
        for (Thread& thread : block.threads)
            if (Fiber* left_behind = std::exchange(thread.fiber, nullptr)) { // after a failure
                ASAN_UNPOISON_MEMORY_REGION(left_behind->stack.get(), STACK);
                delete left_behind;
            }
    }
}

// Runs every group of blocks, in random order. Returns an empty string, or what went wrong.
inline std::string run(const Launch& launch, const std::function<void()>& kernel) {
    static Group only;
    group = &only;
    group->launch = launch;
    group->random.seed(launch.seed);
    failure.clear();
    body = &kernel;
    const dim3& grid = launch.grid;
    const unsigned count = grid.x * grid.y * grid.z;
    const unsigned together = launch.cooperative ? count : launch.cluster;
    if (count % together) return "the grid is no whole number of clusters";
    std::vector<unsigned> order(count / together);
    for (unsigned i = 0; i < order.size(); ++i) order[i] = i;
    if (launch.seed) std::shuffle(order.begin(), order.end(), group->random);
    for (unsigned first : order) {
        std::vector<dim3> indices;
        for (unsigned i = first * together; i < (first + 1) * together; ++i)
            indices.push_back({i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y});
        run_group(indices);
        if (!failure.empty()) break;
    }
    return failure;
}

// A kernel as the host calls it: with a pointer to each argument, like cuLaunchKernel.

template <class T> constexpr const char* type_name() {
    using V = std::remove_cv_t<T>;
    if (std::is_same_v<V, float>) return "float32";
    if (std::is_same_v<V, double>) return "float64";
    if (std::is_same_v<V, int>) return "int32";
    if (std::is_same_v<V, unsigned>) return "uint32";
    if (std::is_same_v<V, long long>) return "int64";
    if (std::is_same_v<V, unsigned char>) return "uint8";
    if (std::is_same_v<V, unsigned short>) return "uint16";
    if (std::is_same_v<V, bool>) return "bool";
    return "unknown";
}

// "float32" for a number, "float32*" for an array, "const float32*" for a read-only array.
template <class T> std::string describe() {
    if constexpr (std::is_pointer_v<T>) {
        using V = std::remove_pointer_t<T>;
        return std::string(std::is_const_v<V> ? "const " : "") + type_name<V>() + "*";
    } else {
        return type_name<T>();
    }
}

template <class... A>
std::string signature(void (*)(A...)) {
    std::string all;
    ((all += (all.empty() ? "" : ",") + describe<A>()), ...);
    return all;
}

template <class... A, size_t... I>
std::string call(void (*kernel)(A...), void** arguments, const Launch& launch, std::index_sequence<I...>) {
    return run(launch, [=] { kernel(*static_cast<A*>(arguments[I])...); });
}

template <class... A>
std::string call(void (*kernel)(A...), void** arguments, const Launch& launch) {
    return call(kernel, arguments, launch, std::index_sequence_for<A...>{});
}

} // namespace emulation

// What kernels call.

#define threadIdx (emulation::current->index)
#define blockIdx (emulation::current->block->index)
#define blockDim (emulation::group->launch.block)
#define gridDim (emulation::group->launch.grid)
#define __syncthreads() emulation::arrive_and_wait(emulation::current->block->barrier, __LINE__)
#define __syncwarp() emulation::arrive_and_wait(emulation::my_warp().barrier, __LINE__)
#define __shfl_sync(mask, value, lane) emulation::exchange_in_warp(mask, value, (lane) % emulation::WARP, __LINE__)
#define __shfl_xor_sync(mask, value, bits)                                                                            \
    emulation::exchange_in_warp(mask, value, (emulation::current->number % emulation::WARP) ^ (bits), __LINE__)
#define __nanosleep(time) emulation::spin()

inline void __threadfence() {
    emulation::races::Quiet quiet;
    emulation::races::fence(emulation::current->known);
}
template <class T> T __ldg(const T* address) { return *address; }
template <class T> T __ldcg(const T* address) { return *address; }
template <class T> void __stcg(T* address, T value) { *address = value; }
inline unsigned atomicAdd(unsigned* address, unsigned value) {
    emulation::races::Quiet quiet;
    emulation::group->spinning = false;
    emulation::races::atomic(emulation::current->known, address, sizeof *address);
    return std::exchange(*address, *address + value);
}

// Each rounds separately: the emulation is compiled without contraction.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
template <class To, class From> To same_bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    std::memcpy(&result, &value, sizeof result);
    return result;
}
inline unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
