"""Adam (Kingma and Ba 2015, algorithm 1), its bias corrections in the coefficients step_size and correction:

first = beta_1 first + (1 - beta_1) gradient        second = beta_2 second + (1 - beta_2) gradient^2
value = kept * value - step_size * first / (sqrt(second) * correction + epsilon)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastmlp.kernels.cpu.jit import jit


class AdamRule(NamedTuple):
    beta_1: float
    beta_2: float
    epsilon: float


Rule = AdamRule


@jit
def step(
    rule: Rule, slots: Any, first: int, count: int, sums: Any, mean_factor: float, coefficients: Any, kept: float
) -> None:
    number = slots.dtype.type
    beta_1, beta_2, epsilon = number(rule.beta_1), number(rule.beta_2), number(rule.epsilon)
    rest_1, rest_2 = number(1 - rule.beta_1), number(1 - rule.beta_2)  # before rounding, which would swamp it
    step_size, correction = number(coefficients[0]), number(coefficients[1])
    factor, shrink = number(mean_factor), number(kept)
    value, mean, square = (
        slots[0, first : first + count],
        slots[1, first : first + count],
        slots[2, first : first + count],
    )
    for i in range(count):
        gradient = factor * sums[i]
        mean[i] = beta_1 * mean[i] + rest_1 * gradient
        square[i] = beta_2 * square[i] + rest_2 * (gradient * gradient)
        value[i] = shrink * value[i] - step_size * (mean[i] / (np.sqrt(square[i]) * correction + epsilon))
