// One launch is one epoch of mini-batch training of networks with one hidden layer, float32: BLOCKS blocks train one.
//
// A step is far too small for a GPU (8.6 MFLOP at 512-64-10, batch 64), and steps depend on one another: what counts is
// the time from one to the next. So the weights stay in shared memory for the whole epoch, split between the blocks:
// block (q, r) has part q of SPLIT_K of the inputs, and part r of SPLIT_N of the hidden units. In every step
//   1. the block multiplies its columns of the batch by its part of W1, each warp over inputs of its own;
//   2. it adds up the warps' sums, and, with SPLIT_K > 1, those of the blocks with the same units (message SUMS);
//      H = max(sum + b1, 0);
//   3. it multiplies its units by their rows of W2 and sends each row's partial logits to the row's owner (LOGITS);
//   4. an owner, a warp a row, adds them up to logits, takes softmax, loss and dZ2 = (p - Y) / m, and sends that to all
//      (DELTAS);
//   5. dZ1 = dZ2 W2' * (H > 0), and the gradients of W2, b1, b2;
//   6. each warp takes the gradient of its inputs' rows of W1, A' dZ1, and updates them in place.
// A warp's columns of the batch and of W1 are read by itself alone: so there is no barrier between 6 and the next 1, and
// the next batch is copied in while this one is computed.
//
// 256 threads: 8 warps share the inputs, and 64 rows x UNITS sums of a warp fit into its lanes' registers (4 rows x
// UNITS / 2 each), which makes three quarters of the instructions of the two loops that count multiply-adds.
//
// All sums are taken in a fixed order, so that two runs are the same to the bit.
//
// Constants set by the compiler's options: INPUTS, HIDDEN, CLASSES, BATCH of the network; SPLIT_K, SPLIT_N, CLUSTER (see
// exchange.cuh); PASSES, over the rows of a batch, that share the room for step 1's sums; BUFFERS for batches, 1 or 2;
// SLOTS, 1 for gradient descent and 3 for Adam; CENTRED, 1 to train on (features - mean) * factor.
#include "common.cuh"
#include "copy.cuh"

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * LANES;
constexpr int BLOCKS = SPLIT_K * SPLIT_N;

__host__ __device__ constexpr int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }
constexpr int BATCH_ROWS = round_up(BATCH, BLOCKS > 16 ? BLOCKS : 16);
constexpr int PASS_ROWS = BATCH_ROWS / PASSES;           // rows in a pass of step 1
constexpr int PART_ROWS = BATCH_ROWS / SPLIT_K;          // rows whose logits the blocks with the same q take
constexpr int OWN_ROWS = BATCH_ROWS / BLOCKS;            // rows that a block owns
constexpr int UNITS = round_up(HIDDEN, 4 * SPLIT_N) / SPLIT_N; // hidden units of a block; those beyond HIDDEN stay zero
constexpr int COLUMNS = round_up((INPUTS + SPLIT_K - 1) / SPLIT_K, 4 * WARPS); // inputs of a block, likewise
constexpr int WARP_COLUMNS = COLUMNS / WARPS;
constexpr int STRIDE = COLUMNS + 4; // of A and W1: the four rows that eight lanes read lie in different banks

// How many groups of lanes share the units in step 6, the other lanes sharing the inputs by fours.
__host__ __device__ constexpr int unit_groups() {
    int groups = 2;
    while (groups < 8 && LANES / groups > WARP_COLUMNS / 4 && UNITS % (8 * groups) == 0) groups *= 2;
    return groups;
}
constexpr int UNIT_GROUPS = unit_groups();

static_assert(PASS_ROWS % 16 == 0 && OWN_ROWS * BLOCKS == BATCH_ROWS && UNITS % 4 == 0, "this split does not fit");

#include "exchange.cuh"

// Adam's constants (fastmlp/optimizers.py); what is left of 1 is taken before it is rounded.
[[maybe_unused]] constexpr double BETA_1 = 0.9, BETA_2 = 0.999;
[[maybe_unused]] constexpr float KEPT_1 = BETA_1, ADDED_1 = 1 - BETA_1, KEPT_2 = BETA_2, ADDED_2 = 1 - BETA_2;
[[maybe_unused]] constexpr float EPSILON = 1e-8f;

// One network, as the host lays it out (fused_epoch.py): values, and for Adam first and second moments.
struct Slot {
    float *w1, *b1, *w2, *b2; // (INPUTS, HIDDEN), (HIDDEN), (HIDDEN, CLASSES), (CLASSES)
};
struct Head {
    Slot slots[3];
    const int64* order;         // (rows): the rows to train on
    const double* coefficients; // (steps, 3): decay, step size, scale (fastmlp/optimizers.py)
    const float* mean;          // (INPUTS), if CENTRED
    int64 rows;
    double factor;
};

struct Update {
    float decay, step_size, scale;
};

// The block's share of the network and of a batch, in shared memory.
struct Share {
    float* batches;        // A (BUFFERS, BATCH_ROWS, STRIDE)
    float* w1[SLOTS];      // transposed (UNITS, STRIDE)
    float* b1[SLOTS];      // (UNITS)
    float* w2[SLOTS];      // (UNITS, CLASSES)
    float* b2[SLOTS];      // (CLASSES), in every block the same
    float* sums;           // (WARPS, PASS_ROWS, UNITS)
    float* hidden;         // H (BATCH_ROWS, UNITS)
    float* hidden_deltas;  // dZ1 (BATCH_ROWS, UNITS)
    float* deltas;         // dZ2 (BATCH_ROWS, CLASSES), a copy if messages lie in global memory
    float* mean;           // (COLUMNS)
    int64* rows;           // (3, BATCH_ROWS): which rows this, the last and the next batch have

    __device__ explicit Share(SharedMemory& memory) {
        batches = memory.take<float>(BUFFERS * BATCH_ROWS * STRIDE);
#pragma unroll
        for (int slot = 0; slot < SLOTS; ++slot) {
            w1[slot] = memory.take<float>(UNITS * STRIDE);
            b1[slot] = memory.take<float>(UNITS);
            w2[slot] = memory.take<float>(UNITS * CLASSES);
            b2[slot] = memory.take<float>(CLASSES);
        }
        sums = memory.take<float>(WARPS * PASS_ROWS * UNITS);
        hidden = memory.take<float>(BATCH_ROWS * UNITS);
        hidden_deltas = memory.take<float>(BATCH_ROWS * UNITS);
        deltas = CLUSTER ? nullptr : memory.take<float>(BATCH_ROWS * CLASSES);
        mean = memory.take<float>(COLUMNS);
        rows = memory.take<int64>(3 * BATCH_ROWS);
    }

    __device__ float* batch(int step) const { return batches + step % BUFFERS * BATCH_ROWS * STRIDE; }
    __device__ int64* rows_of(int step) const { return rows + step % 3 * BATCH_ROWS; }
};

// Who this thread is.
struct Place {
    int thread = threadIdx.x, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    int rank = blockIdx.x % BLOCKS;
    int part_k = rank / SPLIT_N, part_n = rank % SPLIT_N;
    int first_input = part_k * COLUMNS, first_unit = part_n * UNITS;
    int first_column = warp * WARP_COLUMNS;                    // of the warp, in the block
    int first_row = part_k * PART_ROWS + part_n * OWN_ROWS;    // that the block owns
};

__device__ inline float4& four(float* address) { return *reinterpret_cast<float4*>(address); }
__device__ inline float4 four(const float* address) { return *reinterpret_cast<const float4*>(address); }

__device__ inline void add_product(float4& sum, const float4& x, float y) {
    sum.x += x.x * y;
    sum.y += x.y * y;
    sum.z += x.z * y;
    sum.w += x.w * y;
}

// Between global and shared memory.

template <bool READ> __device__ inline void move(float* global, float& shared) {
    if (READ)
        shared = *global;
    else
        *global = shared;
}

// The block's share of the weights, in (READ) or out; what lies beyond the network comes in as zero.
template <bool READ> __device__ void move_weights(const Head& head, Share& share, const Place& me) {
#pragma unroll
    for (int slot = 0; slot < SLOTS; ++slot) {
        const Slot& whole = head.slots[slot];
        for (int i = me.thread; i < UNITS * COLUMNS; i += THREADS) {
            const int unit = me.first_unit + i % UNITS, input = me.first_input + i / UNITS;
            float& here = share.w1[slot][i % UNITS * STRIDE + i / UNITS];
            if (READ) here = 0;
            if (unit < HIDDEN && input < INPUTS) move<READ>(&whole.w1[static_cast<int64>(input) * HIDDEN + unit], here);
        }
        for (int i = me.thread; i < UNITS * CLASSES; i += THREADS) {
            const int unit = me.first_unit + i / CLASSES;
            if (READ) share.w2[slot][i] = 0;
            if (unit < HIDDEN && (READ || me.part_k == 0)) move<READ>(&whole.w2[unit * CLASSES + i % CLASSES], share.w2[slot][i]);
        }
        for (int i = me.thread; i < UNITS; i += THREADS) {
            if (READ) share.b1[slot][i] = 0;
            if (me.first_unit + i < HIDDEN && (READ || me.part_k == 0)) move<READ>(&whole.b1[me.first_unit + i], share.b1[slot][i]);
        }
        for (int i = me.thread; i < CLASSES; i += THREADS)
            if (READ || me.rank == 0) move<READ>(&whole.b2[i], share.b2[slot][i]);
    }
}

// Which row of the features is row i of the batch of that step; any, where there is none.
__device__ inline int64 row_of(const Head& head, int step, int i) {
    const int64 place = static_cast<int64>(step) * BATCH + i;
    return i < BATCH && place < head.rows ? head.order[place] : 0;
}

__device__ inline int rows_in(const Head& head, int step) {
    return static_cast<int>(min(static_cast<int64>(BATCH), max(int64(0), head.rows - static_cast<int64>(step) * BATCH)));
}

template <int WIDTH> struct Pieces {
    using Type = float;
};
template <> struct Pieces<4> {
    using Type = float4;
};

// The warp's columns of a batch, zero where there are no rows or inputs; they come in by themselves.
__device__ void start_batch(const float* features, const int64* rows, int count, float* batch, const Place& me) {
    constexpr int WIDTH = INPUTS % 4 == 0 ? 4 : 1; // how many numbers start at a multiple of their size
    using Piece = typename Pieces<WIDTH>::Type;
    constexpr int PIECES = WARP_COLUMNS / WIDTH;
    for (int i = me.lane; i < BATCH_ROWS * PIECES; i += LANES) {
        const int row = i / PIECES, column = me.first_column + i % PIECES * WIDTH, input = me.first_input + column;
        Piece* here = reinterpret_cast<Piece*>(&batch[row * STRIDE + column]);
        if (row < count && input < INPUTS)
            start_copy(here, reinterpret_cast<const Piece*>(&features[rows[row] * INPUTS + input]));
        else
            *here = Piece{};
    }
}

// (features - mean) * factor, in place, of the warp's columns.
__device__ void centre(float* batch, const float* mean, float factor, int count, const Place& me) {
    for (int i = me.lane; i < count * WARP_COLUMNS; i += LANES) {
        const int column = me.first_column + i % WARP_COLUMNS;
        if (me.first_input + column >= INPUTS) continue;
        float& x = batch[i / WARP_COLUMNS * STRIDE + column];
        x = (x - mean[column]) * factor;
    }
    __syncwarp();
}

// 1: sums (PASS_ROWS, UNITS) over the warp's inputs, of the rows from first_row on. A lane has every 16th row, and every
// second half of the units.
__device__ void multiply_forward(const float* batch, const float* w1, float* sums, int first_row, const Place& me) {
    constexpr int ROWS = PASS_ROWS / 16, COUNT = UNITS / 2;
    const int row = me.lane / 2, unit = me.lane % 2 * COUNT;
    const float* x_start = batch + (first_row + row) * STRIDE + me.first_column;
    const float* w_start = w1 + unit * STRIDE + me.first_column;
    float sum[ROWS][COUNT] = {};
#pragma unroll 2
    for (int k = 0; k < WARP_COLUMNS; k += 4) {
        float4 x[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; ++i) x[i] = four(x_start + 16 * i * STRIDE + k);
#pragma unroll
        for (int j = 0; j < COUNT; ++j) {
            const float4 w = four(w_start + j * STRIDE + k);
#pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                sum[i][j] += x[i].x * w.x;
                sum[i][j] += x[i].y * w.y;
                sum[i][j] += x[i].z * w.z;
                sum[i][j] += x[i].w * w.w;
            }
        }
    }
    float* out = sums + me.warp * PASS_ROWS * UNITS;
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COUNT; ++j) out[(row + 16 * i) * UNITS + unit + j] = sum[i][j];
}

// 2: over the warps, and, if the inputs are split, sent to the blocks with the same units.
__device__ void add_up_warps(Share& share, Exchange& exchange, int first_row, int step, const Place& me) {
    constexpr int COUNT = PASS_ROWS * UNITS / 4;
    for (int i = me.thread; i < COUNT; i += THREADS) {
        float4 sum = four(share.sums + 4 * i);
#pragma unroll
        for (int warp = 1; warp < WARPS; ++warp) {
            const float4 more = four(share.sums + warp * PASS_ROWS * UNITS + 4 * i);
            add_product(sum, more, 1);
        }
        const int place = first_row * UNITS + 4 * i;
        four(share.hidden + place) = sum;
        for (int q = 0; q < SPLIT_K; ++q)
            if (q != me.part_k)
                exchange.send_to<SUMS>(q * SPLIT_N + me.part_n, me.part_k * BATCH_ROWS * UNITS + place, sum, step);
    }
}

// H = max(Z1, 0), NaN kept: every comparison with it is false. The other blocks' sums are added in their order.
__device__ void activate(Share& share, Exchange& exchange, int step, const Place& me) {
    if (SPLIT_K > 1) exchange.receive<SUMS>(step);
    // a thread takes the places that it has written itself, so that nobody has to wait for it
    for (int first_row = 0; first_row < BATCH_ROWS; first_row += PASS_ROWS)
        for (int i = me.thread; i < PASS_ROWS * UNITS / 4; i += THREADS) {
            const int place = first_row * UNITS + 4 * i;
            const float4 own = four(share.hidden + place);
            float4 z = {0, 0, 0, 0};
            for (int q = 0; q < SPLIT_K; ++q) {
                const int there = q * BATCH_ROWS * UNITS + place;
                add_product(z, q == me.part_k ? own : exchange.read<SUMS, float4>(there, step), 1);
            }
            add_product(z, four(share.b1[0] + place % UNITS), 1);
            four(share.hidden + place) =
                make_float4(z.x < 0 ? 0 : z.x, z.y < 0 ? 0 : z.y, z.z < 0 ? 0 : z.z, z.w < 0 ? 0 : z.w);
        }
    __syncthreads();
}

// 3: each row's products over the block's units, to the block that owns the row.
__device__ void send_logits(const Share& share, Exchange& exchange, int step, const Place& me) {
    for (int i = me.thread; i < PART_ROWS * CLASSES; i += THREADS) {
        const int row = i / CLASSES, label = i % CLASSES;
        const float* h = share.hidden + (me.part_k * PART_ROWS + row) * UNITS;
        float sum = 0;
#pragma unroll
        for (int unit = 0; unit < UNITS; ++unit) sum += h[unit] * share.w2[0][unit * CLASSES + label];
        const int owner = me.part_k * SPLIT_N + row / OWN_ROWS;
        exchange.send_to<LOGITS>(owner, (me.part_n * OWN_ROWS + row % OWN_ROWS) * CLASSES + label, sum, step);
    }
    exchange.sent<LOGITS>(step);
}

// The larger of two, and NaN if either is.
__device__ inline float larger(float a, float b) { return a >= b || a != a ? a : b; }

template <class T, class F> __device__ inline T over_lanes(T value, F combine) {
    for (int bits = LANES / 2; bits; bits /= 2) value = combine(value, __shfl_xor_sync(ALL_LANES, value, bits));
    return value;
}

// 4, for one row by one warp: a lane has every 32nd class. Adds the row's loss and hit to the lane's totals.
__device__ void send_deltas(const Share& share, Exchange& exchange, int step, int row, int count, int label,
                            double& loss, int& hits, const Place& me) {
    constexpr int EACH = (CLASSES + LANES - 1) / LANES;
    float z[EACH], largest = 0;
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int c = min(me.lane + LANES * j, CLASSES - 1); // lanes without a class of their own take the last
        z[j] = exchange.read<LOGITS>(row * CLASSES + c, step);
        for (int part = 1; part < SPLIT_N; ++part)
            z[j] += exchange.read<LOGITS>((part * OWN_ROWS + row) * CLASSES + c, step);
        z[j] += share.b2[0][c];
        largest = j == 0 ? z[j] : larger(largest, z[j]);
    }
    largest = over_lanes(largest, larger);
    float sum = 0, at_label = 0;
    int best = CLASSES; // the first class with the largest logit
#pragma unroll
    for (int j = EACH - 1; j >= 0; --j) {
        const int c = me.lane + LANES * j;
        if (c >= CLASSES) continue;
        if (z[j] == largest) best = c;
        const float shifted = z[j] - largest;
        if (c == label) at_label = shifted;
        z[j] = expf(shifted);
        sum += z[j];
    }
    const auto add = [](float a, float b) { return a + b; };
    sum = over_lanes(sum, add);
    at_label = over_lanes(at_label, add);
    best = over_lanes(best, [](int a, int b) { return min(a, b); });
    const int place = me.first_row + row;
    const bool is_there = place < count;
    if (is_there && me.lane == 0) {
        loss += logf(sum) - at_label;
        hits += best == label;
    }
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        const int c = me.lane + LANES * j;
        if (c >= CLASSES) continue;
        const float delta = is_there ? (z[j] / sum - (c == label ? 1.0f : 0.0f)) / count : 0.0f;
        for (int block = 0; block < BLOCKS; ++block) exchange.send_to<DELTAS>(block, place * CLASSES + c, delta, step);
    }
}

// 5: dZ1, a product, so that NaN stays.
__device__ void take_hidden_deltas(Share& share, const float* deltas, const Place& me) {
    for (int i = me.thread; i < BATCH_ROWS * UNITS; i += THREADS) {
        const float* delta = deltas + i / UNITS * CLASSES;
        const float* w2 = share.w2[0] + i % UNITS * CLASSES;
        float sum = 0;
#pragma unroll
        for (int c = 0; c < CLASSES; ++c) sum += delta[c] * w2[c];
        share.hidden_deltas[i] = sum * (share.hidden[i] > 0 ? 1.0f : 0.0f);
    }
    __syncthreads();
}

// One number's step, by gradient descent or Adam (Kingma and Ba 2015, algorithm 1).
__device__ inline void update(float* const* slots, int i, float gradient, const Update& by, float decay) {
    float& value = slots[0][i];
#if SLOTS == 1
    value = decay * value - by.step_size * gradient;
#else
    float &first = slots[1][i], &second = slots[2][i];
    first = KEPT_1 * first + ADDED_1 * gradient;
    second = KEPT_2 * second + ADDED_2 * (gradient * gradient);
    value = decay * value - by.step_size * (first / (sqrtf(second) * by.scale + EPSILON));
#endif
}

// The sum over the batch of the products of two columns.
__device__ inline float column_product(const float* a, int a_stride, const float* b, int b_stride) {
    float sum = 0;
#pragma unroll 8
    for (int row = 0; row < BATCH_ROWS; ++row) sum += a[row * a_stride] * b[row * b_stride];
    return sum;
}

__device__ inline float column_sum(const float* a, int stride) {
    float sum = 0;
#pragma unroll 8
    for (int row = 0; row < BATCH_ROWS; ++row) sum += a[row * stride];
    return sum;
}

// 5: W2, b1 and b2, a thread a number.
__device__ void update_small(Share& share, const float* deltas, const Update& by, const Place& me) {
    for (int i = me.thread; i < UNITS * CLASSES + UNITS + CLASSES; i += THREADS) {
        const int bias = i - UNITS * CLASSES;
        if (bias < 0) {
            const float* h = share.hidden + i / CLASSES;
            update(share.w2, i, column_product(h, UNITS, deltas + i % CLASSES, CLASSES), by, by.decay);
        } else if (bias < UNITS) {
            update(share.b1, bias, column_sum(share.hidden_deltas + bias, UNITS), by, 1);
        } else {
            update(share.b2, bias - UNITS, column_sum(deltas + bias - UNITS, CLASSES), by, 1);
        }
    }
}

// 6: the rows of W1 of the warp's inputs. A lane has four inputs and a group of units.
__device__ void update_w1(Share& share, const float* batch, const Update& by, const Place& me) {
    constexpr int GROUPS = UNIT_GROUPS, COUNT = UNITS / GROUPS, INPUT_LANES = LANES / GROUPS;
    const int unit = me.lane % GROUPS * COUNT;
    for (int four_inputs = me.lane / GROUPS; four_inputs < WARP_COLUMNS / 4; four_inputs += INPUT_LANES) {
        const int column = me.first_column + 4 * four_inputs;
        float4 gradient[COUNT] = {};
#pragma unroll 4
        for (int row = 0; row < BATCH_ROWS; ++row) {
            const float4 x = four(batch + row * STRIDE + column);
#pragma unroll
            for (int j = 0; j < COUNT; ++j) add_product(gradient[j], x, share.hidden_deltas[row * UNITS + unit + j]);
        }
#pragma unroll
        for (int j = 0; j < COUNT; ++j) {
            const int place = (unit + j) * STRIDE + column;
            update(share.w1, place, gradient[j].x, by, by.decay);
            update(share.w1, place + 1, gradient[j].y, by, by.decay);
            update(share.w1, place + 2, gradient[j].z, by, by.decay);
            update(share.w1, place + 3, gradient[j].w, by, by.decay);
        }
    }
    __syncwarp();
}

__device__ inline Update update_of(const Head& head, int step) {
    const double* c = head.coefficients + 3 * static_cast<int64>(step);
    return {static_cast<float>(c[0]), static_cast<float>(c[1]), static_cast<float>(c[2])};
}

__device__ void train(const float* features, const int64* labels, const Head& head, Share& share, Exchange& exchange,
                      double& loss, int& hits, const Place& me) {
    constexpr int EACH = (OWN_ROWS + WARPS - 1) / WARPS; // rows of a warp in step 4
    const int steps = static_cast<int>((head.rows + BATCH - 1) / BATCH);
    for (int i = me.thread; i < 2 * BATCH_ROWS; i += THREADS) share.rows[i] = row_of(head, i / BATCH_ROWS, i % BATCH_ROWS);
    __syncthreads();
    start_batch(features, share.rows, rows_in(head, 0), share.batch(0), me);
    for (int step = 0; step < steps; ++step) {
        float* batch = share.batch(step);
        const int count = rows_in(head, step);
        const auto start_next = [&] { // from a batch before it
            start_batch(features, share.rows_of(step + 1), rows_in(head, step + 1), share.batch(step + 1), me);
        };
        exchange.begin(step);
        finish_copies();
        __syncwarp();
        if (BUFFERS == 2) start_next();
        if (CENTRED) centre(batch, share.mean, static_cast<float>(head.factor), count, me);
        // read early, needed late
        const Update by = update_of(head, step);
        const int64 after_next = me.thread < BATCH_ROWS ? row_of(head, step + 2, me.thread) : 0;
        int label[EACH] = {};
        for (int j = 0; j < EACH; ++j) {
            const int row = me.first_row + me.warp + WARPS * j;
            if (me.warp + WARPS * j < OWN_ROWS && row < count) label[j] = static_cast<int>(labels[share.rows_of(step)[row]]);
        }

        for (int first_row = 0; first_row < BATCH_ROWS; first_row += PASS_ROWS) {
            multiply_forward(batch, share.w1[0], share.sums, first_row, me);
            __syncthreads();
            add_up_warps(share, exchange, first_row, step, me);
            if (PASSES > 1) __syncthreads();
        }
        if (SPLIT_K > 1) exchange.sent<SUMS>(step);
        activate(share, exchange, step, me);
        if (me.thread < BATCH_ROWS) share.rows_of(step + 2)[me.thread] = after_next;
        send_logits(share, exchange, step, me);
        exchange.receive<LOGITS>(step);
        for (int j = 0; j < EACH; ++j)
            if (me.warp + WARPS * j < OWN_ROWS)
                send_deltas(share, exchange, step, me.warp + WARPS * j, count, label[j], loss, hits, me);
        exchange.sent<DELTAS>(step);
        exchange.receive<DELTAS>(step);
        const float* deltas = exchange.local<DELTAS>(share.deltas, step);
        take_hidden_deltas(share, deltas, me);
        update_small(share, deltas, by, me);
        update_w1(share, batch, by, me);
        if (BUFFERS == 1) start_next();
    }
    finish_copies();
    __syncthreads();
}

// heads: one `Head` for every BLOCKS blocks. losses double (blocks, WARPS) and hits int64 (blocks, WARPS): what each warp
// has seen, to be added up. inboxes and flags: see exchange.cuh, one set for each head.
extern "C" __global__ void TOGETHER __launch_bounds__(256, 1)
train_epoch(const float* features, const int64* labels, const uint8* heads, double* losses, int64* hits, float* inboxes,
            unsigned* flags) {
    SharedMemory memory;
    Share share(memory);
    const Place me;
    const int number = blockIdx.x / BLOCKS;
    const Head head = reinterpret_cast<const Head*>(heads)[number];
    Exchange exchange(memory, inboxes + static_cast<int64>(number) * BLOCKS * INBOX_SIZE, flags + number * BLOCKS * KINDS,
                      me.rank);
    move_weights<true>(head, share, me);
    if (CENTRED)
        for (int i = me.thread; i < COLUMNS && me.first_input + i < INPUTS; i += THREADS)
            share.mean[i] = head.mean[me.first_input + i];
    __syncthreads();

    double loss = 0;
    int hit = 0;
    train(features, labels, head, share, exchange, loss, hit, me);
    exchange.end();

    move_weights<false>(head, share, me);
    if (me.lane == 0) {
        losses[blockIdx.x * WARPS + me.warp] = loss;
        hits[blockIdx.x * WARPS + me.warp] = hit;
    }
}
