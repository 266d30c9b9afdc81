// An optimizer's step on slots (1 + MOMENTS, count) of REAL: the values, then each moment. OPTIMIZER, set by the
// compiler's options, names the header with its `step`.
#include "each.cuh"
#include "optimizers/OPTIMIZER.cuh"

struct Slots {
    REAL numbers[1 + MOMENTS];
};

// coefficients double (1 + COEFFICIENTS): the share of a value that weight decay leaves, which applies only if
// `decays`, then the optimizer's own. They are in device memory, in float64 as the host computed them, where a recorded
// step finds new ones in every epoch. out may be slots.
extern "C" __global__ void update(const REAL* slots, const REAL* gradient, const double* coefficients, bool decays,
                                  REAL* out, int64 count) {
    const REAL kept = decays ? static_cast<REAL>(coefficients[0]) : REAL(1);
    REAL own[COEFFICIENTS];
#pragma unroll
    for (int k = 0; k < COEFFICIENTS; ++k) own[k] = static_cast<REAL>(coefficients[1 + k]);
    const auto next = [=](int64 i) {
        Slots mine;
#pragma unroll
        for (int slot = 0; slot <= MOMENTS; ++slot) mine.numbers[slot] = slots[slot * count + i];
        step(mine.numbers, gradient[i], own, kept);
        return mine;
    };
    each(count, next, [=](int64 i, const Slots& mine) {
#pragma unroll
        for (int slot = 0; slot <= MOMENTS; ++slot) out[slot * count + i] = mine.numbers[slot];
    });
}
