"""The objective of multinomial logistic regression, for several heads at once, and the basis in which it is minimised.

A head is an array (c, k): c classes, k coordinates, the last of which is the intercept. Its objective is the weighted
mean cross-entropy plus half its penalty times the sum of its squares, the intercepts' left out. The coordinates are
the features' principal components: an orthogonal change, so the penalty stays the same, and the Hessian's diagonal says
nearly all about its scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.ops.logistic import softmax_residuals

LOGITS = {"cpu": 2**20}  # of all heads at a time
LOGITS_ON_DEVICE = 2**26
LEAST_ROWS = 1024  # at a time: sums over fewer cost more than the products


@dataclass(frozen=True)
class Basis:
    """Centred features are (x - mean (d,)) @ axes (d, k - 1), both float64 on the device."""

    mean: Array
    axes: Array

    @classmethod
    def of(cls, xp: Any, features: Array, weights: Array) -> Basis:
        """The principal axes of features float64 (n, d) with weights (n,) of sum 1; only n of them if n < d."""
        mean = xp.matmul(weights, features)
        centred = features - mean
        span = xp.linalg.qr(centred.T)[0] if centred.shape[0] < centred.shape[1] else None
        inner = centred if span is None else xp.matmul(centred, span)
        axes = xp.linalg.eigh(xp.matmul(inner.T, inner * weights[:, None]))[1]
        return cls(mean, axes if span is None else xp.matmul(span, axes))

    def coordinates(self, xp: Any, features: Array) -> Array:
        """float64 (n, k): the components of features (n, d), and 1 for the intercept."""
        ones = xp.ones((features.shape[0], 1), dtype=features.dtype, device=features.device)
        return xp.concat([xp.matmul(features - self.mean, self.axes), ones], axis=1)

    def plain(self, xp: Any, head: Array) -> tuple[Array, Array]:
        """Weights (d, c) and biases (c,) for the features as they come."""
        weights = xp.matmul(self.axes, head[:, :-1].T)
        return weights, head[:, -1] - xp.matmul(self.mean, weights)


class Objective:
    """The objective on data that lie on a backend's device, in float32 and in float64.

    coordinates float64 (n, k), labels int64 (n,) in 0 .. classes - 1, weights float64 (n,) of sum 1.
    """

    def __init__(self, backend: Backend, coordinates: Array, labels: Array, classes: int, weights: Array) -> None:
        xp = self._xp = backend.xp
        self._backend, self._labels, self.classes = backend, labels, classes
        self._data = {dtype: (xp.astype(coordinates, dtype), xp.astype(weights, dtype)) for dtype in self._dtypes()}
        penalised = np.ones(coordinates.shape[1])
        penalised[-1] = 0
        self._penalised = backend.asarray(penalised)

    def _dtypes(self) -> Sequence[Any]:
        return self._xp.float32, self._xp.float64

    @property
    def shape(self) -> tuple[int, int]:
        """(c, k) of a head."""
        return self.classes, int(self._penalised.shape[0])

    def __call__(
        self, heads: Array, penalties: Array, precise: bool, curved: bool
    ) -> tuple[NDArray[np.float64], Array, Array | None]:
        """The objectives (s,), on the host, their gradients (s, c, k) and, if curved, the diagonals of their Hessians.

        heads float64 (s, c, k), penalties float64 (s,). Rows are gone through a few at a time, in float32 or, if
        precise, in float64; sums over them are float64.
        """
        xp, half = self._xp, penalties[:, None, None] * self._penalised
        losses, gradients, curvatures = self._over_rows(heads, precise, curved)
        losses = losses + xp.sum(half * heads**2, axis=(1, 2)) / 2
        gradients = gradients + half * heads
        return self._backend.to_numpy(losses), gradients, curvatures + half if curved else None

    def _over_rows(self, heads: Array, precise: bool, curved: bool) -> tuple[Array, Array, Array]:
        dtype = self._dtypes()[precise]
        transposed = self._xp.reshape(self._xp.astype(heads, dtype), (-1, heads.shape[2]))
        count = self._labels.shape[0]
        workers = self._backend.threads if self._backend.one_thread_per_op else 1
        bounds = [count * part // workers for part in range(workers + 1)]

        def part(ends: tuple[int, int]) -> tuple[Array, Array, Array]:
            return self._sums(transposed, heads.shape[0], dtype, range(*ends), curved)

        if workers == 1:
            return part((0, count))
        with self._backend.one_thread(), ThreadPoolExecutor(workers) as pool:
            first, *others = pool.map(part, pairwise(bounds))
        for other in others:
            first = tuple(a + b for a, b in zip(first, other, strict=True))
        return first

    def _sums(self, heads: Array, count: int, dtype: Any, rows: range, curved: bool) -> tuple[Array, Array, Array]:
        """Weighted sums over rows: of losses (s,), gradients (s, c, k) and curvatures (s, c, k), float64."""
        xp, (coordinates, weights) = self._xp, self._data[dtype]
        shape = (count, self.classes, coordinates.shape[1])
        zeros = {"dtype": xp.float64, "device": coordinates.device}
        losses, gradients, curvatures = xp.zeros(count, **zeros), xp.zeros(shape, **zeros), xp.zeros(shape, **zeros)
        classes = xp.arange(self.classes, dtype=xp.int64, device=coordinates.device)
        for here in _chunks(rows, self._rows_at_once(heads.shape[0])):
            points, weight = coordinates[here, :], weights[here]
            logits = xp.reshape(xp.matmul(heads, points.T), (count, self.classes, points.shape[0]))
            loss, residuals = softmax_residuals(xp, logits, classes[:, None] == self._labels[here])
            losses += xp.sum(xp.astype(loss * weight, xp.float64), axis=1)
            if curved:
                sizes = xp.abs(residuals)
                curvatures += self._products(sizes * (1 - sizes) * weight, points * points, shape)
            residuals *= weight
            gradients += self._products(residuals, points, shape)
        return losses, gradients, curvatures

    def _products(self, values: Array, points: Array, shape: tuple[int, ...]) -> Array:
        """values (s, c, m) times points (m, k), as float64 (s, c, k)."""
        xp = self._xp
        flat = xp.matmul(xp.reshape(values, (-1, points.shape[0])), points)
        return xp.astype(xp.reshape(flat, shape), xp.float64)

    def _rows_at_once(self, logits: int) -> int:
        return max(LEAST_ROWS, LOGITS.get(self._backend.device, LOGITS_ON_DEVICE) // logits)


def _chunks(rows: range, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))
