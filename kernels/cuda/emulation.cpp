// Runs CUDA kernels on a CPU, under sanitizers.
//
// Every CUDA thread is a fiber: it runs until it waits (at a barrier, in a shuffle, for a message) and continues when
// the others have arrived. Blocks that may wait for one another (a cluster, a cooperative grid) run together, all others
// one by one. What hardware leaves open is random: which thread runs next, and when a message sent to another block
// arrives. Shared memory starts as NaN and has guard zones between its arrays, and a thread that waits for something that
// can no longer happen is an error with a message, not a hang.
//
// The kernels are compiled for the sanitizers, this file is not: what it does for them it checks by itself. With RACES 1
// it looks for races, see races.h; otherwise it works with the sanitizers of addresses and of undefined behaviour.
#include "emulation.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace emulation {

// Reports of undefined behaviour come to the first library that was loaded, wherever it happens: one for them all.
inline std::string failure;

Here here;

// Where this library's code begins in memory. Static: an inline function's variable would be one for all libraries.
static const char* code() {
    static const char* base;
    if (!base) {
        Dl_info found{};
        dladdr(reinterpret_cast<const void*>(&code), &found);
        base = static_cast<const char*>(found.dli_fbase);
    }
    return base;
}

} // namespace emulation

#include "races.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if !RACES
#include <sanitizer/asan_interface.h>
extern "C" void __asan_get_shadow_mapping(size_t* scale, size_t* offset); // for debuggers, in no header
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

struct Launch {
    dim3 grid, block;
    size_t shared_bytes = 0;
    unsigned cluster = 1; // blocks in a cluster
    bool cooperative = false;
    unsigned seed = 0;
};

inline void close_off([[maybe_unused]] const void* start, [[maybe_unused]] size_t bytes) {
#if !RACES
    __asan_poison_memory_region(start, bytes);
#endif
}

inline void lay_open([[maybe_unused]] const void* start, [[maybe_unused]] size_t bytes) {
#if !RACES
    __asan_unpoison_memory_region(start, bytes);
#endif
}

using Message = std::array<unsigned char, 16>; // the largest

constexpr size_t STACK = 128 * 1024;
constexpr size_t KEPT_STACKS = 1024; // as of one block: what is mapped, each search for races has to copy and to unmap
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

void switch_to(Context& from, const Context& to) { emulation_switch(&from, &to); }

void make_context(Context& context, char* stack, size_t size, void (*entry)()) {
    auto* top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + size) / 16 * 16);
    std::fill(top - 8, top, nullptr); // a backtrace, such as the sanitizer's, ends here
    top[-2] = reinterpret_cast<void*>(entry);
    context = top - 8; // six registers below
}

#else

using Context = ucontext_t;

void switch_to(Context& from, const Context& to) { swapcontext(&from, &to); }

void make_context(Context& context, char* stack, size_t size, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = size;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}

#endif

// Threads, blocks and what they wait for.

struct Block;

struct Unmap {
    void operator()(char* stack) const {
        munmap(stack, STACK);
#if !RACES
        size_t scale, offset; // where the sanitizer keeps what it knows of an address
        __asan_get_shadow_mapping(&scale, &offset);
        madvise(reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(stack) >> scale) + offset), STACK >> scale,
                MADV_DONTNEED);
#endif
    }
};

char* map_stack() {
    void* memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return static_cast<char*>(memory);
}

struct Fiber {
    Context context;
    std::unique_ptr<char[], Unmap> stack{map_stack()}; // pages are only allocated once used
    void* shadow = nullptr; // the address sanitizer's handle of the stack
};

struct Copy {
    void* shared;
    const void* global; // null: zero
    size_t bytes;
};

struct Thread {
    Here here;
    int number = 0; // in its block
    Block* block = nullptr;
    Fiber* fiber = nullptr;
    bool done = false;
    unsigned shuffles = 0;
    races::Known known;
    size_t taken = 0; // bytes of shared memory that it has claimed so far
    std::vector<Copy> copies; // started and not yet waited for
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
    std::array<float, 6> tiles[2][WARP] = {}; // likewise, each lane's numbers of two factors
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
    unsigned rank = 0; // in its cluster
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    Barrier barrier;
    std::map<int, Barrier> others; // by their number
    std::vector<unsigned char> shared;
    std::map<size_t, Mailbox> mailboxes; // by their offset in shared memory
    bool in_use = false; // by other blocks, which have sent to it
    unsigned meetings = 0; // of the cluster, when the last message was sent
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

Group* group;
Thread* current;
inline std::vector<Fiber*> idle_fibers; // of all libraries: each would keep as many as its largest launch took
Context scheduler;
void* scheduler_shadow;
const void* scheduler_stack;
size_t scheduler_stack_size;
const std::function<void()>* body;

// Fibers.

void leave(bool for_good) {
#if !RACES
    void** shadow = for_good ? nullptr : &current->fiber->shadow;
    __sanitizer_start_switch_fiber(shadow, scheduler_stack, scheduler_stack_size);
#endif
    (void)for_good;
    switch_to(current->fiber->context, scheduler);
#if !RACES
    __sanitizer_finish_switch_fiber(current->fiber->shadow, &scheduler_stack, &scheduler_stack_size);
#endif
}

void entry() {
#if !RACES
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    (*body)();
    const Block& block = *current->block;
    if (block.in_use && block.meetings == group->cluster_barrier.meetings)
        fail("the thread ends before the whole cluster has met after the last message to its block");
    current->done = true;
    leave(true);
}

void start_fiber(Thread& thread) {
    if (idle_fibers.empty()) idle_fibers.push_back(new Fiber);
    thread.fiber = idle_fibers.back();
    idle_fibers.pop_back();
    char* stack = thread.fiber->stack.get();
    thread.fiber->shadow = nullptr;
    make_context(thread.fiber->context, stack, STACK, entry);
    races::set_stack(thread.known, stack, STACK);
}

void resume(Thread& thread) {
    current = &thread;
    if (!thread.fiber) start_fiber(thread);
#if !RACES
    __sanitizer_start_switch_fiber(&scheduler_shadow, thread.fiber->stack.get(), STACK);
#endif
    here = thread.here;
    races::watch(&thread.known);
    switch_to(scheduler, thread.fiber->context);
    races::watch(nullptr);
#if !RACES
    __sanitizer_finish_switch_fiber(scheduler_shadow, nullptr, nullptr);
#endif
    if (thread.done) {
        idle_fibers.push_back(thread.fiber);
        thread.fiber = nullptr;
        --group->running;
    }
}

// Fails the launch: the thread that notices the error stops here for good.
[[noreturn]] void fail(const std::string& sentence) {
    races::watch(nullptr);
    const dim3 &b = current->here.block, &t = current->here.thread;
    if (failure.empty())
        failure = sentence + " (block " + std::to_string(b.x) + "," + std::to_string(b.y) + ", thread " +
                  std::to_string(t.x) + "," + std::to_string(t.y) + ")";
    for (;;) leave(false);
}

// Waiting.

void wake(std::vector<Thread*>& waiting) {
    group->next.insert(group->next.end(), waiting.begin(), waiting.end());
    waiting.clear();
}

// shuffled: of the warp, if this is no barrier but a shuffle.
void arrive_and_wait(Barrier& barrier, int line, uint32_t* shuffled = nullptr) {
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

void spin() {
    group->next.push_back(current);
    leave(false);
}

Warp& my_warp() { return current->block->warps[current->number / WARP]; }

void meet_warp(int line) { arrive_and_wait(my_warp().barrier, line); }
void meet_block(int line) { arrive_and_wait(current->block->barrier, line); }
void meet_some(int number, int threads, int line) {
    Barrier& barrier = current->block->others[number];
    if (number < 1 || number > 15 || threads % WARP) fail("no barrier has such a number, or so many threads");
    if (barrier.expected != threads && !barrier.waiting.empty()) fail("threads expect different numbers at a barrier");
    barrier.expected = threads;
    arrive_and_wait(barrier, line);
}

void meet_cluster(int line) { arrive_and_wait(group->cluster_barrier, line); }

void fence() { races::fence(current->known); }

void exchange_in_warp(unsigned mask, const void* value, void* result, size_t bytes, int lane, int line) {
    if (mask != 0xffffffffu) fail("a shuffle is emulated for whole warps only");
    if (bytes > sizeof(uint64_t)) fail("a shuffle moves up to eight bytes");
    Warp& warp = my_warp();
    uint64_t* values = warp.values[current->shuffles++ % 2];
    std::memcpy(&values[here.lane], value, bytes);
    arrive_and_wait(warp.barrier, line, warp.shuffled);
    std::memcpy(result, &values[lane], bytes);
}

void collect_in_warp(unsigned mask, unsigned value, unsigned (&values)[WARP], int line) {
    const uint64_t* all = current->block->warps[current->number / WARP].values[current->shuffles % 2];
    exchange_in_warp(mask, &value, &values[0], sizeof value, here.lane, line);
    for (int lane = 0; lane < WARP; ++lane) std::memcpy(&values[lane], &all[lane], sizeof value);
}

// A tensor core takes a sign, 8 bits of exponent and 10 of mantissa, and ignores the rest.
float taken(unsigned bits) { return same_bits<float>(bits & 0xffffe000u); }

void add_tile(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line) {
    Warp& warp = my_warp();
    auto& tiles = warp.tiles[current->shuffles++ % 2];
    tiles[here.lane] = {taken(a[0]), taken(a[1]), taken(a[2]), taken(a[3]), taken(b[0]), taken(b[1])};
    arrive_and_wait(warp.barrier, line, warp.shuffled);
    const int g = here.lane / 4, t = here.lane % 4;
    for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 8; ++k)
            sum[i] += tiles[4 * g + k % 4][i / 2 + k / 4 * 2] * tiles[4 * (2 * t + i % 2) + k % 4][4 + k / 4];
}

// Shared memory.

size_t offset_of(const void* address) {
    const auto* byte = static_cast<const unsigned char*>(address);
    const auto& shared = current->block->shared;
    if (byte < shared.data() || byte >= shared.data() + shared.size()) fail("this is no address in shared memory");
    return static_cast<size_t>(byte - shared.data());
}

unsigned char* take_shared(size_t used, size_t bytes) {
    if (used % 16) fail("an array in shared memory starts at no multiple of 16 bytes");
    if (used + bytes > group->launch.shared_bytes)
        fail("the kernel takes more shared memory than its launch gives it: " + std::to_string(used + bytes) +
             " of " + std::to_string(group->launch.shared_bytes) + " bytes");
    auto& shared = current->block->shared;
    const size_t start = current->taken + GUARD;
    const size_t whole = (bytes + 15) / 16 * 16;
    current->taken = start + whole;
    if (shared.size() < start + whole + GUARD) fail("more arrays of shared memory than emulated");
    lay_open(shared.data() + start, bytes);
    return shared.data() + start;
}

void* in_block(void* mine, unsigned rank) {
    Block* first = current->block - current->block->rank;
    return first[rank].shared.data() + offset_of(mine);
}

// An access on a kernel's behalf, which no sanitizer sees here.
void check_place([[maybe_unused]] const char* who, [[maybe_unused]] const void* address,
                 [[maybe_unused]] size_t bytes) {
#if !RACES
    if (__asan_region_is_poisoned(const_cast<void*>(address), bytes)) fail(std::string("use-after-poison in ") + who);
#endif
}

void start_copy(void* shared, const void* global, size_t bytes) {
    offset_of(shared);
    check_place("a copy", shared, bytes);
    if (global) check_place("a copy", global, bytes);
    races::seen(current->known, shared, bytes, races::COPY, true);
    std::memset(shared, 0xff, bytes);
    current->copies.push_back({shared, global, bytes});
}

void copy(const Copy& what) {
    if (what.global)
        std::memcpy(what.shared, what.global, what.bytes);
    else
        std::memset(what.shared, 0, what.bytes);
}

// The thread's copies, which from here on are over for whoever hears of it.
std::vector<Copy> take_copies() {
    for (const Copy& each : current->copies) {
        if (each.global) races::seen(current->known, each.global, each.bytes, races::COPY, false);
        races::seen(current->known, each.shared, each.bytes, races::COPY, true);
    }
    return std::exchange(current->copies, {});
}

void finish_copies() {
    for (const Copy& each : take_copies()) copy(each);
}

// Mailboxes.

Mailbox& mailbox(Block& block, size_t place) {
    auto found = block.mailboxes.find(place);
    if (found == block.mailboxes.end()) fail("a mailbox is used before it was made");
    return found->second;
}

void end_phase_if_complete(Mailbox& box) {
    if (box.pending > 0 || box.bytes != 0) return;
    box.pending = box.expected;
    ++box.phase;
    wake(box.waiting);
}

void make_mailbox(uint64_t* bar, int arrivals) {
    races::seen(current->known, bar, sizeof *bar, races::MAILBOX, true);
    Mailbox& box = current->block->mailboxes[offset_of(bar)];
    box.expected = box.pending = arrivals;
}

void announce(uint64_t* bar, long bytes) {
    races::seen(current->known, bar, sizeof *bar, races::MAILBOX, false);
    Mailbox& box = mailbox(*current->block, offset_of(bar));
    box.bytes += bytes;
    if (--box.pending < 0) fail("more arrivals in a phase than the mailbox was made for");
    races::deliver(box.post, current->known, races::tell(current->known));
    end_phase_if_complete(box);
}

void arrive_with_copies(uint64_t* bar) {
    races::seen(current->known, bar, sizeof *bar, races::MAILBOX, false);
    group->spinning = false;
    Mailbox* box = &mailbox(*current->block, offset_of(bar));
    Thread* sender = current;
    const auto copies = take_copies();
    const auto told = races::tell(sender->known);
    group->messages.push_back([=] {
        for (const Copy& each : copies) copy(each);
        races::deliver(box->post, sender->known, told);
        --box->pending;
        end_phase_if_complete(*box);
    });
}

void wait_for_phase(uint64_t* bar, unsigned parity) {
    races::seen(current->known, bar, sizeof *bar, races::MAILBOX, false);
    group->spinning = false;
    Mailbox& box = mailbox(*current->block, offset_of(bar));
    while ((box.phase & 1) == parity) {
        box.waiting.push_back(current);
        leave(false);
    }
    races::learn(current->known, box.post);
}

void send(void* mine, unsigned rank, const void* value, size_t bytes, uint64_t* bar) {
    group->spinning = false;
    Block* to = current->block - current->block->rank + rank;
    void* place = in_block(mine, rank);
    check_place("a message", place, bytes);
    Mailbox* box = &mailbox(*to, offset_of(bar));
    to->in_use = true;
    to->meetings = group->cluster_barrier.meetings;
    Thread* sender = current;
    races::seen(sender->known, in_block(bar, rank), sizeof *bar, races::MAILBOX, false);
    races::seen(sender->known, place, bytes, races::MESSAGE, true);
    const auto told = races::tell(sender->known);
    Message sent{};
    std::memcpy(sent.data(), value, bytes);
    group->messages.push_back([=] {
        std::memcpy(place, sent.data(), bytes);
        races::deliver(box->post, sender->known, told);
        box->bytes -= static_cast<long>(bytes);
        end_phase_if_complete(*box);
    });
}

// The scheduler.

void deliver_some(bool all) {
    std::vector<std::function<void()>> later, now;
    for (auto& message : group->messages) (all || group->random() % 2 ? now : later).push_back(std::move(message));
    group->messages = std::move(later);
    std::shuffle(now.begin(), now.end(), group->random);
    for (auto& message : now) message();
}

void run_round() {
    group->ready.swap(group->next);
    group->next.clear();
    if (group->launch.seed) std::shuffle(group->ready.begin(), group->ready.end(), group->random);
    for (Thread* thread : group->ready) {
        resume(*thread);
        if (thread->done) group->spinning = false;
        if (!failure.empty()) return;
    }
}

void poison(Block& block) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (size_t i = 0; i + sizeof nan <= block.shared.size(); i += sizeof nan)
        std::memcpy(block.shared.data() + i, &nan, sizeof nan);
    close_off(block.shared.data(), block.shared.size());
}

void make_block(Block& block, const dim3& index, unsigned rank) {
    const dim3& size = group->launch.block;
    const int count = static_cast<int>(size.x * size.y * size.z);
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
        const dim3 place = {i % size.x, i / size.x % size.y, i / size.x / size.y};
        thread.here = {place, index, size, group->launch.grid, i % WARP, rank};
        ++block.warps[i / WARP].barrier.expected;
        group->next.push_back(&thread);
        const auto block_in_group = static_cast<int>(&block - group->blocks.data());
        races::begin_thread(thread.known, block_in_group * count + i, i % WARP, block.warps[i / WARP].shuffled);
    }
}

void run_group(const std::vector<dim3>& indices) {
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
        for (const auto& [place, box] : block.mailboxes)
            if (failure.empty() && box.bytes != 0) failure = "a mailbox was not sent as many bytes as it expects";
        lay_open(block.shared.data(), block.shared.size());
        for (Thread& thread : block.threads)
            if (Fiber* left_behind = std::exchange(thread.fiber, nullptr)) { // after a failure
                lay_open(left_behind->stack.get(), STACK);
                delete left_behind;
            }
    }
}

// Those furthest from the first, so that no gaps are left between the rest.
void give_stacks_back() {
    if (idle_fibers.size() <= KEPT_STACKS) return;
    std::sort(idle_fibers.begin(), idle_fibers.end(), [](auto* a, auto* b) { return a->stack.get() < b->stack.get(); });
    for (; idle_fibers.size() > KEPT_STACKS; idle_fibers.pop_back()) delete idle_fibers.back();
}

// Runs every group of blocks, in random order. Returns an empty string, or what went wrong.
std::string run(const Launch& launch, const std::function<void()>& kernel) {
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
    only = {};
    give_stacks_back();
    return failure;
}

// What the host calls.

int answer(const std::string& text, char* buffer, int size) {
    return std::snprintf(buffer, static_cast<size_t>(size), "%s", text.c_str());
}

int join(const char* const* names, size_t count, char* buffer, int size) {
    std::string all = count ? names[0] : "";
    for (size_t i = 1; i < count; ++i) all += std::string(",") + names[i];
    return answer(all, buffer, size);
}

#if RACES

// In a child process, so that the launch changes nothing here: another one, under sanitizers, does the work.
std::string guarded(const std::function<std::string()>& launch) {
    int ends[2];
    if (pipe(ends)) return "no pipe to a child process";
    const pid_t child = fork();
    if (child == 0) {
        for (const int crash : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) signal(crash, SIG_DFL);
        const std::string found = launch();
        (void)!write(ends[1], found.data(), found.size());
        std::_Exit(0);
    }
    close(ends[1]);
    std::string found;
    char part[4096];
    for (ssize_t size; (size = read(ends[0], part, sizeof part)) > 0;) found.append(part, static_cast<size_t>(size));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return child < 0 ? "no child process" : WIFSIGNALED(status) ? "a crash" : found;
}

#else

// The sanitizer's report, as the failure of the launch: what, and where; the driver finds the line.
void take_report(const char*) {
    if (!failure.empty()) return;
    const auto* place = static_cast<const char*>(__asan_get_report_pc());
    failure = __asan_get_report_description() + std::string(" at [") + std::to_string(place - code() - 1) + "]";
}

// A crash ends the launch, not the process. Undefined behaviour that the sanitizer told of before says more.
void take_crash(int signal) {
    if (group && current) fail(std::string("a crash: ") + strsignal(signal));
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

// While it lives, crashes are the launch's.
class Crashes {
  public:
    Crashes() {
        struct sigaction taken = {};
        taken.sa_handler = take_crash;
        taken.sa_flags = SA_NODEFER; // the handler does not return
        for (size_t k = 0; k < std::size(SIGNALS); ++k) sigaction(SIGNALS[k], &taken, &before[k]);
    }
    ~Crashes() {
        for (size_t k = 0; k < std::size(SIGNALS); ++k) sigaction(SIGNALS[k], &before[k], nullptr);
    }

  private:
    static constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct sigaction before[std::size(SIGNALS)];
};

// The rest of a report is for nobody. Not by the option log_path: that makes a file for every process.
void hear_the_sanitizer() {
    static const intptr_t nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    __sanitizer_set_report_fd(reinterpret_cast<void*>(nowhere));
    __asan_set_error_report_callback(take_report);
}

std::string guarded(const std::function<std::string()>& launch) {
    hear_the_sanitizer();
    const Crashes crashes;
    return launch();
}

#endif

int launch(const Launch* launch, void (*kernel)(void**), void** arguments, char* buffer, int size) {
    return answer(guarded([=] { return run(*launch, [=] { kernel(arguments); }); }), buffer, size);
}

} // namespace emulation

unsigned atomicAdd(unsigned* address, unsigned value) {
    using namespace emulation;
    check_place("an atomic operation", address, sizeof *address);
    group->spinning = false;
    races::atomic(current->known, address, sizeof *address);
    return std::exchange(*address, *address + value);
}

// The sanitizer is loaded into a process that started without it, so its own allocator must not be used.
void* operator new(size_t size) {
    if (void* memory = std::malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

#if !RACES

// suppress_equal_pcs would tell of a line once a process, and end the process at the 26th.
extern "C" const char* __asan_default_options() {
    return "verify_asan_link_order=0:detect_leaks=0:detect_stack_use_after_return=0:halt_on_error=0:symbolize=0:"
           "suppress_equal_pcs=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0";
}

// Undefined behaviour, such as an address that is not aligned, fails its launch.
extern "C" void __ubsan_get_current_report_data(const char** kind, const char** message, const char** file,
                                                unsigned* line, unsigned* column, char** address);
extern "C" void __ubsan_on_report() {
    const char *kind, *message, *file;
    unsigned line, column;
    char* address;
    __ubsan_get_current_report_data(&kind, &message, &file, &line, &column, &address);
    if (emulation::failure.empty())
        emulation::failure = std::string(kind) + " in " + file + ":" + std::to_string(line);
}

#endif
