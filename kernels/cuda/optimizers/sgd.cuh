// Gradient descent: value = kept * value - rate * gradient.
#pragma once

constexpr int MOMENTS = 0;
constexpr int COEFFICIENTS = 1; // rate

template <class Real> __device__ inline void step(Real* slots, Real gradient, const Real* coefficients, Real kept) {
    slots[0] = kept * slots[0] - coefficients[0] * gradient;
}
