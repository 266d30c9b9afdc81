// The optimizers' steps on parameters of any shape, `count` numbers of REAL. What a step needs beside them lies on the
// device, in float64 as the host computed it: a recorded step finds other numbers there in every epoch. Each output may
// be the input of its kind.
#include "each.cuh"

// out = decay * parameter - learning_rate * gradient.
extern "C" __global__ void sgd_update(const REAL* parameter, const REAL* gradient, const double* learning_rate,
                                      const double* decay, REAL* out, int64 count) {
    const REAL rate = static_cast<REAL>(*learning_rate), kept = static_cast<REAL>(*decay);
    fill(out, count, [=](int64 i) { return kept * parameter[i] - rate * gradient[i]; });
}

struct Adam { // a parameter and the running means of its gradient and of that one's square
    REAL parameter, first, second;
};

// out_first = beta_1 first + (1 - beta_1) gradient; out_second = beta_2 second + (1 - beta_2) gradient^2;
// out = decay * parameter - step_size * out_first / (sqrt(out_second) * scale + epsilon).
extern "C" __global__ void adam_update(const REAL* parameter, const REAL* gradient, const REAL* first,
                                       const REAL* second, const double* step_size, const double* scale,
                                       const double* decay, REAL* out, REAL* out_first, REAL* out_second,
                                       int64 count) {
    const REAL size = static_cast<REAL>(*step_size), factor = static_cast<REAL>(*scale);
    const REAL kept = static_cast<REAL>(*decay);
    const auto step = [=](int64 i) {
        Adam next;
        next.first = REAL(BETA_1) * first[i] + REAL(1 - BETA_1) * gradient[i];
        next.second = REAL(BETA_2) * second[i] + REAL(1 - BETA_2) * (gradient[i] * gradient[i]);
        next.parameter = kept * parameter[i] - size * (next.first / (sqrt(next.second) * factor + REAL(EPSILON)));
        return next;
    };
    each(count, step, [=](int64 i, const Adam& next) {
        out[i] = next.parameter;
        out_first[i] = next.first;
        out_second[i] = next.second;
    });
}
