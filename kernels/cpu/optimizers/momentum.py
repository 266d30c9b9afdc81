"""Gradient descent with momentum:

velocity = momentum * velocity + gradient        value = kept * value - rate * velocity
with nesterov                                    value = kept * value - rate * (gradient + momentum * velocity)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.kernels.cpu.jit import jit


class MomentumRule(NamedTuple):
    momentum: float
    nesterov: float


Rule = MomentumRule


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
            gradient = factor * sums[i]
            velocity[i] = momentum * velocity[i] + gradient
            value[i] = shrink * value[i] - rate * (gradient + momentum * velocity[i])
    else:
        for i in range(count):
            velocity[i] = momentum * velocity[i] + factor * sums[i]
            value[i] = shrink * value[i] - rate * velocity[i]
