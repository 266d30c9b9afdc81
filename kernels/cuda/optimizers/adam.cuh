// Adam (Kingma and Ba 2015, algorithm 1), its bias corrections in the coefficients:
//     first = beta_1 first + (1 - beta_1) gradient        second = beta_2 second + (1 - beta_2) gradient^2
//     value = kept * value - step_size * first / (sqrt(second) * correction + epsilon)
// BETA_1, BETA_2 and EPSILON are set by the compiler's options; the differences from 1 are taken before rounding.
#pragma once

constexpr int MOMENTS = 2;
constexpr int COEFFICIENTS = 2; // step_size, correction

template <class Real> __device__ inline void step(Real* slots, Real gradient, const Real* coefficients, Real kept) {
    Real &value = slots[0], &first = slots[1], &second = slots[2];
    first = Real(BETA_1) * first + Real(1 - BETA_1) * gradient;
    second = Real(BETA_2) * second + Real(1 - BETA_2) * (gradient * gradient);
    value = kept * value - coefficients[0] * (first / (sqrt(second) * coefficients[1] + Real(EPSILON)));
}
