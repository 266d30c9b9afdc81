"""Rows that a network learns from: features, dense on the device or sparse on the host, and what to predict of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend

Index = NDArray[np.int64]


class Inputs(Protocol):
    """Features (m, d), of which a network needs two products."""

    def times(self, weight: Array, out: Array) -> None:
        """out (m, n) = the features times weight (d, n)."""

    def transposed_times(self, delta: Array, out: Array) -> None:
        """out (d, n) = the transposed features times delta (m, n)."""

    def memory(self, rows: int) -> Inputs:
        """What `take` may fill with that many rows."""

    def take(self, index: Index, on_device: Array, memory: Inputs) -> Inputs:
        """The rows of an index, given on the host and on the device."""

    @property
    def rows(self) -> int: ...


@dataclass(frozen=True)
class DenseInputs:
    """Features (m, d) on the backend's device."""

    backend: Backend
    features: Array

    @property
    def rows(self) -> int:
        return int(self.features.shape[0])

    def times(self, weight: Array, out: Array) -> None:
        self.backend.network_ops.matmul(self.features, weight, out)

    def transposed_times(self, delta: Array, out: Array) -> None:
        self.backend.network_ops.matmul(self.features.T, delta, out)

    def memory(self, rows: int) -> Inputs:
        return DenseInputs(self.backend, _like(self.backend, self.features, rows))

    def take(self, index: Index, on_device: Array, memory: Inputs) -> Inputs:
        assert isinstance(memory, DenseInputs)
        self.backend.network_ops.gather(self.features, on_device, memory.features)
        return memory


@dataclass(frozen=True)
class SparseInputs:
    """Features (m, d) as SciPy's sparse rows, which stay on the host: SciPy multiplies them there."""

    backend: Backend
    features: Any

    @property
    def rows(self) -> int:
        return int(self.features.shape[0])

    def times(self, weight: Array, out: Array) -> None:
        out[...] = self._product(self.features, weight)

    def transposed_times(self, delta: Array, out: Array) -> None:
        out[...] = self._product(self.features.T, delta)

    def _product(self, features: Any, other: Array) -> Array:
        return self.backend.asarray(features @ self.backend.to_numpy(other))

    def memory(self, rows: int) -> Inputs:
        return self  # SciPy's own

    def take(self, index: Index, on_device: Array, memory: Inputs) -> Inputs:
        return SparseInputs(self.backend, self.features[index])


@dataclass(frozen=True)
class Rows:
    """Inputs of m rows, their targets (m, n) on the device, and how much each one's loss counts (m,), or None.

    `weights` are on the device, `host_weights` the same on the host.
    """

    backend: Backend
    inputs: Inputs
    targets: Array
    weights: Array | None = None
    host_weights: NDArray[Any] | None = None

    @cached_property
    def labels(self) -> Array:
        """The class of each row (m,), if its targets are 1 there and else 0."""
        return self.backend.xp.argmax(self.targets, axis=1)

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.inputs.rows if self.host_weights is None else self.host_weights.sum())

    def batches(self, order: Index, size: int) -> Iterator[Rows]:
        """The rows in that order, so many at a time. Batches of one length share their memory: use one at once."""
        on_device = self.backend.split(self.backend.asarray(order), size)
        memory = self._memory(min(size, len(order)))
        for start, index in zip(range(0, len(order), size), on_device, strict=True):
            if index.shape[0] < memory.targets.shape[0]:
                memory = self._memory(index.shape[0])
            yield self._take(order[start : start + size], index, memory)

    def _memory(self, rows: int) -> Rows:
        targets, weights = (
            None if array is None else _like(self.backend, array, rows) for array in (self.targets, self.weights)
        )
        return Rows(self.backend, self.inputs.memory(rows), targets, weights)

    def _take(self, index: Index, on_device: Array, memory: Rows) -> Rows:
        gather = self.backend.network_ops.gather
        inputs = self.inputs.take(index, on_device, memory.inputs)
        gather(self.targets, on_device, memory.targets)
        if self.weights is None or self.host_weights is None:
            return Rows(self.backend, inputs, memory.targets)
        gather(self.weights, on_device, memory.weights)
        return Rows(self.backend, inputs, memory.targets, memory.weights, self.host_weights[index])


def inputs_of(backend: Backend, features: Any, dtype: str) -> Inputs:
    """Features (m, d), an array or one of SciPy's sparse ones, as a network of that dtype on the backend takes them."""
    if hasattr(features, "tocsr"):
        return SparseInputs(backend, features.tocsr().astype(dtype, copy=False))
    return DenseInputs(backend, backend.asarray(np.ascontiguousarray(features, dtype)))


def _like(backend: Backend, array: Array, rows: int) -> Array:
    """Memory for so many rows of an array (n, ...)."""
    return backend.xp.empty((rows, *array.shape[1:]), dtype=array.dtype, device=array.device)
