"""What a network of any activation and output minimises: the mean loss over rows, with an L2 penalty; its gradients.

The seed's network, in `fastmlp.network.network`, is the special one with ReLU, softmax and cross-entropy. Here the
hidden layers have one of four activations, and the output predicts classes, labels, numbers or counts:

    output        predicts                      loss                half of it, or all
    softmax       one class of several          log_loss
    logistic      n times yes or no             binary_log_loss
    identity      n numbers                     squared_error       half, and the mean over the n
    exponential   n counts, by their logarithm  poisson_deviance    half

Each output is the one by which the gradient of its loss is predictions - targets. The penalty is alpha / 2 times the
sum of the squared weights, not biases, over the sum of the rows' weights. The squared error is reported as a mean over
the n numbers, but its gradient is that of their sum: so it is in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp.backends.base import Array, Backend
from fastmlp.common.errors import UsageError
from fastmlp.network.buffers import ParameterGroup
from fastmlp.network.forward import Forward
from fastmlp.network.inputs import Rows
from fastmlp.network.optimizers import SGD, Optimizer
from fastmlp.network.parameters import Parameters
from fastmlp.network.trainer import FLOPS_WORTH_THREADS

NO_WEIGHT = "All rows of a batch have weight 0: leave such rows out, or choose a larger batch_size."
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
LOSSES = {
    "softmax": "log_loss",
    "logistic": "binary_log_loss",
    "identity": "squared_error",
    "exponential": "poisson_deviance",
}


@dataclass(frozen=True)
class Layers:
    """What a batch of m rows fills: the activations (m, n) of every layer behind the inputs, their gradients, and the
    losses of the last one's numbers."""

    activations: Sequence[Array]
    deltas: Sequence[Array]
    losses: Array


class Objective:
    """The penalised mean loss of a network on a backend's device. Not to be shared between threads."""

    def __init__(
        self,
        parameters: Parameters,
        backend: Backend,
        activation: str,
        output: str,
        alpha: float = 0.0,
        optimizer: Optimizer | None = None,
    ) -> None:
        self.backend, self.ops, self.dtype, self.sizes = (
            backend,
            backend.network_ops,
            parameters.dtype,
            parameters.sizes,
        )
        self.activation, self.output, self.alpha = activation, output, alpha
        self.least = float(np.finfo(self.dtype).eps) if "log" in LOSSES[output] else 0.0  # probability in a loss
        self.optimizer = SGD() if optimizer is None else optimizer
        moments = len(self.optimizer.moments)
        self._all = ParameterGroup.of(backend, [*parameters.weights, *parameters.biases], moments)
        self.weights, self.biases = self._all.split(len(parameters.weights))
        self.forward = Forward(backend, self.weights.values, self.biases.values, activation, output)
        self._squares = [_square_of(weight, backend, self.dtype) for weight in self.weights.values]
        self._layers: dict[int, Layers] = {}
        self.memory: dict[Any, Any] = {}  # of fused epochs

    @property
    def parameters(self) -> Parameters:
        """The weights and biases as they are now, copied to the host."""
        host = self.backend.to_numpy
        weights, biases = ([np.array(host(array)) for array in group.values] for group in (self.weights, self.biases))
        return Parameters(tuple(weights), tuple(biases))

    def threading(self, rows: int) -> AbstractContextManager[Any]:
        """One thread for steps of so many rows if their products are small, as `Trainer` has it."""
        largest = 2 * rows * max(fan_in * fan_out for fan_in, fan_out in pairwise(self.sizes))
        return self.backend.one_thread() if largest < FLOPS_WORTH_THREADS else nullcontext()

    def update(self, coefficients: Sequence[float]) -> None:
        """One step of the optimizer along the gradients."""
        group = self._all
        self.ops.update(self.optimizer, group.slots, group.gradient, coefficients, False, group.slots)

    def gradients(self, rows: Rows, loss: Array) -> None:
        """Fill the gradients of the objective over those rows, and loss (1,) by its value.

        Raises UsageError if the rows' weights sum to 0.
        """
        total = rows.total
        if total == 0:
            raise UsageError(NO_WEIGHT)
        layers = self._layers_for(rows.inputs.rows)
        self.forward.fill(rows.inputs, layers.activations)
        loss[...] = self._loss(layers, rows) + self._penalty(total)
        self._backward(layers, rows)
        for group, alpha in ((self.weights, self.alpha), (self.biases, 0.0)):
            self.ops.penalized_mean(group.gradient, group.slots[0, ...], alpha, total, group.gradient)

    # The loss.

    def _loss(self, layers: Layers, rows: Rows) -> Array:
        """The mean over the rows, each by its weight."""
        predictions, losses, xp = layers.activations[-1], layers.losses, self.backend.xp
        bounds = (self.least,) if self.least > 0 else ()
        getattr(self.ops, LOSSES[self.output])(predictions, rows.targets, *bounds, losses)
        if rows.weights is not None:
            self.ops.weigh_rows(losses, rows.weights, losses)
        means = xp.sum(losses, axis=0) / rows.total
        return xp.mean(means) if self.output == "identity" else xp.sum(means)

    def _penalty(self, total: float) -> Array:
        for row, column, square in self._squares:
            self.ops.matmul(row, column, square)
        return self.alpha / 2 * sum(square[0, 0] for _, _, square in self._squares) / total

    # Backward.

    def _backward(self, layers: Layers, rows: Rows) -> None:
        """Fill the sums over rows of each one's gradients."""
        ops, deltas, activations = self.ops, layers.deltas, layers.activations
        ops.residual(activations[-1], rows.targets, deltas[-1])
        if rows.weights is not None:
            ops.weigh_rows(deltas[-1], rows.weights, deltas[-1])
        for layer in reversed(range(1, len(deltas))):
            inputs, delta = activations[layer - 1], deltas[layer]
            ops.dense_gradients(inputs.T, delta, self.weights.gradients[layer], self.biases.gradients[layer])
            ops.matmul(delta, self.weights.values[layer].T, deltas[layer - 1])
            if self.activation != "identity":
                getattr(ops, f"{self.activation}_backward")(deltas[layer - 1], inputs, deltas[layer - 1])
        rows.inputs.transposed_times(deltas[0], self.weights.gradients[0])
        ops.column_sum(deltas[0], self.biases.gradients[0])

    def _layers_for(self, m: int) -> Layers:
        if m not in self._layers:
            activations, deltas = (self.forward.memory(m, self.dtype) for _ in range(2))
            self._layers[m] = Layers(activations, deltas, self.backend.empty((m, self.sizes[-1]), self.dtype))
        return self._layers[m]


def _square_of(weight: Array, backend: Backend, dtype: str) -> tuple[Array, Array, Array]:
    """The numbers of a weight as a row and as a column, and memory for their product (1, 1)."""
    row, column = (backend.xp.reshape(weight, shape) for shape in ((1, -1), (-1, 1)))
    return row, column, backend.empty((1, 1), dtype)
