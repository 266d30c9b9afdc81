"""The multi-layer perceptron: forward, backward and update, by the paper's equations.

    m   rows in a batch     A0 (m, d)   features        W1 (d, h)   b1 (h,)   weights and biases of layer 1
    d   inputs              Z1 (m, h)   before ReLU     W2 (h, c)   b2 (c,)   weights and biases of layer 2
    h   hidden units        A1 (m, h)   after ReLU      Y  (m, c)   labels, one-hot
    c   classes             Z2 (m, c)   logits          A2 (m, c)   probabilities, softmax(Z2)

dX stands for the gradient of the mean loss over the batch with respect to X. The equations are for one hidden layer; a
network may have any number of them, none included, and repeats layer 1's. Ops are in `fastmlp.ops.network`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.network.buffers import Batch, ParameterGroup
from fastmlp.network.optimizers import SGD, Optimizer
from fastmlp.network.parameters import Parameters
from fastmlp.ops.network import NetworkOps


class Network:
    """Parameters on a backend's device, and the three parts of a training step. Not to be shared between threads."""

    def __init__(
        self,
        parameters: Parameters,
        backend: Backend,
        optimizer: Optimizer | None = None,
        ops: NetworkOps | None = None,
    ) -> None:
        self.backend, self.sizes, self.dtype = backend, parameters.sizes, parameters.dtype
        self.optimizer = SGD() if optimizer is None else optimizer
        self.ops = backend.network_ops if ops is None else ops
        self.weights = ParameterGroup.of(backend, parameters.weights, len(self.optimizer.moments))
        self.biases = ParameterGroup.of(backend, parameters.biases, len(self.optimizer.moments))
        self.transposed_weights = [weight.T for weight in self.weights.values]
        self.mean: Array | None = None  # of the features (d,), where they are standardised
        self.scale = 1.0

    def standardize(self, mean: NDArray[np.float64], scale: float) -> None:
        """Train on (features - mean) * scale from now on; mean (d,). `parameters` stay those for plain features."""
        self.mean, self.scale = self.backend.asarray(mean.astype(self.dtype)), float(scale)

    @property
    def parameters(self) -> Parameters:
        """The weights and biases as they are now, for plain features, copied to the host."""
        host = self.backend.to_numpy
        weights, biases = ([np.array(host(array)) for array in group.values] for group in (self.weights, self.biases))
        parameters = Parameters(tuple(weights), tuple(biases))
        return parameters if self.mean is None else parameters.for_plain_features(host(self.mean), self.scale)

    # A training step.

    def load(self, batch: Batch, features: Array, labels: Array, weights: Array | None, index: Array) -> None:
        """Fill A0, the labels and the losses' weights, if any, by the rows that index int64 (m,) names."""
        self.ops.gather(features, index, batch.activations[0])
        self.ops.gather(labels, index, batch.labels)
        if weights is not None:
            self.ops.gather(weights, index, batch.weights)
        if self.mean is not None:
            self.ops.standardize(batch.activations[0], self.mean, self.scale, batch.activations[0])

    def forward(self, activations: Sequence[Array], weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Fill A1 and Z2, activations[1:], from A0, activations[0]."""
        last = len(weights) - 1
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            inputs, out = activations[layer], activations[layer + 1]
            if layer < last:
                self.ops.dense_relu(inputs, weight, bias, out)  # A1 = ReLU(A0 W1 + b1)
            else:
                self.ops.dense(inputs, weight, bias, out)  # Z2 = A1 W2 + b2

    def loss(self, batch: Batch, weighted: bool, smoothing: float, loss: Array, hits: Array) -> None:
        """Fill dZ2, the last delta, the batch's sum of losses (1,) and its hits int64 (1,); see `softmax_xent`.

        smoothing: of the labels, see `smooth_labels`.
        """
        logits, delta = batch.activations[-1], batch.deltas[-1]
        if weighted:
            self.ops.weighted_softmax_xent(logits, batch.labels, batch.weights, delta, loss, hits)
        else:
            self.ops.softmax_xent(logits, batch.labels, delta, loss, hits)  # dZ2 = (softmax(Z2) - Y) / m
        if smoothing:
            weights = batch.weights if weighted else self.backend.xp.ones_like(batch.weights)
            self.ops.smooth_labels(logits, batch.labels, weights, smoothing, delta, loss, delta, loss)

    def backward(self, batch: Batch) -> None:
        """Fill all gradients from the activations and the last delta, dZ2, which carries the 1 / m."""
        for layer in reversed(range(len(self.sizes) - 1)):
            inputs, delta = batch.transposed[layer], batch.deltas[layer]
            weight_gradient, bias_gradient = self.weights.gradients[layer], self.biases.gradients[layer]
            self.ops.dense_gradients(inputs, delta, weight_gradient, bias_gradient)  # dW2 = A1' dZ2, db2 = sum of dZ2
            if layer > 0:
                weight, activation = self.transposed_weights[layer], batch.activations[layer]
                self.ops.dense_backward(delta, weight, activation, batch.deltas[layer - 1])  # dZ1 = dZ2 W2' * (A1 > 0)

    def update(self, coefficients: Any) -> None:
        """One step of the optimizer by its coefficients: W -= rate dW, or what another optimizer makes of dW."""
        for group, decays in ((self.weights, True), (self.biases, False)):
            self.ops.update(self.optimizer, group.slots, group.gradient, coefficients, decays, group.slots)
