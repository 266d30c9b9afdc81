// Softmax, cross-entropy and its gradient in one pass, by one block, so that the sums over rows need no second launch.
//
// A group of lanes shares each row of logits (m, c): 1 lane for few classes, a warp of 32 for many. In a training step
// each group has one row; in the larger batches of an evaluation it has several, one after another. The sums have a
// fixed order: each group adds up its rows, each lane of the first warp every 32nd group, and the first thread the lanes.
#include "common.cuh"

// Operations on the lanes that share a row.
template <class T, class Combine> __device__ T of_row(int lanes, T value, Combine combine) {
    for (int bits = lanes / 2; bits > 0; bits /= 2)
        value = combine(value, __shfl_xor_sync(ALL_LANES, value, bits));
    return value;
}

// Whether the first of the largest logits is at the label. Comparisons with NaN are false, so a row with NaN is a miss.
__device__ bool hits_label(const REAL* logits, int64 label, int classes, int lane, int lanes) {
    bool hit = true;
    for (int c = lane; c < classes; c += lanes)
        hit = hit && (c < label ? logits[c] < logits[label] : logits[c] <= logits[label]);
    return of_row(lanes, int(hit), [](int a, int b) { return a & b; });
}

// Fills a row's gradient, weight (softmax - onehot) / m, which may alias its logits (c,), and returns its loss
// -log softmax[label]. The largest logit is subtracted, so that no exponential overflows.
__device__ REAL gradient_and_loss(const REAL* logits, int64 label, int classes, int lane, int lanes, REAL weight,
                                  REAL rows, REAL* gradient) {
    const REAL at_label = logits[label];
    REAL largest = at_label;
    for (int c = lane; c < classes; c += lanes) largest = logits[c] > largest ? logits[c] : largest;
    largest = of_row(lanes, largest, [](REAL a, REAL b) { return b > a ? b : a; });
    REAL sum = 0;
    for (int c = lane; c < classes; c += lanes) sum += exp(logits[c] - largest);
    sum = of_row(lanes, sum, [](REAL a, REAL b) { return a + b; });
    for (int c = lane; c < classes; c += lanes)
        gradient[c] = (exp(logits[c] - largest) / sum - REAL(c == label)) / rows * weight;
    return log(sum) - (at_label - largest);
}

// Sums (1,) of the groups' entries in losses and hits (groups,).
__device__ void add_up(double* losses, int64* hits, int groups, REAL* loss, int64* hit_count) {
    const int thread = threadIdx.x;
    __syncthreads();
    if (thread < LANES)
        for (int g = thread + LANES; g < groups; g += LANES) {
            losses[thread] += losses[g];
            hits[thread] += hits[g];
        }
    __syncthreads();
    if (thread > 0) return;
    for (int g = 1; g < min(groups, LANES); ++g) {
        losses[0] += losses[g];
        hits[0] += hits[g];
    }
    *loss = static_cast<REAL>(losses[0]);
    *hit_count = hits[0];
}

// weight_of(row) weighs a row's loss. Losses are summed in float64, so that a sum of a thousand loses no digit.
template <class WeightOf>
__device__ void run(const REAL* logits, const int64* labels, WeightOf weight_of, REAL* gradient, REAL* loss,
                    int64* hits, int64 rows, int classes, int lanes) {
    const int groups = blockDim.x / lanes, group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
    SharedMemory memory;
    double* losses_of_groups = memory.take<double>(groups);
    int64* hits_of_groups = memory.take<int64>(groups);
    double loss_here = 0;
    int64 hits_here = 0;
    for (int64 row = group; row < rows; row += groups) {
        const REAL* z = logits + row * classes;
        const REAL weight = weight_of(row);
        hits_here += hits_label(z, labels[row], classes, lane, lanes);
        loss_here += weight * gradient_and_loss(z, labels[row], classes, lane, lanes, weight,
                                                static_cast<REAL>(rows), gradient + row * classes);
    }
    if (lane == 0) {
        losses_of_groups[group] = loss_here;
        hits_of_groups[group] = hits_here;
    }
    add_up(losses_of_groups, hits_of_groups, groups, loss, hits);
}

// logits, gradient (m, c), labels (m,); loss, hits (1,).
extern "C" __global__ void __launch_bounds__(512, 1)
    softmax_xent(const REAL* logits, const int64* labels, REAL* gradient, REAL* loss, int64* hits, int64 rows,
                 int classes, int lanes) {
    run(logits, labels, [](int64) { return REAL(1); }, gradient, loss, hits, rows, classes, lanes);
}

// With a weight for each row, weights (m,).
extern "C" __global__ void __launch_bounds__(512, 1)
    weighted_softmax_xent(const REAL* logits, const int64* labels, const REAL* weights, REAL* gradient, REAL* loss,
                          int64* hits, int64 rows, int classes, int lanes) {
    run(logits, labels, [=](int64 row) { return weights[row]; }, gradient, loss, hits, rows, classes, lanes);
}
