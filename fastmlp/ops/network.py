"""The ops of the multi-layer perceptron, in array code.

Every op takes the array namespace first, then its inputs, then the arrays it fills, and returns nothing.
Inputs are never changed unless the caller passes one of them as output too, which the elementwise ops allow.
A backend may replace an op by a kernel of the same name (see `fastmlp.backends.base.Ops`).
"""

from __future__ import annotations

from typing import Any

from fastmlp.backends.base import Array, Ops, made_of
from fastmlp.network.optimizers import BETA_1, BETA_2, EPSILON

Namespace = Any


def gather(xp: Namespace, source: Array, index: Array, out: Array) -> None:
    """out (m, ...) = the rows of source (n, ...) that index int64 (m,) names."""
    out[...] = xp.take(source, index, axis=0)


def standardize(xp: Namespace, features: Array, mean: Array, scale: float, out: Array) -> None:
    """out (m, n) = (features - mean (n,)) * scale; out may be features."""
    out[...] = (features - mean) * scale


def matmul(xp: Namespace, a: Array, b: Array, out: Array) -> None:
    """out (m, n) = a (m, k) times b (k, n); either may be a transposed view."""
    out[...] = xp.matmul(a, b)


def add_bias(xp: Namespace, z: Array, bias: Array, out: Array) -> None:
    """out (m, n) = z (m, n) + bias (n,); out may be z."""
    out[...] = z + bias


def bias_relu(xp: Namespace, z: Array, bias: Array, out: Array) -> None:
    """out (m, n) = max(z + bias, 0), NaN kept; out may be z."""
    biased = z + bias
    out[...] = xp.where(biased < 0, xp.zeros_like(biased), biased)


def relu_backward(xp: Namespace, gradient: Array, activation: Array, out: Array) -> None:
    """out (m, n) = gradient * (activation > 0); out may be gradient. A product, so NaN in the gradient stays."""
    out[...] = gradient * xp.astype(activation > 0, gradient.dtype)


def column_sum(xp: Namespace, values: Array, out: Array) -> None:
    """out (n,) = the sum of values (m, n) over its rows."""
    out[...] = xp.sum(values, axis=0)


@made_of(matmul, add_bias)
def dense(ops: Ops, a: Array, weight: Array, bias: Array, out: Array) -> None:
    """out (m, n) = a (m, k) times weight (k, n) + bias (n,): a layer's forward pass."""
    ops.matmul(a, weight, out)
    ops.add_bias(out, bias, out)


@made_of(matmul, bias_relu)
def dense_relu(ops: Ops, a: Array, weight: Array, bias: Array, out: Array) -> None:
    """out (m, n) = max(a (m, k) times weight (k, n) + bias (n,), 0), NaN kept."""
    ops.matmul(a, weight, out)
    ops.bias_relu(out, bias, out)


@made_of(matmul, relu_backward)
def dense_backward(ops: Ops, delta: Array, weight: Array, activation: Array, out: Array) -> None:
    """out (m, n) = delta (m, k) times weight (k, n), a layer's transposed weights, * (activation (m, n) > 0)."""
    ops.matmul(delta, weight, out)
    ops.relu_backward(out, activation, out)


@made_of(matmul, column_sum)
def dense_gradients(ops: Ops, inputs: Array, delta: Array, weight_gradient: Array, bias_gradient: Array) -> None:
    """weight_gradient (k, n) = inputs (k, m), a layer's transposed inputs, times delta (m, n); bias_gradient (n,) = the
    sum of delta over its rows."""
    ops.matmul(inputs, delta, weight_gradient)
    ops.column_sum(delta, bias_gradient)


def softmax_xent(xp: Namespace, logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    """Softmax, cross-entropy and its gradient in one pass.

    logits (m, c), labels int64 (m,). Fills gradient (m, c) = (softmax - onehot) / m, loss (1,) = the sum over rows of
    -log softmax[label], and hits int64 (1,) = how many rows have their first largest logit at the label. gradient may
    be logits. A row with NaN counts as a miss.
    """
    rows, classes = logits.shape
    largest = xp.max(logits, axis=1, keepdims=True)
    shifted = logits - largest
    exponentials = xp.exp(shifted)
    sums = xp.sum(exponentials, axis=1, keepdims=True)
    is_label = labels[:, None] == xp.arange(classes, dtype=labels.dtype, device=logits.device)[None, :]
    at_label = xp.sum(xp.where(is_label, shifted, xp.zeros_like(shifted)), axis=1)
    hit = (xp.argmax(logits, axis=1) == labels) & ~xp.isnan(largest[:, 0])
    loss[...] = xp.sum(xp.log(sums[:, 0]) - at_label)
    hits[...] = xp.sum(xp.astype(hit, labels.dtype))
    gradient[...] = (exponentials / sums - xp.astype(is_label, logits.dtype)) / max(rows, 1)


def weighted_softmax_xent(
    xp: Namespace, logits: Array, labels: Array, weights: Array, gradient: Array, loss: Array, hits: Array
) -> None:
    """softmax_xent with a weight (m,) for each row's loss, and so for its gradient; hits are counted without."""
    classes = logits.shape[1]
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    is_label = labels[:, None] == xp.arange(classes, dtype=labels.dtype, device=logits.device)[None, :]
    at_label = xp.sum(xp.where(is_label, shifted, xp.zeros_like(shifted)), axis=1)
    losses = xp.log(xp.sum(xp.exp(shifted), axis=1)) - at_label
    softmax_xent(xp, logits, labels, gradient, loss, hits)
    loss[...] = xp.sum(weights * losses)
    gradient[...] = gradient * weights[:, None]


def sgd_update(
    xp: Namespace, parameter: Array, gradient: Array, learning_rate: float, decay: float, out: Array
) -> None:
    """out = decay * parameter - learning_rate * gradient, any shape; out may be parameter."""
    out[...] = (parameter if decay == 1 else decay * parameter) - learning_rate * gradient


def adam_update(
    xp: Namespace,
    parameter: Array,
    gradient: Array,
    first: Array,
    second: Array,
    step_size: float,
    scale: float,
    decay: float,
    out: Array,
    out_first: Array,
    out_second: Array,
) -> None:
    """One step of Adam, any shape; each output may be the input of its kind.

    out_first = beta_1 first + (1 - beta_1) gradient; out_second = beta_2 second + (1 - beta_2) gradient^2;
    out = decay * parameter - step_size * out_first / (sqrt(out_second) * scale + epsilon).
    """
    out_first[...] = BETA_1 * first + (1 - BETA_1) * gradient
    out_second[...] = BETA_2 * second + (1 - BETA_2) * (gradient * gradient)
    kept = parameter if decay == 1 else decay * parameter
    out[...] = kept - step_size * (out_first / (xp.sqrt(out_second) * scale + EPSILON))


OPS = {
    op.__name__: op
    for op in (
        gather, standardize, matmul, add_bias, bias_relu, relu_backward, column_sum, dense, dense_relu,
        dense_backward, dense_gradients, softmax_xent, weighted_softmax_xent, sgd_update, adam_update,
    )
}  # fmt: skip
FUSED = ("bias_relu", "relu_backward", "softmax_xent")  # and the optimizer's update
