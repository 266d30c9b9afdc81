"""The elementwise steps of a dense layer: standardised inputs, bias, ReLU, their gradients, and the optimizer's step.

Arrays are float32 or float64: features, z, gradient, activation, values (m, n); mean, bias (n,).

The trick: most calls work in place (out is z). With two names for one array, LLVM must assume that a write changes the
next read, and vectorises nothing; so each kernel first copies its input to out, which costs nothing where they are the
same array, and then only reads and writes out. That is 3 times as fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import inlined, jit
from .optimizers import take_step

Floats = NDArray[Any]


@inlined
def _start_from(source: Floats, out: Floats) -> None:
    if out is not source:
        elements, filled = source.flat, out.flat
        for k in range(out.size):
            filled[k] = elements[k]


@jit
def standardize(features: Floats, mean: Floats, scale: float, out: Floats) -> None:
    """out = (features - mean) * scale."""
    _start_from(features, out)
    multiplier = out.dtype.type(scale)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = (out[i, j] - mean[j]) * multiplier


@jit
def take_standardized(
    source: Floats, rows: NDArray[np.int64], mean: NDArray[np.float64], scale: NDArray[np.float64], out: Floats
) -> None:
    """out (m, n) = (source[rows] - mean) * scale, in float64 and rounded last; rows (m,) are all in the source."""
    for i in range(out.shape[0]):
        row = rows[i]
        for j in range(out.shape[1]):
            out[i, j] = (np.float64(source[row, j]) - mean[j]) * scale[j]


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
    """out (n,) = the sum over rows, from first to last."""
    for j in range(out.shape[0]):
        out[j] = 0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            out[j] += values[i, j]


@jit
def update(rule: Any, slots: Floats, gradient: Floats, coefficients: Any, decays: bool, out: Floats) -> None:
    """An optimizer's step on slots (1 + moments, n), see `optimizers`; decays: weight decay applies."""
    if out is not slots:
        for row in range(slots.shape[0]):
            for k in range(slots.shape[1]):
                out[row, k] = slots[row, k]
    kept = coefficients[0] if decays else 1.0
    take_step(rule, out, 0, out.shape[1], gradient, 1.0, coefficients[1:], kept)
