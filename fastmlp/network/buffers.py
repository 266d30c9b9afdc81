"""The device arrays that a network trains in: its parameters and what goes with them, and what one batch needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend


class ParameterGroup:
    """All weights, or all biases, or all of both, laid one after another, so that one call of an op covers them.

    slots (1 + moments, n): the values, then each moment of the optimizer's; gradient (n,). values, gradients and
    moments[k] are lists of views, an array of its own shape per layer.
    """

    def __init__(self, xp: Any, shapes: Sequence[tuple[int, ...]], slots: Array, gradient: Array) -> None:
        self._xp, self._shapes, self.slots, self.gradient = xp, shapes, slots, gradient
        self.values, *self.moments = (self._views(slots[slot, ...]) for slot in range(slots.shape[0]))
        self.gradients = self._views(gradient)

    @classmethod
    def of(cls, backend: Backend, values: Sequence[NDArray[Any]], moments: int) -> ParameterGroup:
        """Copies of those values on the device; moments and gradient are 0."""
        flat = np.concatenate([value.ravel() for value in values])
        slots = backend.asarray(np.stack([flat, *[np.zeros_like(flat)] * moments]))
        return cls(backend.xp, [value.shape for value in values], slots, backend.asarray(np.zeros_like(flat)))

    def split(self, layers: int) -> tuple[ParameterGroup, ParameterGroup]:
        """The first arrays, so many of them, and the rest, in the same memory."""
        count = sum(prod(shape) for shape in self._shapes[:layers])
        first = self._shapes[:layers], self.slots[:, :count], self.gradient[:count]
        rest = self._shapes[layers:], self.slots[:, count:], self.gradient[count:]
        return ParameterGroup(self._xp, *first), ParameterGroup(self._xp, *rest)

    def _views(self, flat: Array) -> list[Array]:
        ends = list(accumulate(prod(shape) for shape in self._shapes))
        starts = [0, *ends[:-1]]
        parts = zip(starts, ends, self._shapes, strict=True)
        return [self._xp.reshape(flat[start:end], shape) for start, end, shape in parts]


def slots_of(weights: ParameterGroup, biases: ParameterGroup) -> list[list[tuple[Array, Array]]]:
    """The values, and then each moment, of both: of each the weights and biases of every layer."""
    both = zip([weights.values, *weights.moments], [biases.values, *biases.moments], strict=True)
    return [list(zip(*layers, strict=True)) for layers in both]


class Batch:
    """What a step on m rows fills, layer by layer: see `Network`."""

    def __init__(self, activations: list[Array], deltas: list[Array], labels: Array, weights: Array) -> None:
        self.activations, self.deltas, self.labels, self.weights = activations, deltas, labels, weights
        self.transposed = [activation.T for activation in activations]

    @classmethod
    def new(cls, backend: Backend, rows: int, sizes: Sequence[int], dtype: str) -> Batch:
        activations = [backend.empty((rows, width), dtype) for width in sizes]
        deltas = [backend.empty((rows, width), dtype) for width in sizes[1:]]
        return cls(activations, deltas, backend.empty((rows,), "int64"), backend.empty((rows,), dtype))

    def first(self, m: int) -> Batch:
        """The same memory, for m rows."""
        activations, deltas = ([part[:m, ...] for part in parts] for parts in (self.activations, self.deltas))
        return Batch(activations, deltas, self.labels[:m], self.weights[:m])
