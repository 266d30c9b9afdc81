"""The ops of the network, from their equations. Arrays of floats are float64; each op returns its outputs by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Outputs = dict[str, NDArray[Any]]


# The rows of a batch.


def gather(source: NDArray[Any], index: Integers) -> Outputs:
    out = np.empty((len(index), *source.shape[1:]), source.dtype)
    for i, row in enumerate(index.tolist()):
        out[i] = source[row]
    return {"out": out}


def standardize(features: Floats, mean: Floats, scale: float) -> Outputs:
    return {"out": scale * (features - mean)}


# A layer.


def matmul(a: Floats, b: Floats) -> Outputs:
    return {"out": a @ b}


def add_bias(z: Floats, bias: Floats) -> Outputs:
    return {"out": z + bias}


def bias_relu(z: Floats, bias: Floats) -> Outputs:
    return {"out": np.maximum(z + bias, 0)}


def dense(a: Floats, weight: Floats, bias: Floats) -> Outputs:
    return {"out": a @ weight + bias}


def dense_relu(a: Floats, weight: Floats, bias: Floats) -> Outputs:
    return {"out": np.maximum(a @ weight + bias, 0)}


def relu_backward(gradient: Floats, activation: Floats) -> Outputs:
    return {"out": gradient * (activation > 0)}


def column_sum(values: Floats) -> Outputs:
    return {"out": values.sum(axis=0)}


def dense_backward(delta: Floats, weight: Floats, activation: Floats) -> Outputs:
    return {"out": delta @ weight * (activation > 0)}


def dense_gradients(inputs: Floats, delta: Floats) -> Outputs:
    return {"weight_gradient": inputs @ delta, "bias_gradient": delta.sum(axis=0)}


def logistic(z: Floats) -> Outputs:
    return {"out": (1 + np.tanh(z / 2)) / 2}


def tanh(z: Floats) -> Outputs:
    return {"out": np.tanh(z)}


def exponential(z: Floats) -> Outputs:
    return {"out": np.exp(z)}


def softmax(logits: Floats) -> Outputs:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return {"out": exponentials / exponentials.sum(axis=1, keepdims=True)}


def logistic_backward(gradient: Floats, activation: Floats) -> Outputs:
    return {"out": gradient * (activation * (1 - activation))}


def tanh_backward(gradient: Floats, activation: Floats) -> Outputs:
    return {"out": gradient * ((1 - activation) * (1 + activation))}


# Losses of predictions.


def squared_error(predictions: Floats, targets: Floats) -> Outputs:
    return {"losses": 0.5 * (targets - predictions) ** 2}


def log_loss(probabilities: Floats, targets: Floats, least: float) -> Outputs:
    return {"losses": targets * -np.log(probabilities.clip(least, 1 - least))}


def binary_log_loss(probabilities: Floats, targets: Floats, least: float) -> Outputs:
    yes = probabilities.clip(least, 1 - least)
    return {"losses": targets * -np.log(yes) + (1 - targets) * -np.log1p(-yes)}


def poisson_deviance(predictions: Floats, targets: Floats) -> Outputs:
    logarithms = np.where(targets == 0, 0, np.log(targets) - np.log(predictions))
    return {"losses": targets * logarithms - targets + predictions}


def residual(predictions: Floats, targets: Floats) -> Outputs:
    return {"out": predictions - targets}


def weigh_rows(values: Floats, weights: Floats) -> Outputs:
    return {"out": (values.T * weights).T}


def penalized_mean(sums: Floats, values: Floats, alpha: float, total: float) -> Outputs:
    return {"out": sums / total + alpha / total * values}


# The loss.


def softmax_xent(logits: Floats, labels: Integers) -> Outputs:
    return weighted_softmax_xent(logits, labels, np.ones(len(labels)))


def weighted_softmax_xent(logits: Floats, labels: Integers, weights: Floats) -> Outputs:
    """The loss of a row is log(sum(exp z)) - z[label], its gradient exp z / sum(exp z) - onehot, over the rows."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1)
    gradient = exponentials / sums[:, None]
    gradient[rows, labels] -= 1
    losses = np.log(sums) - shifted[rows, labels]
    return {
        "gradient": gradient * weights[:, None] / max(len(labels), 1),
        "loss": np.array([np.sum(weights * losses)]),
        "hits": np.array([np.sum(_first_largest_at(labels, logits))], np.int64),
    }


def softmax_residuals(logits: Floats, is_label: NDArray[np.bool_]) -> Outputs:
    """The same of logits (s, c, m), losses by row and gradients neither summed nor averaged; what other classes have of
    a probability of 1 is added up, never subtracted from 1."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    of_label = np.where(is_label, exponentials, 0).sum(axis=1)
    of_others = np.where(is_label, 0, exponentials).sum(axis=1)
    sums = of_label + of_others
    residuals = np.where(is_label, -of_others[:, None], exponentials) / sums[:, None]
    return {"losses": np.log1p(of_others / of_label), "residuals": residuals}


def smooth_labels(
    logits: Floats, labels: Integers, weights: Floats, smoothing: float, gradient: Floats, loss: Floats
) -> Outputs:
    """Labels (1 - s) onehot + s / c in place of onehot: a row's loss changes by s (z[label] - mean z), its gradient by
    s (onehot - 1 / c)."""
    rows, classes = logits.shape
    lead = np.mean(logits[np.arange(rows), labels][:, None] - logits, axis=1)
    change = np.full((rows, classes), -1 / classes)
    change[np.arange(rows), labels] += 1
    return {
        "smoothed_gradient": gradient + smoothing * change * weights[:, None] / max(rows, 1),
        "smoothed_loss": loss + smoothing * np.sum(weights * lead),
    }


def _first_largest_at(labels: Integers, logits: Floats) -> NDArray[np.bool_]:
    """Whether a row (m, c) is smaller before its label (m,), and nowhere larger: with a NaN it is neither."""
    at_label = logits[np.arange(len(labels)), labels][:, None]
    before = np.arange(logits.shape[1]) < labels[:, None]
    return np.all(np.where(before, logits < at_label, logits <= at_label), axis=1)


# The optimizers' steps on slots (1 + moments, n): the values, then each moment. `kept` is what weight decay leaves of a
# value, `step` counts from 1.


def sgd(slots: Floats, gradient: Floats, *, step: int, rate: float, kept: float) -> Floats:
    return np.stack([kept * slots[0] - rate * gradient])


def momentum(
    slots: Floats, gradient: Floats, *, step: int, rate: float, kept: float, momentum: float, nesterov: bool
) -> Floats:
    """Sutskever et al. (2013), section 2, in the form that PyTorch uses."""
    value, velocity = slots
    velocity = momentum * velocity + gradient
    direction = gradient + momentum * velocity if nesterov else velocity
    return np.stack([kept * value - rate * direction, velocity])


def adam(
    slots: Floats,
    gradient: Floats,
    *,
    step: int,
    rate: float,
    kept: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> Floats:
    """Kingma and Ba (2015), algorithm 1; weight decay by Loshchilov and Hutter (2019), algorithm 2."""
    value, first, second = slots
    first = beta_1 * first + (1 - beta_1) * gradient
    second = beta_2 * second + (1 - beta_2) * gradient**2
    unbiased_first = first / (1 - beta_1**step)
    unbiased_second = second / (1 - beta_2**step)
    return np.stack([kept * value - rate * unbiased_first / (np.sqrt(unbiased_second) + epsilon), first, second])
