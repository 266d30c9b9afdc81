// As train_epoch.cu, for one hidden layer in a cluster, with specialised warps and fewer waits on the way from one product
// to the next. Until a GPU has measured it, this is a candidate only: see layout.py.
//
// A ninth warp does nothing but copy batches; mailboxes tell the others when one is there, and the ninth warp when its
// place is free again. Each of the eight that compute has
//   in the two products with W1, 1 and 6, a part of the block's inputs, as in train_epoch.cu;
//   in all between them, 2 to 5, a part of the batch's rows, of which it needs no other warp's results.
// So two barriers a step are enough, where the warps' parts change: after 1, and before 6.
//
// Logits, deltas and W2 are padded to a multiple of four classes, so that they are read and sent four at a time. What a
// step reads from global memory was read one step ahead. The owner of a row sends its deltas before it computes the loss.
// Of the gradients of W2, b1 and b2, each warp sums up its own rows before the second barrier, and the sums are added and
// the numbers updated after it: nobody waits for them, because they are needed only after the next step's first barrier.
//
// With TENSOR_CORES 1, both products with W1 are computed by them, as exact as float32's: see tensor_cores.cuh.
//
// All sums have a fixed order, so that two runs agree to the bit.
constexpr bool WIDE = true;
#include "epoch.cuh"
#include "tensor_cores.cuh"

static_assert(CLUSTER && !LINEAR && PASSES == 1, "for one hidden layer, in a cluster, in one pass");

constexpr int QUADS = SENT_CLASSES / 4;

constexpr int WARP_ROWS = BATCH_ROWS / WARPS;
constexpr int ROW_LANES = 4;                             // that have one row, each an equal part of its units
constexpr int LANE_UNITS = UNITS / ROW_LANES;
constexpr int TURN_ROWS = LANES / ROW_LANES;             // of a warp, at once
constexpr int TURNS = (WARP_ROWS + TURN_ROWS - 1) / TURN_ROWS;

constexpr int ROW_WARPS = OWN_ROWS < WARPS ? WARPS / OWN_ROWS : 1; // that have one of the rows that the block owns
constexpr int ROWS_AT_ONCE = WARPS / ROW_WARPS;
constexpr int OWN_TURNS = (OWN_ROWS + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
constexpr int ROW_BLOCKS = (BLOCKS + ROW_WARPS - 1) / ROW_WARPS; // to which one of them sends the deltas

constexpr int REST = UNITS * SENT_CLASSES + UNITS + SENT_CLASSES; // numbers of W2, b1 and b2

// W1's gradient is computed in tiles of four inputs x four units. Where a warp has fewer than lanes, some lanes share a
// tile, and each of them has a part of the rows.
constexpr int TILES = UNITS / 4 * (WARP_COLUMNS / 4);
constexpr int TILE_LANES = 4 * TILES <= LANES ? 4 : 2 * TILES <= LANES ? 2 : 1;
constexpr int TILES_AT_ONCE = LANES / TILE_LANES;

// The block's share of the network and of a step's results, in shared memory.
struct Share {
    float* w1[SLOTS];      // transposed (UNITS, STRIDE)
    float* rest[SLOTS];    // W2 (UNITS, SENT_CLASSES), b1 (UNITS) and b2 (SENT_CLASSES), one behind the other
    float* w2[SLOTS];
    float* b1[SLOTS];
    float* b2[SLOTS];
    float* sums;           // (WARPS, BATCH_ROWS, UNITS), unless SUMS_IN_BATCH
    float* rest_sums;      // (WARPS, REST)
    float* hidden;         // H (BATCH_ROWS, UNITS)
    float* hidden_deltas;  // dZ1 (BATCH_ROWS, UNITS)
    float* mean;           // (COLUMNS)

    __device__ explicit Share(SharedMemory& memory) {
#pragma unroll
        for (int slot = 0; slot < SLOTS; ++slot) {
            w1[slot] = memory.take<float>(UNITS * STRIDE);
            rest[slot] = memory.take<float>(REST);
            w2[slot] = rest[slot];
            b1[slot] = w2[slot] + UNITS * SENT_CLASSES;
            b2[slot] = b1[slot] + UNITS;
        }
        sums = memory.take<float>(SUMS_IN_BATCH ? 0 : WARPS * BATCH_ROWS * UNITS);
        rest_sums = memory.take<float>(WARPS * REST);
        hidden = memory.take<float>(BATCH_ROWS * UNITS);
        hidden_deltas = memory.take<float>(BATCH_ROWS * UNITS);
        mean = memory.take<float>(COLUMNS);
    }
};

// The batches in shared memory. Step s has place s % BUFFERS, as its user number s / BUFFERS. Copies wait for the place of
// every batch but the first ones, for which there is room from the start.
class Batches {
  public:
    // The exchange's constructor, which meets the whole cluster, must follow.
    __device__ explicit Batches(SharedMemory& memory) {
        numbers = memory.take<float>(BUFFERS * BATCH_ROWS * STRIDE);
        filled = memory.take<Mailbox>(BUFFERS);
        emptied = memory.take<Mailbox>(BUFFERS);
        if (threadIdx.x >= BUFFERS) return;
        make_mailbox(&filled[threadIdx.x], LANES);
        make_mailbox(&emptied[threadIdx.x], WARPS);
    }

    __device__ float* at(int step) const { return numbers + step % BUFFERS * BATCH_ROWS * STRIDE; }

    // By the warp that copies, before it fills the place.
    __device__ void wait_until_empty(int step) {
        if (step >= FIRST) wait(&emptied[step % BUFFERS], (step - FIRST) / BUFFERS % 2);
    }

    // By every lane of it, once its copies have started.
    __device__ void fill(int step) { arrive_with_copies(&filled[step % BUFFERS]); }

    // By the others.
    __device__ float* wait_until_full(int step) {
        wait(&filled[step % BUFFERS], step / BUFFERS % 2);
        return at(step);
    }

    // By every warp of them, once it is done with what was in that step's place.
    __device__ void empty(int step, const Place& me) {
        __syncwarp();
        if (me.lane == 0) arrive(&emptied[step % BUFFERS]);
    }

  private:
    static constexpr int FIRST = SUMS_IN_BATCH ? 1 : BUFFERS;
    float* numbers; // A (BUFFERS, BATCH_ROWS, STRIDE)
    Mailbox *filled, *emptied;
};

#define sync_computing() sync_some(1, THREADS)

// Start copying the block's columns of a batch, one row after the other, zero where there are no rows or inputs.
__device__ void start_batch(const float* features, const Task& task, int step, float* batch, const Place& me) {
    constexpr int WIDTH = INPUTS % 4 == 0 ? 4 : 1; // numbers per copy: four need addresses that are multiples of 16 bytes
    using Piece = typename Pieces<WIDTH>::Type;
    const int count = rows_in(task, step);
    for (int first = 0; first < BATCH_ROWS; first += LANES) {
        const int64 own = row_of(task, step, first + me.lane); // each lane reads one row's number
        for (int i = 0; i < min(LANES, BATCH_ROWS - first); ++i) {
            const float* from = features + __shfl_sync(ALL_LANES, own, i) * INPUTS + me.first_input;
            float* to = batch + (first + i) * STRIDE;
            for (int column = WIDTH * me.lane; column < COLUMNS; column += WIDTH * LANES)
                start_copy_or_zero(reinterpret_cast<Piece*>(to + column), reinterpret_cast<const Piece*>(from + column),
                                   first + i < count && me.first_input + column < INPUTS);
        }
    }
}

// 1, some rows after the others: as many as leave room in registers.
__host__ __device__ constexpr int rows_of_lane() {
    int rows = BATCH_ROWS / 16;
    while (rows % 2 == 0 && rows * UNITS / 2 > 32) rows /= 2;
    return rows;
}

__device__ void multiply_some_forward(const float* batch, const float* w1, float* sums, const Place& me) {
    constexpr int ROWS = rows_of_lane();
#pragma unroll 1
    for (int row = 0; row < BATCH_ROWS; row += 16 * ROWS)
        multiply_forward<ROWS>(batch, w1, sums + row * SUM_STRIDE, row, me);
}

// The lane's part of the rows of its warp: of the row of each turn, if it is there, the units from `unit` on.
struct Cells {
    int first_row, unit;

    __device__ explicit Cells(const Place& me)
        : first_row(me.warp * WARP_ROWS + me.lane / ROW_LANES), unit(me.lane % ROW_LANES * LANE_UNITS), end((me.warp + 1) * WARP_ROWS) {}

    __device__ int row(int turn) const { return first_row + turn * TURN_ROWS; }
    __device__ bool has(int turn) const { return row(turn) < end; }
    __device__ int place(int turn) const { return row(turn) * UNITS + unit; }

  private:
    int end;
};

// 2: add up the warps' sums and, if the inputs are split, send them to the blocks with the same units.
__device__ void add_up_warps(const float* sums, Exchange& exchange, float (&z)[TURNS][LANE_UNITS], int step,
                             const Cells& cells, const Place& me) {
    using Piece = Widest<LANE_UNITS>;
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        if (!cells.has(turn)) continue;
        const float* own = sums + cells.row(turn) * SUM_STRIDE + cells.unit;
        load(z[turn], own);
#pragma unroll
        for (int warp = 1; warp < WARPS; ++warp) {
            float more[LANE_UNITS];
            load(more, own + warp * WARP_SUMS);
#pragma unroll
            for (int j = 0; j < LANE_UNITS; ++j) z[turn][j] += more[j];
        }
        for (int q = 0; q < SPLIT_K; ++q)
            if (q != me.part_k)
#pragma unroll
                for (int j = 0; j < LANE_UNITS; j += WIDEST<LANE_UNITS>)
                    exchange.send_to<SUMS>(q * SPLIT_N + me.part_n, place_of_sums(me.part_k, q) + cells.place(turn) + j,
                                           *reinterpret_cast<const Piece*>(&z[turn][j]), step);
    }
}

// H = max(Z1, 0), NaN kept, in registers and for the warp. The other blocks' sums are added in order.
__device__ void activate(Share& share, Exchange& exchange, float (&h)[TURNS][LANE_UNITS], int step, const Cells& cells,
                         const Place& me) {
    float bias[LANE_UNITS];
    load(bias, share.b1[0] + cells.unit);
    if (SPLIT_K > 1) exchange.receive<SUMS>(step);
    const float* coming = exchange.local<SUMS>(nullptr, step);
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        if (!cells.has(turn)) continue;
        float z[LANE_UNITS] = {};
        for (int q = 0; q < SPLIT_K; ++q) {
            float part[LANE_UNITS];
            if (q != me.part_k) load(part, coming + place_of_sums(q, me.part_k) + cells.place(turn));
#pragma unroll
            for (int j = 0; j < LANE_UNITS; ++j) z[j] += q == me.part_k ? h[turn][j] : part[j];
        }
#pragma unroll
        for (int j = 0; j < LANE_UNITS; ++j) {
            z[j] += bias[j];
            h[turn][j] = z[j] < 0 ? 0 : z[j];
        }
        store(h[turn], share.hidden + cells.place(turn));
    }
    __syncwarp();
}

// 3: send each row's products over the block's units to the block that owns the row. A lane has every fourth quad of classes.
__device__ void send_logits(const Share& share, Exchange& exchange, int step, const Cells& cells, const Place& me) {
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        const int row = cells.row(turn) - me.part_k * PART_ROWS;
        if (!cells.has(turn) || row < 0 || row >= PART_ROWS) continue;
        const float* h = share.hidden + cells.row(turn) * UNITS;
        for (int quad = me.lane % ROW_LANES; quad < QUADS; quad += ROW_LANES) {
            const float* w = share.w2[0] + 4 * quad;
            float4 sum = {0, 0, 0, 0};
#pragma unroll
            for (int unit = 0; unit < UNITS; unit += 4) {
                const float4 x = four(h + unit);
                add_product(sum, four(w + unit * SENT_CLASSES), x.x);
                add_product(sum, four(w + (unit + 1) * SENT_CLASSES), x.y);
                add_product(sum, four(w + (unit + 2) * SENT_CLASSES), x.z);
                add_product(sum, four(w + (unit + 3) * SENT_CLASSES), x.w);
            }
            const int place = (me.part_n * OWN_ROWS + row % OWN_ROWS) * SENT_CLASSES + 4 * quad;
            exchange.send_to<LOGITS>(me.part_k * SPLIT_N + row / OWN_ROWS, place, sum, step);
        }
    }
}

// A row that the block owns: what the loss needs to know of it.
struct OwnRow {
    int label;
    float weight;
};

// The row in the block's own that the warp has in that turn; OWN_ROWS or more: none.
__device__ inline int own_row(int turn, const Place& me) { return me.warp / ROW_WARPS + turn * ROWS_AT_ONCE; }

__device__ inline int64 index_of(const Task& task, int step, int turn, const Place& me) {
    return row_of(task, step, me.first_row + own_row(turn, me));
}

__device__ inline OwnRow own_row_at(const Task& task, const int64* labels, int64 index) {
    return {static_cast<int>(labels[index]), WEIGHTED ? task.weights[index] : 0};
}

// A whole number that is the larger, the larger the number is; NaN's is the largest.
__device__ inline unsigned ordered(float x) {
    const unsigned bits = __float_as_uint(x);
    return x != x ? ~0u : bits >> 31 ? ~bits : bits | 1u << 31;
}

__device__ inline float number_of(unsigned ordered) {
    return __uint_as_float(ordered >> 31 ? ordered & ~(1u << 31) : ~ordered);
}

// The sum over the lanes that have classes; zero or more lanes of the others have a zero.
__device__ inline float sum_of_lanes(float value) {
    constexpr int FIRST = CLASSES > 16 ? 16 : CLASSES > 8 ? 8 : CLASSES > 4 ? 4 : 2;
#pragma unroll
    for (int bits = FIRST; bits; bits /= 2) value += __shfl_xor_sync(ALL_LANES, value, bits);
    return value;
}

// 4, for one row: a lane has every 32nd class. Each of ROW_WARPS warps sends the deltas to a part of the blocks; the first
// adds the row's loss and hit to the lanes' totals.
__device__ void send_deltas(const Share& share, Exchange& exchange, int step, int row, const OwnRow& own, int count,
                            float per_row, float smoothing, double& loss, int& hits, const Place& me) {
    constexpr int EACH = (SENT_CLASSES + LANES - 1) / LANES;
    float z[EACH], e[EACH];
    unsigned most = 0;
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int c = min(me.lane + LANES * j, CLASSES - 1); // lanes without a class of their own take the last
        z[j] = exchange.read<LOGITS>(row * SENT_CLASSES + c, step);
#pragma unroll
        for (int part = 1; part < SPLIT_N; ++part)
            z[j] += exchange.read<LOGITS>((part * OWN_ROWS + row) * SENT_CLASSES + c, step);
        z[j] += share.b2[0][c];
        most = max(most, ordered(z[j]));
    }
    const float largest = number_of(__reduce_max_sync(ALL_LANES, most));
    float sum = 0;
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        e[j] = me.lane + LANES * j < CLASSES ? expf(z[j] - largest) : 0.0f;
        sum += e[j];
    }
    sum = sum_of_lanes(sum);
    const int place = me.first_row + row;
    const bool is_there = place < count;
    constexpr int QUADS_AT_ONCE = QUADS < LANES / 4 ? QUADS : LANES / 4, BLOCKS_AT_ONCE = LANES / QUADS_AT_ONCE;
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int c = me.lane + LANES * j;
        float target = c == own.label ? 1.0f : 0.0f;
        if (SMOOTHED) target += smoothing * (1.0f / CLASSES - target);
        float delta = is_there && c < CLASSES ? (__fdividef(e[j], sum) - target) * per_row : 0.0f;
        if (WEIGHTED) delta *= own.weight;
        const int quad = me.lane % QUADS_AT_ONCE;
        float4 out;
        out.x = __shfl_sync(ALL_LANES, delta, 4 * quad);
        out.y = __shfl_sync(ALL_LANES, delta, 4 * quad + 1);
        out.z = __shfl_sync(ALL_LANES, delta, 4 * quad + 2);
        out.w = __shfl_sync(ALL_LANES, delta, 4 * quad + 3);
        if (me.lane >= QUADS_AT_ONCE * BLOCKS_AT_ONCE || LANES * j + 4 * quad >= SENT_CLASSES) continue;
        const int first = me.warp % ROW_WARPS * ROW_BLOCKS;
        for (int block = first + me.lane / QUADS_AT_ONCE; block < min(first + ROW_BLOCKS, BLOCKS); block += BLOCKS_AT_ONCE)
            exchange.send_to<DELTAS>(block, place * SENT_CLASSES + LANES * j + 4 * quad, out, step);
    }
    if (me.warp % ROW_WARPS || !is_there) return;
    float all = 0; // the logits, less the largest of them
    unsigned best = CLASSES; // the first class with the largest logit
#pragma unroll
    for (int j = EACH - 1; j >= 0; --j) {
        const int c = me.lane + LANES * j;
        if (c < CLASSES && z[j] == largest) best = c;
        if (SMOOTHED && c < CLASSES) all += z[j] - largest;
    }
    best = __reduce_min_sync(ALL_LANES, best);
    if (SMOOTHED) all = over_lanes(all, [](float a, float b) { return a + b; });
    if (me.lane == 0) hits += static_cast<int>(best) == own.label;
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        if (me.lane + LANES * j != own.label) continue;
        const float at_label = z[j] - largest;
        float row_loss = logf(sum) - at_label;
        if (SMOOTHED) row_loss += smoothing * (at_label - all / CLASSES);
        if (WEIGHTED) row_loss *= own.weight;
        loss += row_loss;
    }
}

// 5: dZ1 of the warp's rows, a product, so that NaN stays.
__device__ void take_hidden_deltas(Share& share, const float* deltas, const float (&h)[TURNS][LANE_UNITS],
                                   const Cells& cells) {
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
        if (!cells.has(turn)) continue;
        const float* delta = deltas + cells.row(turn) * SENT_CLASSES;
        const float* w2 = share.w2[0] + cells.unit * SENT_CLASSES;
        float sum[LANE_UNITS] = {};
#pragma unroll
        for (int c = 0; c < SENT_CLASSES; c += 4) {
            const float4 d = four(delta + c);
#pragma unroll
            for (int j = 0; j < LANE_UNITS; ++j) {
                const float4 w = four(w2 + j * SENT_CLASSES + c);
                sum[j] += d.x * w.x;
                sum[j] += d.y * w.y;
                sum[j] += d.z * w.z;
                sum[j] += d.w * w.w;
            }
        }
#pragma unroll
        for (int j = 0; j < LANE_UNITS; ++j) sum[j] *= h[turn][j] > 0 ? 1.0f : 0.0f;
        store(sum, share.hidden_deltas + cells.place(turn));
    }
    __syncwarp();
}

// 5: the gradients of W2, b1 and b2 over the warp's rows, four numbers a lane.
__device__ void sum_rest(Share& share, const float* deltas, const Place& me) {
    constexpr int OF_W2 = UNITS * QUADS, OF_B1 = UNITS / 4;
    for (int quad = me.lane; quad < REST / 4; quad += LANES) {
        const bool is_w2 = quad < OF_W2, is_b1 = !is_w2 && quad < OF_W2 + OF_B1;
        const float* row = is_b1 ? share.hidden_deltas + 4 * (quad - OF_W2)
                                 : deltas + 4 * (is_w2 ? quad % QUADS : quad - OF_W2 - OF_B1);
        const int stride = is_b1 ? UNITS : SENT_CLASSES;
        const float* h = share.hidden + (is_w2 ? quad / QUADS : 0);
        float4 sum = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < WARP_ROWS; ++i) {
            const int place = me.warp * WARP_ROWS + i;
            add_product(sum, four(row + place * stride), is_w2 ? h[place * UNITS] : 1.0f);
        }
        four(share.rest_sums + me.warp * REST + 4 * quad) = sum;
    }
}

// 5: W2, b1 and b2, one number a thread; but not the padding, where a hidden unit's NaN would become W2's.
__device__ void update_rest(Share& share, const Update& by, const Place& me) {
    for (int i = me.thread; i < REST; i += THREADS) {
        const bool is_w2 = i < UNITS * SENT_CLASSES;
        if (is_w2 && i % SENT_CLASSES >= CLASSES) continue;
        float gradient = share.rest_sums[i];
#pragma unroll
        for (int warp = 1; warp < WARPS; ++warp) gradient += share.rest_sums[warp * REST + i];
        update(share.rest, i, gradient, by, is_w2 ? by.kept : 1);
    }
}

__device__ inline float4 chosen(bool first, float4 a, float4 b) {
    return make_float4(first ? a.x : b.x, first ? a.y : b.y, first ? a.z : b.z, first ? a.w : b.w);
}

__device__ inline float4 from_lane(float4 value, int bits) {
    return make_float4(__shfl_xor_sync(ALL_LANES, value.x, bits), __shfl_xor_sync(ALL_LANES, value.y, bits),
                       __shfl_xor_sync(ALL_LANES, value.z, bits), __shfl_xor_sync(ALL_LANES, value.w, bits));
}

// Adds up the gradients of the lanes that share a tile; each keeps an equal part of its units, the first ones of `tile`.
// Returns the number of the first that it keeps.
__device__ inline int share_out(float4 (&tile)[4], const Place& me) {
    int kept = 4, first = 0;
#pragma unroll
    for (int bit = LANES / 2; bit >= TILES_AT_ONCE; bit /= 2) {
        kept /= 2;
        const bool upper = me.lane & bit;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            if (j >= kept) continue;
            const float4 other = from_lane(chosen(upper, tile[j], tile[j + kept]), bit);
            tile[j] = chosen(upper, tile[j + kept], tile[j]);
            add_product(tile[j], other, 1);
        }
        if (upper) first += kept;
    }
    return first;
}

// N neighbouring numbers' step.
template <int N>
__device__ inline void update_some(float* const* slots, int i, const float (&gradient)[N], const Update& by, float kept) {
    float numbers[SLOTS][N];
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) load(numbers[slot], slots[slot] + i);
#pragma unroll
    for (int n = 0; n < N; ++n) {
        float number[SLOTS];
#pragma unroll
        for (int slot = 0; slot < SLOTS; ++slot) number[slot] = numbers[slot][n];
        step(number, gradient[n], by.own, kept);
#pragma unroll
        for (int slot = 0; slot < SLOTS; ++slot) numbers[slot][n] = number[slot];
    }
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) store(numbers[slot], slots[slot] + i);
}

// 6: the rows of W1 of the warp's inputs.
__device__ void update_w1(Share& share, const float* batch, const Update& by, const Place& me) {
    const int part = me.lane / TILES_AT_ONCE; // of the rows
    for (int first = me.lane % TILES_AT_ONCE; first < round_up(TILES, TILES_AT_ONCE); first += TILES_AT_ONCE) {
        const int tile = min(first, TILES - 1); // so that all lanes take part in the shuffles
        const int unit = tile % (UNITS / 4) * 4, column = me.first_column + tile / (UNITS / 4) * 4;
        float4 gradient[4] = {};
#pragma unroll 4
        for (int row = part; row < BATCH_ROWS; row += TILE_LANES) {
            const float4 x = four(batch + row * STRIDE + column), delta = four(share.hidden_deltas + row * UNITS + unit);
            add_product(gradient[0], x, delta.x);
            add_product(gradient[1], x, delta.y);
            add_product(gradient[2], x, delta.z);
            add_product(gradient[3], x, delta.w);
        }
        const int kept = share_out(gradient, me);
        if (first >= TILES) continue;
#pragma unroll
        for (int j = 0; j < 4 / TILE_LANES; ++j) {
            const float numbers[4] = {gradient[j].x, gradient[j].y, gradient[j].z, gradient[j].w};
            update_some(share.w1, (unit + kept + j) * STRIDE + column, numbers, by, by.kept);
        }
    }
    __syncwarp();
}

#if TENSOR_CORES

static_assert(WARP_COLUMNS % 16 == 0 && UNITS % 8 == 0, "no whole tiles");

// 1, on tensor cores: tiles of 16 rows x 8 units, over 8 inputs at a time; as many at once as leave room in registers.
// Inputs may be numbered as we like, in both factors alike: so a lane reads four neighbours, which serve for two tiles. Rows
// are numbered so that eight lanes, which read at once, do so in different banks.
constexpr int ROW_TILES = BATCH_ROWS / 16, ACROSS = UNITS % 16 == 0 ? 2 : 1;
__host__ __device__ constexpr int tiles_down() {
    int tiles = ROW_TILES;
    while (tiles % 2 == 0 && tiles * ACROSS > 4) tiles /= 2;
    return tiles;
}

__device__ void multiply_forward_in_tiles(const float* batch, const float* w1, float* sums, const Place& me) {
    constexpr int DOWN = tiles_down();
    const int g = me.lane / 4, t = me.lane % 4;
    const int row_of_tile = g % 2 * 2 + g / 2 % 2 + g / 4 * 4;
#pragma unroll 1
    for (int cell = 0; cell < ROW_TILES / DOWN * (UNITS / 8 / ACROSS); ++cell) {
        const int row = cell % (ROW_TILES / DOWN) * 16 * DOWN + row_of_tile, unit = cell / (ROW_TILES / DOWN) * 8 * ACROSS;
        const float* x_start = batch + row * STRIDE + me.first_column + 4 * t;
        const float* w_start = w1 + (unit + g) * STRIDE + me.first_column + 4 * t;
        TileSum sum[DOWN][ACROSS];
#pragma unroll 1
        for (int k = 0; k < WARP_COLUMNS; k += 16) {
            Parts<2> w[ACROSS][2];
#pragma unroll
            for (int n = 0; n < ACROSS; ++n) {
                float numbers[4];
                load(numbers, w_start + 8 * n * STRIDE + k);
#pragma unroll
                for (int j = 0; j < 4; ++j) w[n][j / 2].set(j % 2, numbers[j]);
            }
#pragma unroll
            for (int i = 0; i < DOWN; ++i) {
                Parts<4> x[2];
                float upper[4], lower[4];
                load(upper, x_start + 16 * i * STRIDE + k);
                load(lower, x_start + (16 * i + 8) * STRIDE + k);
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    x[j / 2].set(j % 2 * 2, upper[j]);
                    x[j / 2].set(j % 2 * 2 + 1, lower[j]);
                }
#pragma unroll
                for (int n = 0; n < ACROSS; ++n)
#pragma unroll
                    for (int half = 0; half < 2; ++half) sum[i][n].add(x[half], w[n][half]);
            }
        }
        float* out = sums + me.warp * WARP_SUMS + row * SUM_STRIDE + unit + 2 * t;
#pragma unroll
        for (int i = 0; i < DOWN; ++i)
#pragma unroll
            for (int n = 0; n < ACROSS; ++n) {
                const float upper[2] = {sum[i][n][0], sum[i][n][1]}, lower[2] = {sum[i][n][2], sum[i][n][3]};
                store(upper, out + 16 * i * SUM_STRIDE + 8 * n);
                store(lower, out + (16 * i + 8) * SUM_STRIDE + 8 * n);
            }
    }
}

// 6, on tensor cores: tiles of 16 inputs x 8 units, over 8 rows at a time; two by two of them at once if there are as
// many. A lane's two inputs are neighbours.
__device__ void update_w1_in_tiles(Share& share, const float* batch, const Update& by, const Place& me) {
    constexpr int DOWN = WARP_COLUMNS % 32 == 0 ? 2 : 1;
    const int g = me.lane / 4, t = me.lane % 4;
    for (int first = 0; first < WARP_COLUMNS; first += 16 * DOWN)
        for (int unit = 0; unit < UNITS; unit += 8 * ACROSS) {
            const int column = me.first_column + first + 2 * g;
            TileSum gradient[DOWN][ACROSS];
#pragma unroll 4
            for (int row = t; row < BATCH_ROWS; row += 8) {
                Parts<2> deltas[ACROSS];
#pragma unroll
                for (int n = 0; n < ACROSS; ++n) {
                    deltas[n].set(0, share.hidden_deltas[row * UNITS + unit + 8 * n + g]);
                    deltas[n].set(1, share.hidden_deltas[(row + 4) * UNITS + unit + 8 * n + g]);
                }
#pragma unroll
                for (int i = 0; i < DOWN; ++i) {
                    float upper[2], lower[2];
                    load(upper, batch + row * STRIDE + column + 16 * i);
                    load(lower, batch + (row + 4) * STRIDE + column + 16 * i);
                    Parts<4> x;
                    x.set(0, upper[0]);
                    x.set(1, upper[1]);
                    x.set(2, lower[0]);
                    x.set(3, lower[1]);
#pragma unroll
                    for (int n = 0; n < ACROSS; ++n) gradient[i][n].add(x, deltas[n]);
                }
            }
#pragma unroll
            for (int i = 0; i < DOWN; ++i)
#pragma unroll
                for (int n = 0; n < ACROSS; ++n)
#pragma unroll
                    for (int j = 0; j < 2; ++j) {
                        const float numbers[2] = {gradient[i][n][j], gradient[i][n][2 + j]};
                        update_some(share.w1, (unit + 8 * n + 2 * t + j) * STRIDE + column + 16 * i, numbers, by, by.kept);
                    }
        }
    __syncwarp();
}

#endif

// The eight warps' epoch.
__device__ void compute(const int64* labels, const Task& task, Share& share, Batches& batches, Exchange& exchange,
                        int steps, double& loss, int& hits, const Place& me) {
    const Cells cells(me);
    Update by = update_of(task, 0);
    OwnRow own[OWN_TURNS];
    int64 next_index[OWN_TURNS];
    for (int turn = 0; turn < OWN_TURNS; ++turn) {
        own[turn] = own_row_at(task, labels, index_of(task, 0, turn, me));
        next_index[turn] = index_of(task, 1, turn, me);
    }
    for (int step = 0; step < steps; ++step) {
        const int count = rows_in(task, step);
        const float per_row = 1.0f / count;
        exchange.begin(step);
        float* batch = batches.wait_until_full(step);
        float* sums = SUMS_IN_BATCH ? batches.at(step + 1) : share.sums;
        if (CENTRED) centre(batch, share.mean, static_cast<float>(task.scale), count, me);
#if TENSOR_CORES
        multiply_forward_in_tiles(batch, share.w1[0], sums, me);
#else
        multiply_some_forward(batch, share.w1[0], sums, me);
#endif
        // for the next step
        const Update next_by = update_of(task, min(step + 1, steps - 1));
        OwnRow next_own[OWN_TURNS];
        for (int turn = 0; turn < OWN_TURNS; ++turn) {
            next_own[turn] = own_row_at(task, labels, next_index[turn]);
            next_index[turn] = index_of(task, step + 2, turn, me);
        }
        sync_computing();

        float h[TURNS][LANE_UNITS];
        add_up_warps(sums, exchange, h, step, cells, me);
        if (SUMS_IN_BATCH) batches.empty(step + 1, me);
        activate(share, exchange, h, step, cells, me);
        send_logits(share, exchange, step, cells, me);
        exchange.receive<LOGITS>(step);
        for (int turn = 0; turn < OWN_TURNS; ++turn)
            if (own_row(turn, me) < OWN_ROWS)
                send_deltas(share, exchange, step, own_row(turn, me), own[turn], count, per_row,
                            static_cast<float>(task.smoothing), loss, hits, me);
        exchange.receive<DELTAS>(step);
        const float* deltas = exchange.local<DELTAS>(nullptr, step);
        take_hidden_deltas(share, deltas, h, cells);
        sum_rest(share, deltas, me);
        sync_computing();

        update_rest(share, by, me);
#if TENSOR_CORES
        update_w1_in_tiles(share, batch, by, me);
#else
        update_w1(share, batch, by, me);
#endif
        if (!SUMS_IN_BATCH) batches.empty(step, me);
        by = next_by;
        for (int turn = 0; turn < OWN_TURNS; ++turn) own[turn] = next_own[turn];
    }
}

// The ninth warp's.
__device__ void copy_batches(const float* features, const Task& task, Batches& batches, int steps, const Place& me) {
    for (int step = 0; step < steps; ++step) {
        batches.wait_until_empty(step);
        start_batch(features, task, step, batches.at(step), me);
        batches.fill(step);
    }
}

// The arguments are those of train_epoch.cu.
extern "C" __global__ void TOGETHER __launch_bounds__(288, 1)
train_epoch(const float* features, const int64* labels, const uint8* tasks, double* losses, int64* hits, float* inboxes,
            unsigned* flags) {
    SharedMemory memory;
    Share share(memory);
    Batches batches(memory);
    const Place me;
    const Task& given = reinterpret_cast<const Task*>(tasks)[blockIdx.x / BLOCKS];
    const Task task = given; // in registers, but for the weights' addresses, which would take too many
    const int steps = static_cast<int>((task.rows + BATCH - 1) / BATCH);
    const bool computes = me.warp < WARPS;
    if (computes) {
        move_weights<true>(given, share, me);
        if (CENTRED)
            for (int i = me.thread; i < COLUMNS && me.first_input + i < INPUTS; i += THREADS)
                share.mean[i] = task.mean[me.first_input + i];
    }
    Exchange exchange(memory, inboxes, flags, me.rank); // meets all threads

    double loss = 0;
    int hit = 0;
    if (computes)
        compute(labels, task, share, batches, exchange, steps, loss, hit, me);
    else
        copy_batches(features, task, batches, steps, me);
    exchange.end();

    if (!computes) return;
    move_weights<false>(given, share, me);
    loss = over_lanes(loss, [](double a, double b) { return a + b; });
    if (me.lane == 0) {
        losses[blockIdx.x * WARPS + me.warp] = loss;
        hits[blockIdx.x * WARPS + me.warp] = hit;
    }
}
