// What CUDA kernels find where they are compiled for a CPU, so that their sources are tested where there is no GPU. What
// they do there is in emulation.cpp, which is compiled once: this header, once for every kernel and all its constants.
//
// Only what the kernels here use is emulated; a kernel that uses more does not compile.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)

struct dim3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
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

// Where the thread that runs is.
struct Here {
    dim3 thread, block, block_size, grid_size;
    int lane;
    unsigned rank; // of its block, in the cluster
};
extern Here here;

// Waiting. line: of the source.
void meet_warp(int line);
void meet_block(int line);
void meet_cluster(int line);
void meet_some(int number, int threads, int line); // of a block, at a barrier of that number
void spin(); // called by a loop that polls global memory, between two reads
void exchange_in_warp(unsigned mask, const void* value, void* result, size_t bytes, int lane, int line);
void collect_in_warp(unsigned mask, unsigned value, unsigned (&values)[WARP], int line);

template <class T> T exchange_in_warp(unsigned mask, T value, int lane, int line) {
    T result;
    exchange_in_warp(mask, &value, &result, sizeof value, lane, line);
    return result;
}

void add_tile(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line); // see tensor_cores.cuh

template <class F> unsigned reduce_in_warp(unsigned mask, unsigned value, F combine, int line) {
    unsigned values[WARP];
    collect_in_warp(mask, value, values, line);
    for (int lane = 1; lane < WARP; ++lane) values[0] = combine(values[0], values[lane]);
    return values[0];
}

// Where the kernel's next array in shared memory starts; `used` is the kernel's own count, without guard zones.
unsigned char* take_shared(size_t used, size_t bytes);

// Copies that a thread has started arrive when it waits for them, or with a message; until then their destination is NaN.
void start_copy(void* shared, const void* global, size_t bytes); // zero if global is null
void finish_copies();

// Mailboxes.
void make_mailbox(uint64_t* box, int arrivals);
void announce(uint64_t* box, long bytes); // arrive, and expect that many bytes in this phase
void arrive_with_copies(uint64_t* box); // once the thread's copies are there, at some time
void wait_for_phase(uint64_t* box, unsigned parity);
void send(void* mine, unsigned rank, const void* value, size_t bytes, uint64_t* box);

void fence();

// A kernel as the host calls it: with a pointer to each argument, like cuLaunchKernel.

struct Launch;
int join(const char* const* names, size_t count, char* buffer, int size);
int launch(const Launch* launch, void (*kernel)(void**), void** arguments, char* buffer, int size);

template <class T> constexpr const char* TYPE_NAME = "unknown";
#define NAMED(type, name)                                                                                             \
    template <> inline constexpr const char* TYPE_NAME<type> = name;                                                  \
    template <> inline constexpr const char* TYPE_NAME<type*> = name "*";                                             \
    template <> inline constexpr const char* TYPE_NAME<const type*> = "const " name "*";
NAMED(float, "float32")
NAMED(double, "float64")
NAMED(int, "int32")
NAMED(unsigned, "uint32")
NAMED(long long, "int64")
NAMED(unsigned char, "uint8")
NAMED(unsigned short, "uint16")
NAMED(bool, "bool")

template <auto KERNEL> struct Host;
template <class... A, void (*KERNEL)(A...)> struct Host<KERNEL> {
    static constexpr const char* TYPES[] = {TYPE_NAME<A>...};
    static void call(void** arguments) { call(arguments, std::index_sequence_for<A...>{}); }
    template <size_t... I> static void call(void** arguments, std::index_sequence<I...>) {
        KERNEL(*static_cast<A*>(arguments[I])...);
    }
};

} // namespace emulation

// The functions through which Python calls a kernel. Both answer by a text of up to `size` bytes: the types of the
// kernel's arguments, and what went wrong.
#define HOST_SIDE(kernel)                                                                                             \
    extern "C" int kernel##_signature(char* buffer, int size) {                                                       \
        const auto& types = emulation::Host<kernel>::TYPES;                                                           \
        return emulation::join(types, sizeof types / sizeof *types, buffer, size);                                    \
    }                                                                                                                 \
    extern "C" int kernel##_launch(void** arguments, const emulation::Launch* launch, char* buffer, int size) {       \
        return emulation::launch(launch, emulation::Host<kernel>::call, arguments, buffer, size);                     \
    }

// What kernels call.

#define threadIdx (emulation::here.thread)
#define blockIdx (emulation::here.block)
#define blockDim (emulation::here.block_size)
#define gridDim (emulation::here.grid_size)
#define __syncthreads() emulation::meet_block(__LINE__)
#define __syncwarp() emulation::meet_warp(__LINE__)
#define __shfl_sync(mask, value, lane) emulation::exchange_in_warp(mask, value, (lane) % emulation::WARP, __LINE__)
#define __shfl_xor_sync(mask, value, bits)                                                                            \
    emulation::exchange_in_warp(mask, value, emulation::here.lane ^ (bits), __LINE__)
#define __reduce_max_sync(mask, value)                                                                                \
    emulation::reduce_in_warp(mask, value, [](unsigned a, unsigned b) { return std::max(a, b); }, __LINE__)
#define __reduce_min_sync(mask, value)                                                                                \
    emulation::reduce_in_warp(mask, value, [](unsigned a, unsigned b) { return std::min(a, b); }, __LINE__)
#define __nanosleep(time) emulation::spin()
#define __threadfence() emulation::fence()

template <class T> T __ldg(const T* address) { return *address; }
template <class T> T __ldcg(const T* address) { return *address; }
template <class T> void __stcg(T* address, T value) { *address = value; }

unsigned atomicAdd(unsigned* address, unsigned value);

// Each rounds separately: the emulation is compiled without contraction.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdividef(float a, float b) { return a / b; }
template <class To, class From> To same_bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    std::memcpy(&result, &value, sizeof result);
    return result;
}
inline unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
