"""The objective of multinomial logistic regression, for several heads at once, and the basis in which it is minimised.

A head is an array (c, k): c classes, k coordinates, the last of which is the intercept. Its objective is the weighted
mean cross-entropy plus half its penalty times the sum of its squares, the intercepts' left out. The coordinates are
the features' principal components: an orthogonal change, so the penalty stays the same, and the Hessian's diagonal says
nearly all about its scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.kernels.cpu.workers import workers
from fastmlp.ops.logistic import softmax_residuals

LOGITS = {"cpu": 2**17}  # of all heads at a time: they stay in cache
LOGITS_ON_DEVICE = 2**26
WHOLE = 2**30  # multiplications that a whole Hessian may cost: about as long as a few hundred small calls
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


class Diagonal:
    """A Hessian's diagonal (c, k), to stand for it; heads' columns sum to zero, where the penalty has its minimum."""

    def __init__(self, xp: Any, diagonal: Array) -> None:
        self._xp, self._inverse = xp, 1 / diagonal

    def solve(self, gradient: Array) -> Array:
        """The step (c, k) that would end at the minimum if the objective were a quadratic with this Hessian."""
        divided = gradient * self._inverse
        shift = self._xp.sum(divided, axis=0) / self._xp.sum(self._inverse, axis=0)
        return divided - shift * self._inverse


class Whole:
    """A whole Hessian (c k, c k), scaled to a diagonal of 1 before it is inverted."""

    def __init__(self, xp: Any, hessian: Array) -> None:
        self._xp, self._scale = xp, 1 / xp.sqrt(xp.linalg.diagonal(hessian))
        self._inverse = xp.linalg.inv(hessian * self._scale * self._scale[:, None])

    def solve(self, gradient: Array) -> Array:
        """See `Diagonal`."""
        xp = self._xp
        step = self._scale * xp.matmul(self._inverse, self._scale * xp.reshape(gradient, (-1,)))
        return xp.reshape(step, gradient.shape)


Curvature = Diagonal | Whole


class LogisticObjective:
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
    ) -> tuple[NDArray[np.float64], Array, Sequence[Curvature] | None]:
        """The objectives (s,), on the host, their gradients (s, c, k) and, if curved, what stands for each's Hessian.

        heads float64 (s, c, k), penalties float64 (s,). Rows are gone through a few at a time, in float32 or, if
        precise, in float64; sums over them are float64.
        """
        xp, penalty = self._xp, penalties[:, None, None] * self._penalised
        losses, gradients, diagonals = self._over_rows(heads, precise, curved and not self.is_small)
        losses = losses + xp.sum(penalty * heads**2, axis=(1, 2)) / 2
        gradients = gradients + penalty * heads
        each = range(heads.shape[0])
        curvatures: Sequence[Curvature] | None = None
        if curved and self.is_small:
            curvatures = [self._whole(heads[place, ...], penalty[place, ...]) for place in each]
        elif curved:
            curvatures = [Diagonal(xp, diagonals[place, ...] + penalty[place, ...]) for place in each]
        return self._backend.to_numpy(losses), gradients, curvatures

    @property
    def is_small(self) -> bool:
        """Whether whole Hessians are worth their work."""
        return self._labels.shape[0] * math.prod(self.shape) ** 2 <= WHOLE

    def _whole(self, head: Array, penalty: Array) -> Whole:
        """The Hessian at a head (c, k) for a penalty (1, k), stiff where the losses leave heads free."""
        xp, (coordinates, weights) = self._xp, self._data[self._xp.float64]
        (classes, width), rows = self.shape, coordinates.shape[0]
        logits = xp.matmul(coordinates, head.T)
        exponentials = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
        probabilities = exponentials / xp.sum(exponentials, axis=1, keepdims=True)
        share = probabilities * weights[:, None]
        products = xp.reshape(probabilities[:, :, None] * coordinates[:, None, :], (rows, -1))
        weighted = xp.reshape(share[:, :, None] * coordinates[:, None, :], (rows, -1))
        hessian = -xp.matmul(products.T, weighted)
        for place in range(classes):
            own = slice(place * width, (place + 1) * width)
            hessian[own, own] += xp.matmul(coordinates.T, coordinates * share[:, place][:, None])
        penalties = xp.reshape(xp.broadcast_to(penalty, head.shape), (-1,))
        hessian += xp.eye(classes * width, dtype=xp.float64, device=coordinates.device) * penalties
        return Whole(xp, hessian + self._stiffness(hessian))

    def _stiffness(self, hessian: Array) -> Array:
        """Curvature (c k, c k) along heads that are the same for all classes, of which the losses know nothing."""
        xp, (classes, width) = self._xp, self.shape
        mean = xp.mean(xp.reshape(xp.linalg.diagonal(hessian), self.shape), axis=0)
        of_columns = xp.eye(width, dtype=xp.float64, device=mean.device) * mean
        between = xp.broadcast_to(of_columns[None, :, None, :], (classes, width, classes, width))
        return xp.reshape(between, hessian.shape)

    def _over_rows(self, heads: Array, precise: bool, curved: bool) -> tuple[Array, Array, Array]:
        dtype = self._dtypes()[precise]
        transposed = self._xp.reshape(self._xp.astype(heads, dtype), (-1, heads.shape[2]))
        count = self._labels.shape[0]
        threads = self._backend.threads if self._backend.one_thread_per_op else 1
        bounds = [count * part // threads for part in range(threads + 1)]
        calls = [
            partial(self._sums, transposed, heads.shape[0], dtype, range(*ends), curved) for ends in pairwise(bounds)
        ]
        if threads == 1:
            return calls[0]()
        with self._backend.one_thread():
            first, *others = workers(threads).run(calls)
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
