// Finds races: two accesses to the same memory by two threads of a launch, one of them a write, that nothing keeps in
// order. With RACES 1, the compiler calls a function before every access of a kernel (-fsanitize=thread, without its
// library), and the emulation says what threads tell one another:
//   at a barrier of a warp, a block or a cluster, all that they have done;
//   by a shuffle, what they have read, for its result depends on it;
//   by a message, to whom waits for its mailbox, all that its sender has done;
//   by a volatile write or an atomic operation, all up to the writer's last __threadfence(), to whom sees it by a
//   volatile read or an atomic operation, from the reader's next __threadfence() on.
// A thread's clock moves on whenever it tells something, and others know what it has done up to some time on it. For each
// word of memory (or byte, where bytes are accessed) the last write is kept, and two of the reads since then that are in
// no order. So what is found hardly depends on the order in which threads happened to run. See "FastTrack: Efficient and
// Precise Dynamic Race Detection", Flanagan and Freund, 2009.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace emulation {

[[noreturn]] inline void fail(const std::string& sentence);

namespace races {

#if RACES

using Times = std::vector<uint32_t>; // by thread of the group
using Told = std::shared_ptr<const Times>;

constexpr uint32_t NOBODY = UINT32_MAX;
constexpr size_t PAGE = 1024; // bytes
constexpr long ENOUGH = 12'000'000; // accesses of one launch: what comes later in it is more of the same

// What a thread knows of the others, numbered over the whole launch.
struct Known {
    uint32_t thread = 0, first_of_warp = 0;
    uint32_t time = 1;
    Told others;
    const uint32_t* times = nullptr;    // of others
    const uint32_t* shuffled = nullptr; // of the warp's lanes: what they had read before its last shuffle
    const char *stack = nullptr, *stack_end = nullptr; // its own, which nobody else accesses
    std::pair<Told, uint32_t> fenced; // what it tells by a flag: what it knew and its time at its last fence
    std::vector<Told> polled;         // told by flags since then
};

// What a mailbox's messages have told.
struct Post {
    Times times;
    std::vector<Told> joined;
    Told before, after; // what one of the receivers knew: the next ones know the same
};

// A place in the library's code, or what else accesses memory.
enum : uint32_t { COPY = 1, MESSAGE, MAILBOX, ATOMIC, CODE = 16 };

struct Access {
    uint32_t thread = NOBODY, time = 0, place = 0;
    bool polls = false; // volatile or atomic: such do not race with one another
};

struct Cell {
    Access write, reads[2];
};

struct Page {
    uintptr_t number = 0;
    size_t unit = sizeof(uint32_t); // bytes of a cell
    std::vector<Cell> storage{PAGE / sizeof(uint32_t)};
    Cell* cells = storage.data();
};

inline uint32_t first_thread, group_threads, block_threads; // first_thread: of the group, in the launch
inline std::map<uintptr_t, Page> pages;
inline Page* recent_pages[4096]; // by the last bits of their numbers
inline std::map<uintptr_t, Told> flags;
inline Told nothing; // what a thread knows at first
inline long accesses;
inline Known* watched; // whose accesses are seen now: nobody's while the emulation itself works

// Who knows what.

inline void join(Times& into, const Times& times) {
    if (into.size() < times.size()) into.resize(times.size());
    for (size_t i = 0; i < times.size(); ++i)
        if (into[i] < times[i]) into[i] = times[i];
}

inline void join_once(Times& into, std::vector<Told>& joined, const Told& told) {
    for (size_t i = joined.size(); i--;)
        if (joined[i] == told) return;
    join(into, *told);
    joined.push_back(told);
}

inline void know(Known& me, Told others) {
    me.others = std::move(others);
    me.times = me.others->data();
}

inline void begin_group(uint32_t first_block, uint32_t blocks, uint32_t threads) {
    first_thread = first_block * threads;
    group_threads = blocks * threads;
    block_threads = threads;
}

inline void begin_thread(Known& me, uint32_t index, uint32_t lane, const uint32_t* shuffled) {
    if (!nothing || nothing->size() != group_threads) nothing = std::make_shared<Times>(group_threads);
    me.thread = first_thread + index;
    me.first_of_warp = me.thread - lane;
    me.shuffled = shuffled;
    know(me, nothing);
}

template <class Threads> void meet(const Threads& threads) {
    Times all(group_threads);
    std::vector<Told> joined;
    for (auto* thread : threads) join_once(all, joined, thread->known.others);
    for (auto* thread : threads) all[thread->known.thread - first_thread] = thread->known.time++;
    const Told shared = std::make_shared<Times>(std::move(all));
    for (auto* thread : threads) know(thread->known, shared);
}

template <class Threads> void shuffle(const Threads& threads, uint32_t* shuffled) {
    for (auto* thread : threads) shuffled[thread->known.thread - thread->known.first_of_warp] = thread->known.time++;
}

inline std::pair<Told, uint32_t> tell(Known& me) { return {me.others, me.time++}; }

inline void deliver(Post& post, const Known& sender, const std::pair<Told, uint32_t>& told) {
    post.times.resize(group_threads);
    join_once(post.times, post.joined, told.first);
    uint32_t& time = post.times[sender.thread - first_thread];
    if (time < told.second) time = told.second;
    post.before = nullptr;
}

inline void learn(Known& me, Post& post) {
    if (post.before != me.others) {
        auto all = std::make_shared<Times>(*me.others);
        join(*all, post.times);
        post.before = me.others;
        post.after = all;
    }
    know(me, post.after);
}

inline void fence(Known& me) {
    if (!me.polled.empty()) {
        auto all = std::make_shared<Times>(*me.others);
        for (const Told& told : me.polled) join(*all, *told);
        me.polled.clear();
        know(me, all);
    }
    me.fenced = tell(me);
}

inline void see_flag(Known& me, const void* flag) {
    const auto found = flags.find(reinterpret_cast<uintptr_t>(flag));
    if (found != flags.end() && (me.polled.empty() || me.polled.back() != found->second))
        me.polled.push_back(found->second);
}

// adds: to what the flag has told so far, as an atomic operation does.
inline void raise_flag(Known& me, const void* flag, bool adds) {
    auto all = std::make_shared<Times>(group_threads);
    Told& told = flags[reinterpret_cast<uintptr_t>(flag)];
    if (adds && told) join(*all, *told);
    if (me.fenced.first) {
        join(*all, *me.fenced.first);
        uint32_t& time = (*all)[me.thread - first_thread];
        if (time < me.fenced.second) time = me.fenced.second;
    }
    told = std::move(all);
}

// What happened to each word.

inline bool in_order(const Known& me, const Access& access) {
    if (access.thread == NOBODY || access.thread == me.thread) return true;
    const uint32_t index = access.thread - first_thread;
    return index < group_threads && me.times[index] >= access.time;
}

inline bool read_in_order(const Known& me, const Access& access) {
    if (in_order(me, access)) return true;
    const uint32_t lane = access.thread - me.first_of_warp;
    return lane < 32 && me.shuffled[lane] >= access.time;
}

inline std::string name_of(uint32_t place) {
    static const char* names[] = {"", "a copy", "a message", "a mailbox", "an atomic operation"};
    return place < CODE ? names[place] : "[" + std::to_string(place - 1) + "]"; // the driver finds the line
}

[[noreturn]] inline void race(bool writes, uint32_t place, const Access& other, bool wrote) {
    watched = nullptr;
    const uint32_t block = other.thread / block_threads, thread = other.thread % block_threads;
    fail("race: " + name_of(place) + (writes ? " writes" : " reads") + " what " + name_of(other.place) +
         (wrote ? " wrote" : " read") + ", by thread " + std::to_string(thread) + " of block " + std::to_string(block) +
         ", with nothing between that keeps them in order");
}

inline void read(Known& me, Cell& cell, uint32_t place, bool polls) {
    Access &first = cell.reads[0], &second = cell.reads[1];
    if (first.thread == me.thread && first.time == me.time && first.polls == polls) return;
    if (!in_order(me, cell.write) && !(polls && cell.write.polls)) race(false, place, cell.write, true);
    const bool takes_first = in_order(me, first) || (!in_order(me, second) && (me.thread ^ me.time) % 2);
    Access& mine = takes_first ? first : second;
    mine.thread = me.thread;
    mine.time = me.time;
    mine.place = place;
    mine.polls = polls;
}

inline void write(Known& me, Cell& cell, uint32_t place, bool polls) {
    if (!in_order(me, cell.write) && !(polls && cell.write.polls)) race(true, place, cell.write, true);
    for (Access& access : cell.reads) {
        if (!read_in_order(me, access) && !(polls && access.polls)) race(true, place, access, false);
        access.thread = NOBODY;
    }
    cell.write.thread = me.thread;
    cell.write.time = me.time;
    cell.write.place = place;
    cell.write.polls = polls;
}

inline Page& find_page(uintptr_t number, size_t unit) {
    Page& page = pages[number];
    page.number = number;
    if (page.unit > unit) { // each byte inherits what happened to its word
        std::vector<Cell> cells(PAGE / unit);
        for (size_t i = 0; i < cells.size(); ++i) cells[i] = page.cells[i * unit / page.unit];
        page.storage = std::move(cells);
        page.cells = page.storage.data();
        page.unit = unit;
    }
    return *(recent_pages[number % 4096] = &page);
}

inline Page& page_of(uintptr_t address, size_t bytes) {
    const size_t unit = (address | bytes) % sizeof(uint32_t) ? 1 : sizeof(uint32_t);
    Page* page = recent_pages[address / PAGE % 4096];
    return page && page->number == address / PAGE && page->unit <= unit ? *page : find_page(address / PAGE, unit);
}

inline void seen(Known& me, const void* start, size_t bytes, uint32_t place, bool writes, bool polls = false) {
    uintptr_t address = reinterpret_cast<uintptr_t>(start);
    if (start >= me.stack && start < me.stack_end) return;
    if (++accesses > ENOUGH) std::_Exit(0);
    for (const uintptr_t end = address + bytes; address < end;) {
        Page& page = page_of(address, end - address);
        Cell& cell = page.cells[address % PAGE / page.unit];
        if (writes)
            write(me, cell, place, polls);
        else
            read(me, cell, place, polls);
        address += page.unit;
    }
}

// Memory that other arrays had before.
inline void forget(const void* start, size_t bytes) {
    const auto first = reinterpret_cast<uintptr_t>(start);
    for (uintptr_t number = first / PAGE; number <= (first + bytes) / PAGE; ++number) {
        const auto found = pages.find(number);
        if (found == pages.end()) continue;
        Page& page = found->second;
        for (size_t i = 0; i < page.storage.size(); ++i) {
            const uintptr_t address = number * PAGE + i * page.unit;
            if (address >= first && address < first + bytes) page.cells[i] = {};
        }
    }
}

inline void poll(Known& me, const void* flag) {
    see_flag(me, flag);
}

inline void raise(Known& me, const void* flag) {
    raise_flag(me, flag, false);
}

inline void atomic(Known& me, const void* address, size_t bytes) {
    seen(me, address, bytes, ATOMIC, false, true);
    seen(me, address, bytes, ATOMIC, true, true);
    see_flag(me, address);
    raise_flag(me, address, true);
}

inline void watch(Known* thread) { watched = thread; }

inline void set_stack(Known& me, const char* stack, size_t size) {
    me.stack = stack;
    me.stack_end = stack + size;
}

inline uint32_t place_of(void* return_address) {
    return static_cast<uint32_t>(static_cast<const char*>(return_address) - code());
}

#else // nothing is seen, in as little time

enum { COPY, MESSAGE, MAILBOX };
struct Known {};
struct Post {};
inline void watch(Known*) {}
inline void set_stack(Known&, const char*, size_t) {}
inline void seen(Known&, const void*, size_t, int, bool) {}
inline void forget(const void*, size_t) {}
inline void atomic(Known&, const void*, size_t) {}
inline void begin_group(uint32_t, uint32_t, uint32_t) {}
inline void begin_thread(Known&, uint32_t, uint32_t, const uint32_t*) {}
template <class Threads> void meet(const Threads&) {}
template <class Threads> void shuffle(const Threads&, uint32_t*) {}
inline int tell(Known&) { return 0; }
inline void deliver(Post&, const Known&, int) {}
inline void learn(Known&, Post&) {}
inline void fence(Known&) {}

#endif

} // namespace races
} // namespace emulation

#if RACES

// What the compiler calls before each access.
#define SEEN(name, size, writes)                                                                                      \
    extern "C" void __tsan_##name(void* address) {                                       \
        using namespace emulation::races;                                                                             \
        if (Known* me = watched) seen(*me, address, size, place_of(__builtin_return_address(0)), writes);             \
    }
#define SEEN_BOTH(size) SEEN(read##size, size, false) SEEN(write##size, size, true)
#define SEEN_VOLATILE(size)                                                                                           \
    extern "C" void __tsan_volatile_read##size(void* address) {                          \
        using namespace emulation::races;                                                                             \
        if (Known* me = watched) {                                                                                    \
            seen(*me, address, size, place_of(__builtin_return_address(0)), false, true);                             \
            poll(*me, address);                                                                                       \
        }                                                                                                             \
    }                                                                                                                 \
    extern "C" void __tsan_volatile_write##size(void* address) {                         \
        using namespace emulation::races;                                                                             \
        if (Known* me = watched) {                                                                                    \
            seen(*me, address, size, place_of(__builtin_return_address(0)), true, true);                              \
            raise(*me, address);                                                                                      \
        }                                                                                                             \
    }
#define SEEN_RANGE(name, writes)                                                                                      \
    extern "C" void __tsan_##name##_range(void* address, size_t size) {                  \
        using namespace emulation::races;                                                                             \
        if (Known* me = watched) seen(*me, address, size, place_of(__builtin_return_address(0)), writes);             \
    }
SEEN_BOTH(1)
SEEN_BOTH(2)
SEEN_BOTH(4)
SEEN_BOTH(8)
SEEN_BOTH(16)
SEEN(unaligned_read2, 2, false)
SEEN(unaligned_read4, 4, false)
SEEN(unaligned_read8, 8, false)
SEEN(unaligned_read16, 16, false)
SEEN(unaligned_write2, 2, true)
SEEN(unaligned_write4, 4, true)
SEEN(unaligned_write8, 8, true)
SEEN(unaligned_write16, 16, true)
SEEN_VOLATILE(1)
SEEN_VOLATILE(2)
SEEN_VOLATILE(4)
SEEN_VOLATILE(8)
SEEN_RANGE(read, false)
SEEN_RANGE(write, true)
extern "C" void __tsan_init() {}

#endif
