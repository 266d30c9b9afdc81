// One launch trains many networks with one hidden layer, or none, for one epoch, in float32: a block each, so that a GPU
// trains as many at once as it has multiprocessors. Beside train_epoch.cu, whose blocks share a network, a step takes
// longer, but no block waits for another, and what counts here is how many steps all of them take in a second.
//
// W1, W2 and the biases stay in shared memory for the whole epoch; the optimizer's moments in global memory. The batch does
// not fit beside W1: it passes through a ring of two chunks of inputs, the next one copied while this one is multiplied,
// twice a step, the second time from the L2 cache. In every step
//   1. Z1 = A W1, chunk by chunk; H = max(Z1 + b1, 0);
//   2. logits H W2 + b2; softmax, loss and dZ2 = (p - Y) / m, a group of lanes a row;
//   3. dZ1 = dZ2 W2' * (H > 0), and the gradient of W2;
//   4. chunk by chunk, the gradient of its rows of W1, A' dZ1, and their update in place.
// In 1 a warp has tiles of 16 rows x 32 units, whose sums its lanes keep over all inputs, in 4 tiles of 16 inputs x 32
// units, whose sums it keeps over all rows: a lane 4 x 4 of them, so that 16 multiply-adds take two reads of 16 bytes. With
// TENSOR_CORES 1, these compute both products, as exact as float32's: see tensor_cores.cuh.
//
// All sums have a fixed order, so that two runs agree to the bit. Without a hidden layer (HIDDEN 0) its units are the
// classes: H are the logits and dZ2 is dZ1.
//
// Constants set by the compiler's options: INPUTS, HIDDEN, CLASSES, BATCH of the network; OPTIMIZER, whose header defines
// its step; CENTRED, WEIGHTED, SMOOTHED as in train_epoch.cu.
#include "common.cuh"
#include "copy.cuh"
#include "task.cuh"
#include "tensor_cores.cuh"

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * LANES;
constexpr int TILE_ROWS = 16, TILE_UNITS = 32;

__host__ __device__ constexpr int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }
constexpr bool LINEAR = HIDDEN == 0;
constexpr int ALL_UNITS = LINEAR ? CLASSES : HIDDEN;
constexpr int ROWS = round_up(BATCH, TILE_ROWS);        // of a batch; those beyond it are zero
constexpr int UNITS = round_up(ALL_UNITS, TILE_UNITS);  // likewise
constexpr int CHUNK = 64;                               // inputs
constexpr int CHUNKS = (INPUTS + CHUNK - 1) / CHUNK;
constexpr int COLUMNS = CHUNKS * CHUNK;
// Four rows that a warp reads at once are in different banks, those of W1 on tensor cores.
constexpr int PAD = TENSOR_CORES ? 8 : 4;
constexpr int CHUNK_STRIDE = CHUNK + PAD, UNIT_STRIDE = UNITS + PAD, W1_STRIDE = UNITS + (TENSOR_CORES ? 4 : 0);
constexpr int COLUMNS_OF_W2 = LINEAR ? 0 : CLASSES;
constexpr int LOGIT_STRIDE = LINEAR ? UNIT_STRIDE : round_up(CLASSES, 4);
constexpr int ROW_TILES = ROWS / TILE_ROWS, UNIT_TILES = UNITS / TILE_UNITS;
constexpr int OWN_TILES = (ROW_TILES * UNIT_TILES + WARPS - 1) / WARPS; // of a warp, in step 1

// As many lanes, a power of two, share a row in step 2 as there are for every row.
__host__ __device__ constexpr int lanes_of_row() {
    int lanes = LANES;
    while (lanes > 1 && lanes * ROWS > THREADS) lanes /= 2;
    return lanes;
}
constexpr int ROW_LANES = lanes_of_row();
static_assert(ROWS * ROW_LANES <= THREADS, "the batch has more rows than the block has threads");

// A network in the optimizer's slots: the values in shared memory, the moments where the host has them.
struct Share {
    float* w1;      // (COLUMNS, W1_STRIDE)
    float* b1;      // (UNITS)
    float* w2;      // transposed (COLUMNS_OF_W2, UNIT_STRIDE)
    float* b2;      // (COLUMNS_OF_W2)
    float* ring;    // A (2, ROWS, CHUNK_STRIDE)
    float* hidden;  // H (ROWS, UNIT_STRIDE), or the logits and then dZ2 if LINEAR
    float* unit_deltas; // dZ1 (ROWS, UNIT_STRIDE): the same if LINEAR
    float* logits;  // (ROWS, LOGIT_STRIDE), then dZ2: the same if LINEAR
    float* mean;    // (COLUMNS), if CENTRED
    int64* rows;    // (2, ROWS): the row indices of this batch and of the next

    __device__ explicit Share(SharedMemory& memory) {
        w1 = memory.take<float>(COLUMNS * W1_STRIDE);
        b1 = memory.take<float>(UNITS);
        w2 = memory.take<float>(COLUMNS_OF_W2 * UNIT_STRIDE);
        b2 = memory.take<float>(COLUMNS_OF_W2);
        ring = memory.take<float>(2 * ROWS * CHUNK_STRIDE);
        hidden = memory.take<float>(ROWS * UNIT_STRIDE);
        unit_deltas = LINEAR ? hidden : memory.take<float>(ROWS * UNIT_STRIDE);
        logits = LINEAR ? hidden : memory.take<float>(ROWS * LOGIT_STRIDE);
        mean = memory.take<float>(CENTRED ? COLUMNS : 0);
        rows = memory.take<int64>(2 * ROWS);
    }
    __device__ float* chunk(int place) const { return ring + place % 2 * ROWS * CHUNK_STRIDE; }
    __device__ int64* rows_of(int step) const { return rows + step % 2 * ROWS; }
};

__device__ inline float4& four(float* address) { return *reinterpret_cast<float4*>(address); }
__device__ inline float4 four(const float* address) { return *reinterpret_cast<const float4*>(address); }

__device__ inline void add_product(float4& sum, float x, const float4& y) {
    sum.x += x * y.x;
    sum.y += x * y.y;
    sum.z += x * y.z;
    sum.w += x * y.w;
}

// Between global and shared memory: every value of the network, and where it is in both.

template <class Move> __device__ void each_value(const Task& task, const Share& share, Move move) {
    const Slot& values = task.slots[0];
    for (int i = threadIdx.x; i < COLUMNS * UNITS; i += THREADS) {
        const int input = i / UNITS, unit = i % UNITS;
        float& here = share.w1[input * W1_STRIDE + unit];
        move(values.w1 + static_cast<int64>(input) * ALL_UNITS + unit, here, input < INPUTS && unit < ALL_UNITS);
    }
    for (int i = threadIdx.x; i < UNITS; i += THREADS) move(values.b1 + i, share.b1[i], i < ALL_UNITS);
    for (int i = threadIdx.x; i < COLUMNS_OF_W2 * UNITS; i += THREADS) {
        const int c = i / UNITS, unit = i % UNITS;
        move(values.w2 + unit * CLASSES + c, share.w2[c * UNIT_STRIDE + unit], unit < ALL_UNITS);
    }
    for (int i = threadIdx.x; i < COLUMNS_OF_W2; i += THREADS) move(values.b2 + i, share.b2[i], true);
}

// One value's step; its moments are at index i of the given part of the slots.
__device__ inline void update(float& value, float* Slot::*part, int64 i, float gradient, const Task& task, const Update& by,
                              float kept) {
    float numbers[SLOTS] = {value};
#pragma unroll
    for (int slot = 1; slot < SLOTS; ++slot) numbers[slot] = (task.slots[slot].*part)[i];
    step(numbers, gradient, by.own, kept);
    value = numbers[0];
#pragma unroll
    for (int slot = 1; slot < SLOTS; ++slot) (task.slots[slot].*part)[i] = numbers[slot];
}

// The ring.

template <int WIDTH> struct Pieces {
    using Type = float;
};
template <> struct Pieces<4> {
    using Type = float4;
};
constexpr int WIDTH = INPUTS % 4 == 0 ? 4 : 1; // numbers per copy: four need addresses that are multiples of 16 bytes
constexpr int PIECES = CHUNK / WIDTH;          // of a row

// Start copying the chunk of a batch that begins at that input; zero where there are no rows or inputs.
__device__ void start_chunk(const float* features, const int64* rows, int count, int first_input, float* chunk) {
    using Piece = typename Pieces<WIDTH>::Type;
    for (int i = threadIdx.x; i < ROWS * PIECES; i += THREADS) {
        const int row = i / PIECES, column = i % PIECES * WIDTH;
        Piece* here = reinterpret_cast<Piece*>(&chunk[row * CHUNK_STRIDE + column]);
        if (row < count && first_input + column < INPUTS)
            start_copy(here, reinterpret_cast<const Piece*>(&features[rows[row] * INPUTS + first_input + column]));
        else
            *here = Piece{};
    }
}

// (features - mean) * scale, in place, of what the thread has copied itself.
__device__ void centre(float* chunk, const float* mean, float scale, int count, int first_input) {
    for (int i = threadIdx.x; i < count * PIECES; i += THREADS)
#pragma unroll
        for (int e = 0; e < WIDTH; ++e) {
            const int column = i % PIECES * WIDTH + e;
            float& x = chunk[i / PIECES * CHUNK_STRIDE + column];
            if (first_input + column < INPUTS) x = (x - mean[first_input + column]) * scale;
        }
}

// The large products, tile by tile: a lane has four neighbouring units of four lines, rows in 1 and inputs in 4.
struct Cell {
    int line, unit; // in the tile
};

#if TENSOR_CORES

// In add_tile's terms (tensor_cores.cuh), a tile of 32 units is four of 8, unit 4 g + n being number g of the n-th: so a
// lane reads four neighbours of a line at once, and has the sums of eight. Lines that are summed over may be numbered as we
// like, in both factors alike.
__device__ inline Cell cell_forward(int j) {
    const int lane = threadIdx.x % LANES;
    return {lane / 4 + j / 2 * 8, lane % 4 * 8 + j % 2 * 4};
}
__device__ inline Cell cell_backward(int j) {
    const int lane = threadIdx.x % LANES;
    return {lane / 4 * 2 + j / 2, lane % 4 * 8 + j % 2 * 4};
}

struct Tile {
    TileSum of[4];

    __device__ inline float4 cell(int j) const { return make_float4(of[0][j], of[1][j], of[2][j], of[3][j]); }

    // Adds the products of the lane's four numbers of one factor and its two lines of the other.
    __device__ inline void add(const float (&x)[4], const float4& first, const float4& second) {
        const float lines[2][4] = {{first.x, first.y, first.z, first.w}, {second.x, second.y, second.z, second.w}};
        Parts<4> a;
#pragma unroll
        for (int i = 0; i < 4; ++i) a.set(i, x[i]);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            Parts<2> b;
            b.set(0, lines[0][n]);
            b.set(1, lines[1][n]);
            of[n].add(a, b);
        }
    }
};

__device__ inline float2 two(const float* address) { return *reinterpret_cast<const float2*>(address); }

// 1, over a chunk's inputs; x and w: the tile's first row, and unit, in the chunk and in its part of W1.
__device__ inline void multiply_forward(Tile& tile, const float* x, const float* w) {
    const int g = threadIdx.x % LANES / 4, t = threadIdx.x % 4;
    x += g * CHUNK_STRIDE + 2 * t;
    w += 2 * t * W1_STRIDE + 4 * g;
#pragma unroll 2
    for (int k = 0; k < CHUNK; k += 8) {
        const float2 upper = two(x + k), lower = two(x + 8 * CHUNK_STRIDE + k);
        tile.add({upper.x, lower.x, upper.y, lower.y}, four(w + k * W1_STRIDE), four(w + (k + 1) * W1_STRIDE));
    }
}

// 4, over all rows; x and delta: the tile's first input, and unit, in the first row of the chunk and of dZ1.
__device__ inline void multiply_backward(Tile& tile, const float* x, const float* delta) {
    const int g = threadIdx.x % LANES / 4, t = threadIdx.x % 4;
    x += t * CHUNK_STRIDE + 2 * g;
    delta += t * UNIT_STRIDE + 4 * g;
#pragma unroll 2
    for (int row = 0; row < ROWS; row += 8) {
        const float2 upper = two(x + row * CHUNK_STRIDE), lower = two(x + (row + 4) * CHUNK_STRIDE);
        tile.add({upper.x, upper.y, lower.x, lower.y}, four(delta + row * UNIT_STRIDE), four(delta + (row + 4) * UNIT_STRIDE));
    }
}

#else

__device__ inline Cell cell_forward(int j) {
    const int lane = threadIdx.x % LANES;
    return {lane / 8 + 4 * j, lane % 8 * 4};
}
__device__ inline Cell cell_backward(int j) {
    const int lane = threadIdx.x % LANES;
    return {lane / 8 * 4 + j, lane % 8 * 4};
}

struct Tile {
    float4 of[4] = {};

    __device__ inline float4 cell(int j) const { return of[j]; }
};

__device__ inline void multiply_forward(Tile& tile, const float* x, const float* w) {
    const Cell first = cell_forward(0);
    x += first.line * CHUNK_STRIDE;
    w += first.unit;
#pragma unroll 4
    for (int k = 0; k < CHUNK; k += 4) {
        float4 inputs[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) inputs[j] = four(x + 4 * j * CHUNK_STRIDE + k);
        const float4 of_k[4] = {four(w + k * W1_STRIDE), four(w + (k + 1) * W1_STRIDE), four(w + (k + 2) * W1_STRIDE),
                                four(w + (k + 3) * W1_STRIDE)};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            add_product(tile.of[j], inputs[j].x, of_k[0]);
            add_product(tile.of[j], inputs[j].y, of_k[1]);
            add_product(tile.of[j], inputs[j].z, of_k[2]);
            add_product(tile.of[j], inputs[j].w, of_k[3]);
        }
    }
}

__device__ inline void multiply_backward(Tile& tile, const float* x, const float* delta) {
    const Cell first = cell_backward(0);
    x += first.line;
    delta += first.unit;
#pragma unroll 8
    for (int row = 0; row < ROWS; ++row) {
        const float4 inputs = four(x + row * CHUNK_STRIDE), of_row = four(delta + row * UNIT_STRIDE);
        add_product(tile.of[0], inputs.x, of_row);
        add_product(tile.of[1], inputs.y, of_row);
        add_product(tile.of[2], inputs.z, of_row);
        add_product(tile.of[3], inputs.w, of_row);
    }
}

#endif

// 1. A warp has every eighth tile.
struct Sums {
    Tile of[OWN_TILES];
};

__device__ void add_products(const float* chunk, const float* w1, Sums& sums) {
#pragma unroll
    for (int t = 0; t < OWN_TILES; ++t) {
        const int tile = threadIdx.x / LANES + t * WARPS;
        if (tile >= ROW_TILES * UNIT_TILES) return;
        multiply_forward(sums.of[t], chunk + tile / UNIT_TILES * TILE_ROWS * CHUNK_STRIDE, w1 + tile % UNIT_TILES * TILE_UNITS);
    }
}

// H = max(Z1 + b1, 0), NaN kept: every comparison with it is false; the logits if LINEAR.
__device__ void activate(const Sums& sums, const Share& share) {
#pragma unroll
    for (int t = 0; t < OWN_TILES; ++t) {
        const int tile = threadIdx.x / LANES + t * WARPS;
        if (tile >= ROW_TILES * UNIT_TILES) return;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const Cell cell = cell_forward(j);
            const int row = tile / UNIT_TILES * TILE_ROWS + cell.line, unit = tile % UNIT_TILES * TILE_UNITS + cell.unit;
            float4 z = sums.of[t].cell(j);
            add_product(z, 1, four(share.b1 + unit));
            four(share.hidden + row * UNIT_STRIDE + unit) =
                LINEAR ? z : make_float4(z.x < 0 ? 0 : z.x, z.y < 0 ? 0 : z.y, z.z < 0 ? 0 : z.z, z.w < 0 ? 0 : z.w);
        }
    }
}

// 2. Logits, one per thread.
__device__ void multiply_hidden(const Share& share) {
    for (int i = threadIdx.x; i < ROWS * CLASSES; i += THREADS) {
        const int row = i / CLASSES, c = i % CLASSES;
        const float *h = share.hidden + row * UNIT_STRIDE, *w = share.w2 + c * UNIT_STRIDE;
        float4 sum = {0, 0, 0, 0};
#pragma unroll 8
        for (int unit = 0; unit < UNITS; unit += 4) {
            const float4 x = four(h + unit), y = four(w + unit);
            sum.x += x.x * y.x;
            sum.y += x.y * y.y;
            sum.z += x.z * y.z;
            sum.w += x.w * y.w;
        }
        share.logits[row * LOGIT_STRIDE + c] = (sum.x + sum.y) + (sum.z + sum.w) + share.b2[c];
    }
}

// The larger of two, and NaN if either is.
__device__ inline float larger(float a, float b) { return a >= b || a != a ? a : b; }

template <class T, class F> __device__ inline T over_row(T value, F combine) {
    for (int bits = ROW_LANES / 2; bits; bits /= 2) value = combine(value, __shfl_xor_sync(ALL_LANES, value, bits));
    return value;
}

// dZ2 in the place of the logits, zero beyond the batch's rows; adds the rows' losses and hits to the threads'.
__device__ void take_deltas(const Share& share, const Task& task, int count, int label, float weight, double& loss, int& hits) {
    const int thread = threadIdx.x, row = thread / ROW_LANES, lane = thread % ROW_LANES;
    if (thread / LANES * LANES / ROW_LANES >= ROWS) return; // the whole warp
    const bool is_there = row < count;
    float* z = share.logits + min(row, ROWS - 1) * LOGIT_STRIDE;
    const float smoothing = static_cast<float>(task.smoothing);
    float largest = z[min(lane, CLASSES - 1)]; // lanes without a class of their own take the last
    for (int c = lane; c < CLASSES; c += ROW_LANES) largest = larger(largest, z[c]);
    largest = over_row(largest, larger);
    const float at_label = z[label] - largest;
    float sum = 0, all = 0;
    int best = CLASSES; // stays there in a row with NaN, which equals nothing
    for (int c = lane; c < CLASSES; c += ROW_LANES) {
        if (z[c] == largest) best = min(best, c);
        if (SMOOTHED) all += z[c] - largest;
        sum += expf(z[c] - largest);
    }
    const auto add = [](float a, float b) { return a + b; };
    sum = over_row(sum, add);
    if (SMOOTHED) all = over_row(all, add);
    best = over_row(best, [](int a, int b) { return min(a, b); });
    if (is_there && lane == 0) {
        float own = logf(sum) - at_label;
        if (SMOOTHED) own += smoothing * (at_label - all / CLASSES);
        loss += WEIGHTED ? own * weight : own;
        hits += best == label;
    }
    __syncwarp();
    for (int c = lane; c < CLASSES; c += ROW_LANES) {
        float target = c == label ? 1.0f : 0.0f;
        if (SMOOTHED) target += smoothing * (1.0f / CLASSES - target);
        float delta = is_there ? (expf(z[c] - largest) / sum - target) / count : 0.0f;
        if (WEIGHTED) delta *= weight;
        if (row < ROWS) z[c] = delta;
    }
}

// 3. The gradient of W2: a thread has a unit and four classes, and keeps them until all have read W2.
constexpr int SMALL = COLUMNS_OF_W2 > 0 ? UNITS * LOGIT_STRIDE / 4 : 0;
constexpr int OWN_SMALL = (SMALL + THREADS - 1) / THREADS;
struct SmallGradient {
    float4 of[OWN_SMALL > 0 ? OWN_SMALL : 1];
};

__device__ void take_small_gradient(const Share& share, SmallGradient& gradient) {
#pragma unroll
    for (int j = 0; j < OWN_SMALL; ++j) {
        const int i = threadIdx.x + j * THREADS, unit = i % UNITS, c = i / UNITS * 4;
        if (i >= SMALL) return;
        gradient.of[j] = {0, 0, 0, 0};
#pragma unroll 8
        for (int row = 0; row < ROWS; ++row)
            add_product(gradient.of[j], share.hidden[row * UNIT_STRIDE + unit], four(share.logits + row * LOGIT_STRIDE + c));
    }
}

__device__ void update_small(const Share& share, const SmallGradient& gradient, const Task& task, const Update& by) {
#pragma unroll
    for (int j = 0; j < OWN_SMALL; ++j) {
        const int i = threadIdx.x + j * THREADS, unit = i % UNITS, first = i / UNITS * 4;
        if (i >= SMALL || unit >= ALL_UNITS) continue;
        const float of[4] = {gradient.of[j].x, gradient.of[j].y, gradient.of[j].z, gradient.of[j].w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int c = first + e;
            if (c < CLASSES) update(share.w2[c * UNIT_STRIDE + unit], &Slot::w2, unit * CLASSES + c, of[e], task, by, by.kept);
        }
    }
}

// The sum of a column over the batch.
__device__ inline float column_sum(const float* column, int stride) {
    float sum = 0;
#pragma unroll 8
    for (int row = 0; row < ROWS; ++row) sum += column[row * stride];
    return sum;
}

__device__ void update_biases(const Share& share, const Task& task, const Update& by) {
    for (int i = threadIdx.x; i < ALL_UNITS + COLUMNS_OF_W2; i += THREADS) {
        const int c = i - ALL_UNITS;
        if (c < 0)
            update(share.b1[i], &Slot::b1, i, column_sum(share.unit_deltas + i, UNIT_STRIDE), task, by, 1);
        else
            update(share.b2[c], &Slot::b2, c, column_sum(share.logits + c, LOGIT_STRIDE), task, by, 1);
    }
}

// dZ1, a product with whether the unit is active, so that NaN stays; four units a thread.
__device__ void take_unit_deltas(const Share& share) {
    for (int i = threadIdx.x; i < ROWS * UNITS / 4; i += THREADS) {
        const int row = i / (UNITS / 4), unit = i % (UNITS / 4) * 4;
        float4 sum = {0, 0, 0, 0};
#pragma unroll
        for (int c = 0; c < COLUMNS_OF_W2; ++c)
            add_product(sum, share.logits[row * LOGIT_STRIDE + c], four(share.w2 + c * UNIT_STRIDE + unit));
        const float4 h = four(share.hidden + row * UNIT_STRIDE + unit);
        four(share.unit_deltas + row * UNIT_STRIDE + unit) =
            make_float4(sum.x * (h.x > 0 ? 1.0f : 0.0f), sum.y * (h.y > 0 ? 1.0f : 0.0f), sum.z * (h.z > 0 ? 1.0f : 0.0f),
                        sum.w * (h.w > 0 ? 1.0f : 0.0f));
    }
}

// 4. Each tile's gradient, and its weights' step.
__device__ void update_w1(const Share& share, const float* chunk, int first_input, const Task& task, const Update& by) {
    for (int tile = threadIdx.x / LANES; tile < CHUNK / TILE_ROWS * UNIT_TILES; tile += WARPS) {
        const int first_column = tile / UNIT_TILES * TILE_ROWS, first_unit = tile % UNIT_TILES * TILE_UNITS;
        Tile gradient = {};
        multiply_backward(gradient, chunk + first_column, share.unit_deltas + first_unit);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const Cell cell = cell_backward(j);
            const int input = first_input + first_column + cell.line, unit = first_unit + cell.unit;
            if (input >= INPUTS) break;
            float4& w = four(share.w1 + input * W1_STRIDE + unit);
            float values[4] = {w.x, w.y, w.z, w.w};
            const float4 sum = gradient.cell(j);
            const float of[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
            for (int e = 0; e < 4; ++e)
                if (unit + e < ALL_UNITS)
                    update(values[e], &Slot::w1, static_cast<int64>(input) * ALL_UNITS + unit + e, of[e], task, by, by.kept);
            w = make_float4(values[0], values[1], values[2], values[3]);
        }
    }
}

// The epoch. Chunks pass in one long row: those of a step's products forward, those of its products backward, the next
// step's. One barrier a chunk: it has arrived, and the chunk before it, whose memory the next one takes, is done with.
__device__ void train(const float* features, const int64* labels, const Task& task, const Share& share, double& loss, int& hits) {
    const int steps = static_cast<int>((task.rows + BATCH - 1) / BATCH), thread = threadIdx.x;
    const float scale = static_cast<float>(task.scale);
    const auto start = [&](int place) { // the chunk at that place in the row
        const int step = place / (2 * CHUNKS);
        if (step < steps)
            start_chunk(features, share.rows_of(step), rows_in(task, step), place % CHUNKS * CHUNK, share.chunk(place));
    };
    const auto next = [&](int place, int count) {
        float* chunk = share.chunk(place);
        finish_copies();
        if (CENTRED) centre(chunk, share.mean, scale, count, place % CHUNKS * CHUNK);
        __syncthreads();
        start(place + 1);
        return chunk;
    };
    if (thread < ROWS) share.rows[thread] = row_of(task, 0, thread);
    __syncthreads();
    start(0);
    for (int step = 0, place = 0; step < steps; ++step) {
        const int count = rows_in(task, step), row = thread / ROW_LANES;
        // read early, needed late
        const Update by = update_of(task, step);
        const int64 of_next = thread < ROWS ? row_of(task, step + 1, thread) : 0;
        const int64 own = row < count ? share.rows_of(step)[row] : 0;
        const int label = row < count ? static_cast<int>(labels[own]) : 0;
        const float weight = WEIGHTED && row < count ? task.weights[own] : 0;

        Sums sums = {};
        for (int c = 0; c < CHUNKS; ++c, ++place) add_products(next(place, count), share.w1 + c * CHUNK * W1_STRIDE, sums);
        activate(sums, share);
        if (thread < ROWS) share.rows_of(step + 1)[thread] = of_next;
        __syncthreads();
        SmallGradient gradient;
        if (!LINEAR) {
            multiply_hidden(share);
            __syncthreads();
        }
        take_deltas(share, task, count, label, weight, loss, hits);
        __syncthreads();
        if (!LINEAR) {
            take_small_gradient(share, gradient);
            take_unit_deltas(share);
            __syncthreads();
            update_small(share, gradient, task, by);
        }
        update_biases(share, task, by);
        for (int c = 0; c < CHUNKS; ++c, ++place)
            update_w1(share, next(place, count), c * CHUNK, task, by);
    }
    __syncthreads();
}

// tasks: one `Task` per block. losses double (blocks, WARPS) and hits int64 (blocks, WARPS): each warp's totals, for the
// host to add up. inboxes and flags are for kernels whose blocks share a network.
extern "C" __global__ void __launch_bounds__(256, 1)
    train_head(const float* features, const int64* labels, const uint8* tasks, double* losses, int64* hits, float*, unsigned*) {
    SharedMemory memory;
    const Share share(memory);
    const Task& task = reinterpret_cast<const Task*>(tasks)[blockIdx.x];
    each_value(task, share, [](const float* there, float& here, bool is_there) { here = is_there ? *there : 0; });
    if (CENTRED)
        for (int i = threadIdx.x; i < INPUTS; i += THREADS) share.mean[i] = task.mean[i];
    __syncthreads();
    double loss = 0;
    int hit = 0;
    train(features, labels, task, share, loss, hit);
    each_value(task, share, [](float* there, float& here, bool is_there) {
        if (is_there) *there = here;
    });
    loss = over_lanes(loss, [](double a, double b) { return a + b; });
    hit = over_lanes(hit, [](int a, int b) { return a + b; });
    if (threadIdx.x % LANES == 0) {
        losses[blockIdx.x * WARPS + threadIdx.x / LANES] = loss;
        hits[blockIdx.x * WARPS + threadIdx.x / LANES] = hit;
    }
}
