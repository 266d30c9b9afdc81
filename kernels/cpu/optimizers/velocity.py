"""Gradient descent with momentum whose velocity holds the learning rates of its past, as scikit-learn has it:

velocity = momentum * velocity - rate * gradient        value = kept * value + velocity
with nesterov                                           value = kept * value + momentum * velocity - rate * gradient
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.kernels.cpu.jit import jit


class VelocityRule(NamedTuple):
    momentum: float
    nesterov: float


Rule = VelocityRule


@jit
def step(
    rule: Rule, slots: Any, first: int, count: int, sums: Any, mean_factor: float, coefficients: Any, kept: float
) -> None:
    number = slots.dtype.type
    momentum, rate, factor, shrink = (
        number(rule.momentum),
        number(coefficients[0]),
        number(mean_factor),
        number(kept),
    )
    value, velocity = slots[0, first : first + count], slots[1, first : first + count]
    if rule.nesterov:
        for i in range(count):
            back = rate * (factor * sums[i])
            velocity[i] = momentum * velocity[i] - back
            value[i] = shrink * value[i] + (momentum * velocity[i] - back)
    else:
        for i in range(count):
            velocity[i] = momentum * velocity[i] - rate * (factor * sums[i])
            value[i] = shrink * value[i] + velocity[i]
