// A tile of a (m, k) times b (k, n) by one block, for the products of a training step: batches of 64 rows, layers of ten
// to a thousand units. Such a product makes too few tiles to fill a GPU, and takes as long as one tile does. So a block has
// 8 warps, and each sums its own share of the k terms of every number of the tile; the warps' sums are added in order.
//
// A warp brings its terms through its own part of shared memory, in chunks of DEPTH, with PACKS loads of 16 bytes of
// either side in flight per lane; while it multiplies one chunk, its lanes hold the next in registers. Only the warp
// itself reads that memory, so the block's one barrier is before the warps' sums are added.
//
// TILE, set by the compiler's options: the numbers per side of the tile, 8, 16 or 32.
#pragma once
#include "networks.cuh"

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * LANES;
constexpr int PACK = 16 / sizeof(REAL);
constexpr int PACKS = 4;
constexpr int DEPTH = PACKS * PACK * LANES / TILE;
constexpr int STRIDE = DEPTH + PACK; // of a row's terms: the eight rows that a warp reads at once are in different banks
constexpr int SIDE = TILE * STRIDE;  // numbers of a chunk of one side
constexpr int OF_WARP = 2 * SIDE;    // of a warp's part of shared memory, which then takes its sums
constexpr int ROW_GROUPS = 8, COLUMN_GROUPS = 4; // of lanes
constexpr int LANE_ROWS = TILE / ROW_GROUPS, LANE_COLUMNS = TILE / COLUMN_GROUPS;
constexpr int UNROLLED = TILE < 32 ? 4 : 1; // packs of terms: two blocks of 128 registers a thread fit a multiprocessor
constexpr int COLUMN_SUMS = TILE * TILE; // where a warp's sums of b's columns follow its sums of products
static_assert(COLUMN_SUMS + TILE <= OF_WARP, "a warp's sums do not fit into its part of shared memory");

// Neighbouring numbers, moved by as few instructions as possible.
template <int COUNT> struct alignas(COUNT < PACK ? COUNT * sizeof(REAL) : 16) Run {
    REAL at[COUNT];
};
using Pack = Run<PACK>;

// A matrix in memory, row by row of `width` numbers.
struct Matrix {
    const REAL* numbers;
    int rows, width;

    __device__ const REAL* row(int i) const { return numbers + static_cast<int64>(i) * width; }
    __device__ REAL number(REAL x, int) const { return x; }
};

// Those rows of the features that a batch has, as the network takes them: (features - mean) * scale, if it has a mean.
struct BatchOf {
    const REAL* numbers;
    int rows, width;
    const int64* order;
    const REAL* mean;
    REAL scale;

    __device__ BatchOf(const REAL* features, const int64* orders, const Network& own, int m, int width)
        : numbers(features), rows(m), width(width), order(own.rows(orders, m)), mean(own.mean),
          scale(static_cast<REAL>(own.scale)) {}

    __device__ const REAL* row(int i) const { return numbers + order[i] * width; }
    __device__ REAL number(REAL x, int column) const { return mean ? (x - mean[column]) * scale : x; }
};

// One side of a product: a's rows, or b's columns, of k terms each. BY_TERM: the terms of one of them are a row of the
// matrix; otherwise they are a column of it. Either way a pack has neighbours in a row of the matrix.
template <bool BY_TERM, class Numbers> struct Side {
    Numbers matrix;
    int first; // of the rows or columns in the tile
    bool aligned;

    __device__ Side(const Numbers& matrix, int first)
        : matrix(matrix), first(first),
          aligned(matrix.width % PACK == 0 && reinterpret_cast<size_t>(matrix.numbers) % 16 == 0) {}

    // The lane's pack of that number: its place in the tile and in the chunk.
    __device__ static int i_of(int pack) { return BY_TERM ? pack / (DEPTH / PACK) : pack % (TILE / PACK) * PACK; }
    __device__ static int term_of(int pack) { return BY_TERM ? pack % (DEPTH / PACK) * PACK : pack / (TILE / PACK); }

    // That pack of the chunk that starts at that term; zeros outside the matrix and from the term `end` on.
    __device__ Pack read(int pack, int term, int end) const {
        const int i = first + i_of(pack), k = term + term_of(pack);
        const int row = BY_TERM ? i : k, column = BY_TERM ? k : i;
        Pack found = {};
        if (k >= end || row >= matrix.rows) return found;
        const REAL* source = matrix.row(row) + column;
        const int left = matrix.width - column;
        if (aligned && left > 0) found = *reinterpret_cast<const Pack*>(source);
#pragma unroll
        for (int e = 0; e < PACK; ++e)
            if (e < left) found.at[e] = matrix.number(aligned ? found.at[e] : source[e], column + e);
        return found;
    }

    __device__ static void store(int pack, const Pack& found, REAL* chunk) {
        const int place = BY_TERM ? i_of(pack) * STRIDE + term_of(pack) : term_of(pack) * TILE + i_of(pack);
        *reinterpret_cast<Pack*>(chunk + place) = found;
    }

    // Which of the tile's rows (or columns) is the j-th of the COUNT that a group of lanes has: as many packs or runs in
    // a row as there are groups are in different banks.
    template <int COUNT, int GROUPS> __device__ static int own(int group, int j) {
        return BY_TERM ? group + GROUPS * j : group * COUNT + j;
    }

    // PACK terms of each of a group's COUNT rows (or columns).
    template <int COUNT, int GROUPS>
    __device__ static void take(const REAL* chunk, int group, int term, REAL (&numbers)[PACK][COUNT]) {
        if (BY_TERM) {
#pragma unroll
            for (int j = 0; j < COUNT; ++j) {
                const Pack terms = *reinterpret_cast<const Pack*>(chunk + own<COUNT, GROUPS>(group, j) * STRIDE + term);
#pragma unroll
                for (int e = 0; e < PACK; ++e) numbers[e][j] = terms.at[e];
            }
        } else {
#pragma unroll
            for (int e = 0; e < PACK; ++e) {
                const auto& run = *reinterpret_cast<const Run<COUNT>*>(chunk + (term + e) * TILE + group * COUNT);
#pragma unroll
                for (int j = 0; j < COUNT; ++j) numbers[e][j] = run.at[j];
            }
        }
    }
};

// The lane's part of a chunk, on its way from global to shared memory.
template <class A, class B> struct Coming {
    Pack of_a[PACKS], of_b[PACKS];

    __device__ void read(const A& a, const B& b, int lane, int term, int end) {
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            of_a[p] = a.read(lane + p * LANES, term, end);
            of_b[p] = b.read(lane + p * LANES, term, end);
        }
    }

    __device__ void store(int lane, REAL* chunk_of_a, REAL* chunk_of_b) const {
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            A::store(lane + p * LANES, of_a[p], chunk_of_a);
            B::store(lane + p * LANES, of_b[p], chunk_of_b);
        }
    }
};

// A lane's sums: of products, and with SUMMED of b's columns alone.
template <bool SUMMED> struct Sums {
    REAL products[LANE_ROWS][LANE_COLUMNS] = {}, columns[LANE_COLUMNS] = {};

    __device__ void add(const Sums& other) {
#pragma unroll
        for (int j = 0; j < LANE_COLUMNS; ++j) {
#pragma unroll
            for (int i = 0; i < LANE_ROWS; ++i) products[i][j] += other.products[i][j];
            if (SUMMED) columns[j] += other.columns[j];
        }
    }

    template <class A, class B> __device__ void store(REAL* to, int row_group, int column_group) const {
#pragma unroll
        for (int j = 0; j < LANE_COLUMNS; ++j) {
            const int column = B::template own<LANE_COLUMNS, COLUMN_GROUPS>(column_group, j);
#pragma unroll
            for (int i = 0; i < LANE_ROWS; ++i)
                to[A::template own<LANE_ROWS, ROW_GROUPS>(row_group, i) * TILE + column] = products[i][j];
            if (SUMMED && row_group == 0) to[COLUMN_SUMS + column] = columns[j];
        }
    }
};

// Leaves in a warp's part of shared memory its sums over so many shares of the k terms, WARPS in all, from the first one
// on: each share's sums are added to those of the shares before it, as `total` adds those of warps.
template <int SHARES, bool SUMMED, class A, class B>
__device__ void sum_shares(const A& a, const B& b, int k, int first, REAL* part) {
    const int lane = threadIdx.x % LANES, row_group = lane / COLUMN_GROUPS, column_group = lane % COLUMN_GROUPS;
    const int share = (k + WARPS * PACK - 1) / (WARPS * PACK) * PACK;
    REAL *chunk_of_a = part, *chunk_of_b = part + SIDE;
    Sums<SUMMED> all;
    Coming<A, B> coming;
    coming.read(a, b, lane, first * share, min((first + 1) * share, k));
#pragma unroll 1
    for (int s = first; s < first + SHARES; ++s) {
        const int end = min((s + 1) * share, k);
        Sums<SUMMED> sums;
        for (int term = s * share; term < end; term += DEPTH) {
            coming.store(lane, chunk_of_a, chunk_of_b);
            __syncwarp();
            const bool ends = term + DEPTH >= end; // then what comes is of the next share
            if (!ends || SHARES > 1)
                coming.read(a, b, lane, ends ? end : term + DEPTH, ends ? min(end + share, k) : end);
            const int terms = min(end - term, DEPTH);
#pragma unroll UNROLLED
            for (int t = 0; t < terms; t += PACK) {
                REAL left[PACK][LANE_ROWS], right[PACK][LANE_COLUMNS];
                A::template take<LANE_ROWS, ROW_GROUPS>(chunk_of_a, row_group, t, left);
                B::template take<LANE_COLUMNS, COLUMN_GROUPS>(chunk_of_b, column_group, t, right);
#pragma unroll
                for (int e = 0; e < PACK; ++e)
#pragma unroll
                    for (int j = 0; j < LANE_COLUMNS; ++j) {
#pragma unroll
                        for (int i = 0; i < LANE_ROWS; ++i) sums.products[i][j] += left[e][i] * right[e][j];
                        if (SUMMED) sums.columns[j] += right[e][j];
                    }
            }
            __syncwarp();
        }
        if (s == first)
            all = sums;
        else
            all.add(sums);
    }
    all.template store<A, B>(part, row_group, column_group);
}

// A tile by the whole block: leaves every warp's sums, over its share of the terms, in memory (WARPS, OF_WARP) for `total`.
template <bool SUMMED, class A, class B> __device__ void multiply(const A& a, const B& b, int k, REAL* memory) {
    const int warp = threadIdx.x / LANES;
    sum_shares<1, SUMMED>(a, b, k, warp, memory + warp * OF_WARP);
    __syncthreads();
}

// A tile by the calling warp alone: leaves the same sums as `total` would return, to the bit, in its part of memory.
template <bool SUMMED, class A, class B> __device__ void multiply_alone(const A& a, const B& b, int k, REAL* part) {
    sum_shares<WARPS, SUMMED>(a, b, k, 0, part);
    __syncwarp();
}

// The sum over all terms at that place of a warp's sums.
__device__ inline REAL total(const REAL* memory, int place) {
    REAL sum = memory[place];
#pragma unroll
    for (int warp = 1; warp < WARPS; ++warp) sum += memory[warp * OF_WARP + place];
    return sum;
}
