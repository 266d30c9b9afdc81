// Gradient descent with momentum:
//     velocity = momentum * velocity + gradient        value = kept * value - rate * velocity
//     with NESTEROV                                    value = kept * value - rate * (gradient + momentum * velocity)
// MOMENTUM and NESTEROV, 1 or 0, are set by the compiler's options.
#pragma once

constexpr int MOMENTS = 1;
constexpr int COEFFICIENTS = 1; // rate

template <class Real> __device__ inline void step(Real* slots, Real gradient, const Real* coefficients, Real kept) {
    Real &value = slots[0], &velocity = slots[1];
    velocity = Real(MOMENTUM) * velocity + gradient;
    const Real direction = NESTEROV != 0 ? gradient + Real(MOMENTUM) * velocity : velocity;
    value = kept * value - coefficients[0] * direction;
}
