"""Gradient descent: value = kept * value - rate * gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.kernels.cpu.jit import jit


class SGDRule(NamedTuple):
    """No constants."""


Rule = SGDRule


@jit
def step(
    rule: Rule, slots: Any, first: int, count: int, sums: Any, mean_factor: float, coefficients: Any, kept: float
) -> None:
    number = slots.dtype.type
    rate, shrink = number(coefficients[0]) * number(mean_factor), number(kept)
    value = slots[0, first : first + count]
    for i in range(count):
        value[i] = shrink * value[i] - rate * sums[i]
