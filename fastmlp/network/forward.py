"""What a network of any activation and output answers: its forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.network.evaluation import ROWS
from fastmlp.network.inputs import Inputs, inputs_of


class Forward:
    """The layers of a network on a backend's device, bound to weights (k, n) and biases (n,), which may change."""

    def __init__(
        self, backend: Backend, weights: Sequence[Array], biases: Sequence[Array], activation: str, output: str
    ) -> None:
        self._backend, self._ops, self._weights = backend, backend.network_ops, weights
        activations = [activation] * (len(weights) - 1) + [output]
        self._layers = list(zip(weights, biases, activations, strict=True))

    def memory(self, rows: int, dtype: str) -> list[Array]:
        """Of every layer's activations (m, n) for so many rows, not set."""
        return [self._backend.empty((rows, weight.shape[1]), dtype) for weight in self._weights]

    def fill(self, inputs: Inputs, activations: Sequence[Array]) -> None:
        """The activations (m, n) of every layer behind the inputs."""
        for layer, ((weight, bias, activation), out) in enumerate(zip(self._layers, activations, strict=True)):
            if layer == 0:
                inputs.times(weight, out)
            else:
                self._ops.matmul(activations[layer - 1], weight, out)
            self._activate(out, bias, activation)

    def answers(self, features: Any, dtype: str) -> NDArray[Any]:
        """Those of the last layer (m, n), on the host, for features (m, d) there, dense or sparse."""
        features = features.tocsr() if hasattr(features, "tocsr") else features
        count = features.shape[0]
        answers = np.empty((count, self._weights[-1].shape[1]), dtype)
        memory = self.memory(min(ROWS, count), dtype)
        for start in range(0, count, ROWS):
            inputs = inputs_of(self._backend, features[start : start + ROWS], dtype)
            if inputs.rows < memory[0].shape[0]:
                memory = [array[: inputs.rows, ...] for array in memory]
            self.fill(inputs, memory)
            answers[start : start + ROWS] = self._backend.to_numpy(memory[-1])
        return answers

    def _activate(self, z: Array, bias: Array, activation: str) -> None:
        """z = the activation of z + bias."""
        if activation == "relu":
            self._ops.bias_relu(z, bias, z)
            return
        self._ops.add_bias(z, bias, z)
        if activation != "identity":
            getattr(self._ops, activation)(z, z)
