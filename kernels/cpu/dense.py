"""The elementwise steps of a dense layer: standardised inputs, bias, ReLU, their gradients, and the updates.

Arrays are float32 or float64: features, z, gradient, activation, values (m, n); mean, bias (n,); parameters and their
moments of any shape.

The trick: most calls work in place (out is z). With two names for one array LLVM must assume that a write changes
the next read, and vectorises nothing; so each kernel first makes out equal to its input, which is free where they are
the same array, and then reads and writes out alone. That is 3 times as fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.optimizers import BETA_1, BETA_2, EPSILON

from .jit import jit

Floats = NDArray[Any]


@jit
def _start_from(source: Floats, out: Floats) -> None:
    if out is not source:
        elements, filled = source.flat, out.flat
        for k in range(out.size):
            filled[k] = elements[k]


@jit
def standardize(features: Floats, mean: Floats, scale: float, out: Floats) -> None:
    """out = (features - mean) * scale."""
    _start_from(features, out)
    factor = out.dtype.type(scale)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = (out[i, j] - mean[j]) * factor


@jit
def add_bias(z: Floats, bias: Floats, out: Floats) -> None:
    """out = z + bias, the same bias for every row."""
    _start_from(z, out)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] += bias[j]


@jit
def bias_relu(z: Floats, bias: Floats, out: Floats) -> None:
    """out = max(z + bias, 0), written so that NaN, which is not below zero, stays."""
    _start_from(z, out)
    zero = out.dtype.type(0)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            biased = out[i, j] + bias[j]
            out[i, j] = zero if biased < 0 else biased


@jit
def relu_backward(gradient: Floats, activation: Floats, out: Floats) -> None:
    """out = gradient * (activation > 0): a product, so that NaN in the gradient stays."""
    _start_from(gradient, out)
    one = out.dtype.type
    active, filled = activation.flat, out.flat
    for k in range(out.size):
        filled[k] = filled[k] * one(active[k] > 0)


@jit
def column_sum(values: Floats, out: Floats) -> None:
    """out (n,) = the sum over rows, added from the first row to the last."""
    for j in range(out.shape[0]):
        out[j] = 0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            out[j] += values[i, j]


@jit
def sgd_update(parameter: Floats, gradient: Floats, learning_rate: float, decay: float, out: Floats) -> None:
    """out = decay * parameter - learning_rate * gradient."""
    _start_from(parameter, out)
    rate, kept = out.dtype.type(learning_rate), out.dtype.type(decay)
    slope, filled = gradient.flat, out.flat
    for k in range(out.size):
        filled[k] = kept * filled[k] - rate * slope[k]


@jit
def adam_update(
    parameter: Floats,
    gradient: Floats,
    first: Floats,
    second: Floats,
    step_size: float,
    scale: float,
    decay: float,
    out: Floats,
    out_first: Floats,
    out_second: Floats,
) -> None:
    """One step of Adam, as the array code says it."""
    _start_from(parameter, out)
    _start_from(first, out_first)
    _start_from(second, out_second)
    number = out.dtype.type
    beta_1, rest_1, beta_2, rest_2 = number(BETA_1), number(1 - BETA_1), number(BETA_2), number(1 - BETA_2)
    size, scaled, kept, epsilon = number(step_size), number(scale), number(decay), number(EPSILON)
    slope, filled, mean, square = gradient.flat, out.flat, out_first.flat, out_second.flat
    for k in range(out.size):
        g = slope[k]
        mean[k] = beta_1 * mean[k] + rest_1 * g
        square[k] = beta_2 * square[k] + rest_2 * (g * g)
        filled[k] = kept * filled[k] - size * (mean[k] / (np.sqrt(square[k]) * scaled + epsilon))
