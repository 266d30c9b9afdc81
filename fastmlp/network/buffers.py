"""The device arrays that a network trains in: its parameters and their companions, and what one batch needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend


class Flat:
    """Copies of host arrays on a device, one after another in one array `flat` (n,), which one call of an op covers.

    `views` are the arrays in their shapes: what is written to them is in `flat`, and the other way round.
    """

    def __init__(self, backend: Backend, arrays: Sequence[NDArray[Any]]) -> None:
        self.flat = backend.asarray(np.concatenate([array.ravel() for array in arrays]))
        self.views: list[Array] = []
        start = 0
        for array in arrays:
            part = self.flat[start : start + array.size]
            self.views.append(backend.xp.reshape(part, array.shape))
            start += array.size


class Group:
    """All weights, or all biases, of a network: their values, gradients and the optimizer's moments, each in one go."""

    def __init__(self, backend: Backend, values: Sequence[NDArray[Any]], moments: int) -> None:
        zeros = [np.zeros_like(value) for value in values]
        self.values, self.gradients = Flat(backend, values), Flat(backend, zeros)
        self.moments = [Flat(backend, zeros) for _ in range(moments)]


class Workspace:
    """The activations, gradients, labels and weights of one batch of m rows, and the views a step needs of them."""

    def __init__(self, activations: list[Array], deltas: list[Array], labels: Array, weights: Array) -> None:
        self.activations, self.deltas, self.labels, self.weights = activations, deltas, labels, weights
        self.transposed = [activation.T for activation in activations]

    def rows(self, m: int) -> Workspace:
        activations, deltas = ([part[:m, ...] for part in parts] for parts in (self.activations, self.deltas))
        return Workspace(activations, deltas, self.labels[:m], self.weights[:m])
