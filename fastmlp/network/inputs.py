"""Rows that a network learns from: features, dense on the device or sparse on the host, and what to predict of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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

    def take(self, index: Index) -> Inputs:
        """Those rows."""

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

    def take(self, index: Index) -> DenseInputs:
        return DenseInputs(self.backend, taken(self.backend, self.features, index))


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

    def take(self, index: Index) -> SparseInputs:
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

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.inputs.rows if self.host_weights is None else self.host_weights.sum())

    def take(self, index: Index) -> Rows:
        """Those rows."""
        inputs, targets = self.inputs.take(index), taken(self.backend, self.targets, index)
        if self.weights is None or self.host_weights is None:
            return Rows(self.backend, inputs, targets)
        weights = taken(self.backend, self.weights, index)
        return Rows(self.backend, inputs, targets, weights, self.host_weights[index])

    def batches(self, order: Index, size: int) -> Iterator[Rows]:
        """The rows in that order, so many at a time."""
        return (self.take(order[start : start + size]) for start in range(0, len(order), size))


def inputs_of(backend: Backend, features: Any, dtype: str) -> Inputs:
    """Features (m, d), an array or one of SciPy's sparse ones, as a network of that dtype on the backend takes them."""
    if hasattr(features, "tocsr"):
        return SparseInputs(backend, features.tocsr().astype(dtype, copy=False))
    return DenseInputs(backend, backend.asarray(np.ascontiguousarray(features, dtype)))


def taken(backend: Backend, source: Array, index: Index) -> Array:
    """The rows of source (n, ...) that index names."""
    return backend.xp.take(source, backend.asarray(index), axis=0)
