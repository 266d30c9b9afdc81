// out (m, width) = the rows of source (n, width) at index int64 (m,): features, labels or weights of a batch.
// ELEMENT is float, double or int64. Rows whose length is a multiple of 16 bytes are copied 16 bytes at a time.
#include "each.cuh"

constexpr int PACK = 16 / sizeof(ELEMENT);

struct alignas(16) Pack { // copied by one instruction
    ELEMENT at[PACK];
};

struct LoosePack { // the same for arrays that are not aligned to 16 bytes
    ELEMENT at[PACK];
};

template <class Unit>
__device__ void gather_units(const void* source, const int64* index, void* out, int64 rows, int64 units) {
    const Unit* from = static_cast<const Unit*>(source);
    Unit* to = static_cast<Unit*>(out);
    const auto read = [=](int64 i) { return from[index[i / units] * units + i % units]; };
    each(rows * units, read, [=](int64 i, const Unit& unit) { to[i] = unit; });
}

__device__ inline bool at_16_bytes(const void* address) { return reinterpret_cast<size_t>(address) % 16 == 0; }

extern "C" __global__ void gather(const ELEMENT* source, const int64* index, ELEMENT* out, int64 rows, int64 width) {
    if (width % PACK != 0)
        gather_units<ELEMENT>(source, index, out, rows, width);
    else if (at_16_bytes(source) && at_16_bytes(out))
        gather_units<Pack>(source, index, out, rows, width / PACK);
    else
        gather_units<LoosePack>(source, index, out, rows, width / PACK);
}
