"""Training of a network of any activation, output and penalty, written from its equations.

    Z = A W + b    A' = f(Z)    P = g(Z of the last layer)
    objective = (sum of w loss(P, T) + alpha / 2 |W|^2) / sum of w

Everything is computed in the parameters' own dtype: see `reference.training`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Integers = NDArray[np.int64]
Step = Callable[[list[Floats], Floats, float, int], list[Floats]]  # slots, gradient, learning rate, number from 1

ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "exponential": np.exp,
    "softmax": lambda z: (
        np.exp(z - z.max(axis=1, keepdims=True)) / np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
    ),
}
DERIVATIVES: dict[str, Callable[[Floats], Floats]] = {  # from the activation's value
    "identity": np.ones_like,
    "relu": lambda a: (a > 0).astype(a.dtype),
    "logistic": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - a**2,
}


def loss_of_rows(output: str, p: Floats, t: Floats) -> Floats:
    """The loss of each row (m,), given predictions and targets (m, n)."""
    least = np.finfo(p.dtype).eps
    if output == "identity":
        return ((p - t) ** 2 / 2).mean(axis=1)
    if output == "exponential":
        return (t * np.log(np.where(t > 0, t, 1) / np.where(t > 0, p, 1)) - t + p).sum(axis=1)
    yes, no = np.log(np.clip(p, least, 1 - least)), np.log(np.clip(1 - p, least, 1 - least))
    return -(t * yes).sum(axis=1) if output == "softmax" else -(t * yes + (1 - t) * no).sum(axis=1)


class Descent:
    """A network in training: slots of each layer's weight and bias, the value and then the moments, zero at first."""

    def __init__(
        self,
        weights: Sequence[Floats],
        biases: Sequence[Floats],
        moments: int,
        activation: str,
        output: str,
        alpha: float,
    ) -> None:
        def slots(values: Sequence[Floats]) -> list[list[Floats]]:
            return [[value, *[np.zeros_like(value)] * moments] for value in values]

        self.weights, self.biases, self.steps = slots(weights), slots(biases), 0
        self.activation, self.output, self.alpha = activation, output, alpha

    def train_epoch(
        self, features: Floats, targets: Floats, weights: Floats, order: Integers, size: int, step: Step, rate: float
    ) -> float:
        """The mean of the batches' objectives, each as often as it has rows."""
        total = 0.0
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            total += len(batch) * self._train_batch(features[batch], targets[batch], weights[batch], step, rate)
        return total / len(order)

    def _train_batch(self, x: Floats, t: Floats, w: Floats, step: Step, rate: float) -> float:
        inputs, count = [x], len(self.weights)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            f = ACTIVATIONS[self.output if layer == count - 1 else self.activation]
            inputs.append(f(inputs[-1] @ weight[0] + bias[0]))
        p, sum_of_weights = inputs[-1], w.sum()
        penalty = self.alpha / 2 * sum((weight[0] ** 2).sum() for weight in self.weights)
        objective = (w @ loss_of_rows(self.output, p, t) + penalty) / sum_of_weights
        self.steps += 1
        delta = (p - t) * w[:, None]
        for layer in reversed(range(count)):
            weight, bias = self.weights[layer], self.biases[layer]
            gradient = (inputs[layer].T @ delta + self.alpha * weight[0]) / sum_of_weights
            bias_gradient = delta.sum(axis=0) / sum_of_weights
            delta = delta @ weight[0].T * DERIVATIVES[self.activation](inputs[layer])
            self.weights[layer] = step(weight, gradient, rate, self.steps)
            self.biases[layer] = step(bias, bias_gradient, rate, self.steps)
        return float(objective)


def velocity(momentum: float, nesterov: bool) -> Step:
    """scikit-learn's gradient descent with momentum."""

    def step(slots: list[Floats], gradient: Floats, rate: float, number: int) -> list[Floats]:
        value, before = slots
        after = momentum * before - rate * gradient
        return [value + (momentum * after - rate * gradient if nesterov else after), after]

    return step


def adam(beta_1: float, beta_2: float, epsilon: float) -> Step:
    """The form at the end of section 2 of Kingma and Ba (2015), in which scikit-learn has it."""

    def step(slots: list[Floats], gradient: Floats, rate: float, number: int) -> list[Floats]:
        value, first, second = slots
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        size = rate * np.sqrt(1 - beta_2**number) / (1 - beta_1**number)
        return [value - size * first / (np.sqrt(second) + epsilon), first, second]

    return step
