// The elementwise steps of a layer, a thread a number. All arrays are of REAL, rows of `columns` numbers without gaps;
// out may be the first input.
#include "common.cuh"

// out (m, n) = z (m, n) + bias (n,).
extern "C" __global__ void add_bias(const REAL* z, const REAL* bias, REAL* out, int64 count, int columns) {
    const int64 i = global_index();
    if (i < count) out[i] = z[i] + bias[i % columns];
}

// out (m, n) = max(z + bias, 0), NaN kept: every comparison with it is false.
extern "C" __global__ void bias_relu(const REAL* z, const REAL* bias, REAL* out, int64 count, int columns) {
    const int64 i = global_index();
    if (i >= count) return;
    const REAL biased = z[i] + bias[i % columns];
    out[i] = biased < 0 ? REAL(0) : biased;
}
