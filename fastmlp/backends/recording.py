"""Training steps recorded on a GPU: what takes the host microseconds a launch, a CUDA graph repeats in one call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend, Steps
from fastmlp.kernels.cuda.driver import Driver

# Steps in one graph: milliseconds of work, beside which the microseconds between two graphs do not count. A step is
# some fifteen launches, and a graph takes time to be made and memory for each of them.
RECORDED_STEPS = 128


class RecordedEpochs:
    """An `EpochRunner` that takes an epoch in parts of RECORDED_STEPS, each a repetition of one recorded before.

    It waits for nothing: the order and coefficients of an epoch are sent, and its parts launched, while the device is
    still at earlier work.
    """

    def __init__(self, backend: Backend, driver: Driver, batch_size: int) -> None:
        self._backend, self._driver, self._batch_size = backend, driver, batch_size
        self._parts: dict[int, _Part] = {}  # by their number of rows: a whole part, and what remains of an epoch

    def __call__(
        self, steps: Steps, order: NDArray[np.int64], coefficients: NDArray[np.float64], losses: Array, hits: Array
    ) -> None:
        placed, numbers = self._backend.asarray(order), self._backend.asarray(coefficients)
        for first in range(0, len(coefficients), RECORDED_STEPS):
            here = slice(first, first + RECORDED_STEPS)
            rows = placed[here.start * self._batch_size : here.stop * self._batch_size]
            part = self._part(rows.shape[0], numbers[here].shape[0], losses.dtype.name)
            part.order[...], part.coefficients[...] = rows, numbers[here]
            part.take(steps)
            losses[here], hits[here] = part.losses, part.hits

    def _part(self, rows: int, steps: int, dtype: str) -> _Part:
        if rows not in self._parts:
            self._parts[rows] = _Part(self._backend, self._driver, rows, steps, dtype)
        return self._parts[rows]


class _Part:
    """Steps over so many rows: the arrays that they read and fill, the same every time, and their recording."""

    def __init__(self, backend: Backend, driver: Driver, rows: int, steps: int, dtype: str) -> None:
        self.order, self.coefficients = backend.empty((rows,), "int64"), backend.empty((steps, 3), "float64")
        self.losses, self.hits = backend.empty((steps,), dtype), backend.empty((steps,), "int64")
        self._scalars = [[self.coefficients[step, i : i + 1] for i in range(3)] for step in range(steps)]
        self._driver = driver
        self._taken = False
        self._repeat: Callable[[], None] | None = None

    def take(self, steps: Steps) -> None:
        """Once as they are, which compiles kernels and allocates what steps keep; recorded and repeated after that."""
        work = partial(steps, self.order, self._scalars, self.losses, self.hits)
        if not self._taken:
            self._taken = True
            work()
            return
        if self._repeat is None:
            self._repeat = self._driver.record(work)
        self._repeat()
