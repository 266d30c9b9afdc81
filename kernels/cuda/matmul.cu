// out (m, n) = a (m, k) times b (k, n), either of which may be stored by columns (a transposed view), for the sizes of
// an MLP: batches of 64 rows, layers of ten to a few thousand units. The layer's element-wise work on the product is done
// before it is stored (see Finish), because a launch costs more than most of these products.
//
// A block computes a TILE x TILE tile of out. It brings a and b through shared memory, a chunk of k at a time, as
// a[k][row] and b[k][column]; while it multiplies one chunk, its threads hold the next one in registers, with PACKS
// 16-byte loads of each input in flight. A thread keeps 4 x 4 sums: two 16-byte reads of shared memory per 16
// multiplications, and the threads of a warp read few different addresses. So a group of (TILE / 4)^2 threads covers the
// tile; a block has one or more groups, and group g takes every k from g on in steps of their number. A batch of 64 makes
// so few tiles that most of the GPU is idle, and what counts is not how many products are summed at once but how long one
// sum takes. Finally the groups' sums are added in a fixed order, so that out has the same bits in every run.
//
// Large products have tiles of 64: 32 numbers come from the L2 cache per 1024 multiplications. We estimate half the speed
// of cuBLAS, which CuPy cannot capture in a CUDA graph; evaluating 2048 rows at once takes microseconds.
#include "common.cuh"

constexpr int QUADS = TILE / 4; // in a row of the tile
constexpr int GROUP = QUADS * QUADS;
constexpr int PACK = 16 / sizeof(REAL);

enum Finish {
    NOTHING,
    BIAS,        // out + given (n,)
    BIAS_RELU,   // max(out + given (n,), 0), NaN kept
    ACTIVE,      // out * (given (m, n) > 0)
    COLUMN_SUMS, // and column_sums (n,) of b over k: out's row m, by a row of ones that follows the last of a
};

struct alignas(16) Pack { // loaded by one instruction
    REAL at[PACK];
};

struct alignas(16) Quad {
    REAL x, y, z, w;
};

// One input: `count` rows of a, or columns of b, of `depth` numbers each. by_k: the numbers of a row (or column) are
// contiguous; otherwise those of one k are. Either way a pack has PACK neighbours.
struct Operand {
    const REAL* numbers;
    int64 count, depth, first; // first: the first row or column of the block's tile
    bool by_k, with_ones, aligned; // with_ones: a row of ones follows its rows

    __device__ Operand(const REAL* numbers, int64 count, int64 depth, int64 first, bool by_k, bool with_ones)
        : numbers(numbers), count(count), depth(depth), first(first), by_k(by_k), with_ones(with_ones),
          aligned((by_k ? depth : count) % PACK == 0 && reinterpret_cast<size_t>(numbers) % 16 == 0) {}

    // The position of a pack in the chunk: neighbouring threads take neighbouring i, which avoids bank conflicts.
    __device__ int i_of(int pack) const { return by_k ? pack % TILE : pack % (TILE / PACK) * PACK; }
    __device__ int k_of(int pack) const { return by_k ? pack / TILE * PACK : pack / (TILE / PACK); }

    // That pack of the chunk that starts at first_k; zeros beyond the input's ends.
    __device__ Pack read(int pack, int64 first_k) const {
        const int64 i = first + i_of(pack), k = first_k + k_of(pack);
        const int64 left = by_k ? (i < count ? depth - k : 0) : (k < depth ? count - i : 0);
        const REAL* source = numbers + (by_k ? i * depth + k : k * count + i);
        if (aligned && left >= PACK) return *reinterpret_cast<const Pack*>(source);
        Pack edge = {};
        for (int e = 0; e < PACK; ++e) {
            if (e < left) edge.at[e] = source[e];
            if (with_ones && (by_k ? i : i + e) == count) edge.at[e] = 1;
        }
        return edge;
    }

    // tile[k][i] = that pack.
    __device__ void store(int pack, const Pack& numbers_of_pack, REAL* tile) const {
        REAL* place = tile + k_of(pack) * TILE + i_of(pack);
        if (by_k)
            for (int e = 0; e < PACK; ++e) place[e * TILE] = numbers_of_pack.at[e];
        else
            *reinterpret_cast<Pack*>(place) = numbers_of_pack;
    }
};

struct Chunk { // a thread's part of it
    Pack of_a[PACKS], of_b[PACKS];

    __device__ void read(const Operand& a, const Operand& b, int64 first_k) {
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            of_a[p] = a.read(threadIdx.x + p * blockDim.x, first_k);
            of_b[p] = b.read(threadIdx.x + p * blockDim.x, first_k);
        }
    }

    __device__ void store(const Operand& a, const Operand& b, REAL* tile_of_a, REAL* tile_of_b) const {
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            a.store(threadIdx.x + p * blockDim.x, of_a[p], tile_of_a);
            b.store(threadIdx.x + p * blockDim.x, of_b[p], tile_of_b);
        }
    }
};

__device__ inline void add_product(Quad& sums, REAL a, const Quad& b) {
    sums.x += a * b.x;
    sums.y += a * b.y;
    sums.z += a * b.z;
    sums.w += a * b.w;
}

// Adds to the thread's 4 x 4 sums the products of a[k][0..4] and b[k][0..4] for its group's k below depth.
__device__ inline void add_products(const REAL* a, const REAL* b, int depth, Quad* sums) {
    const int groups = blockDim.x / GROUP;
#pragma unroll 4
    for (int k = threadIdx.x / GROUP; k < depth; k += groups) {
        const Quad left = *reinterpret_cast<const Quad*>(a + k * TILE);
        const Quad right = *reinterpret_cast<const Quad*>(b + k * TILE);
        add_product(sums[0], left.x, right);
        add_product(sums[1], left.y, right);
        add_product(sums[2], left.z, right);
        add_product(sums[3], left.w, right);
    }
}

// The number to store in out, at that index and column.
__device__ inline REAL finished(REAL sum, const REAL* given, int64 place, int64 column, int finish) {
    if (finish == BIAS) return sum + given[column];
    if (finish == BIAS_RELU) return sum + given[column] < 0 ? REAL(0) : sum + given[column];
    if (finish == ACTIVE) return sum * REAL(given[place] > 0);
    return sum;
}

// Shared memory: 2 * PACKS packs per thread, reused for the groups' sums. given and column_sums: see Finish.
extern "C" __global__ void __launch_bounds__(256, 1)
    matmul(const REAL* a, const REAL* b, const REAL* given, REAL* out, REAL* column_sums, int64 m, int64 k, int64 n,
           bool a_transposed, bool b_transposed, int finish) {
    const int numbers_of_chunk = PACKS * PACK * blockDim.x, depth_of_chunk = numbers_of_chunk / TILE;
    SharedMemory memory;
    REAL* tiles = memory.take<REAL>(2 * numbers_of_chunk);
    REAL *tile_of_a = tiles, *tile_of_b = tiles + numbers_of_chunk;
    const int64 tiles_in_row = (n + TILE - 1) / TILE;
    const int64 first_row = blockIdx.x / tiles_in_row * TILE, first_column = blockIdx.x % tiles_in_row * TILE;
    const Operand left(a, m, k, first_row, !a_transposed, finish == COLUMN_SUMS);
    const Operand right(b, n, k, first_column, b_transposed, false);
    const int row = threadIdx.x % GROUP / QUADS * 4, column = threadIdx.x % QUADS * 4;

    Quad sums[4] = {};
    Chunk chunk;
    chunk.read(left, right, 0);
    for (int64 first_k = 0; first_k < k; first_k += depth_of_chunk) {
        chunk.store(left, right, tile_of_a, tile_of_b);
        __syncthreads();
        const int64 rest = k - first_k;
        if (rest > depth_of_chunk) chunk.read(left, right, first_k + depth_of_chunk);
        const int depth = static_cast<int>(min(rest, static_cast<int64>(depth_of_chunk)));
        add_products(tile_of_a + row, tile_of_b + column, depth, sums);
        __syncthreads();
    }

    REAL* sums_of_groups = tiles; // [group][row][column]
    const int group = threadIdx.x / GROUP, groups = blockDim.x / GROUP;
    for (int r = 0; r < 4; ++r)
        *reinterpret_cast<Quad*>(sums_of_groups + (group * TILE + row + r) * TILE + column) = sums[r];
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
        REAL sum = sums_of_groups[i];
        for (int g = 1; g < groups; ++g) sum += sums_of_groups[g * TILE * TILE + i];
        const int64 r = first_row + i / TILE, c = first_column + i % TILE;
        if (r < m && c < n) out[r * n + c] = finished(sum, given, r * n + c, c, finish);
        if (r == m && c < n && finish == COLUMN_SUMS) column_sums[c] = sum;
    }
}
