"""Training steps recorded on a GPU: each launch costs the host microseconds; a CUDA graph replays many in one call."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend, Data, Steps
from fastmlp.kernels.cuda.driver import Driver

# Steps per graph: milliseconds of work, beside which the microseconds between two graphs are negligible. A step is
# about ten launches, and each of them costs a graph memory, and time to build it.
RECORDED_STEPS = 128
RECORDINGS = 8  # kept, each with the data that it reads: for whole parts and remainders, over a few datasets


class RecordedEpochs:
    """An `EpochRunner` that runs an epoch in parts of RECORDED_STEPS, each the replay of a recording.

    It never waits: it sends the order and coefficients of an epoch, and launches its parts, while the device is still
    busy with earlier work.
    """

    def __init__(self, backend: Backend, driver: Driver, batch_size: int) -> None:
        self._backend, self._driver, self._batch_size = backend, driver, batch_size
        self._part = lru_cache(maxsize=RECORDINGS)(partial(_Part, backend, driver))

    def __call__(
        self,
        steps: Steps,
        data: Data,
        order: NDArray[np.int64],
        coefficients: NDArray[np.float64],
        losses: Array,
        hits: Array,
    ) -> None:
        placed, numbers = self._backend.asarray(order), self._backend.asarray(coefficients)
        addresses = tuple(0 if array is None else self._driver.address(array) for array in data)
        for first in range(0, len(coefficients), RECORDED_STEPS):
            here = slice(first, first + RECORDED_STEPS)
            rows = placed[here.start * self._batch_size : here.stop * self._batch_size]
            part = self._part(rows.shape[0], numbers[here].shape, losses.dtype.name, addresses)
            part.order[...], part.coefficients[...] = rows, numbers[here]
            part.take(steps, data)
            losses[here], hits[here] = part.losses, part.hits


class _Part:
    """Steps over that many rows of the data at those addresses, with coefficients (steps, ...) of that shape: the
    arrays that they read and fill, and their recording.

    A recording keeps its data alive, so nothing else can take their addresses.
    """

    def __init__(
        self,
        backend: Backend,
        driver: Driver,
        rows: int,
        shape: tuple[int, ...],
        dtype: str,
        addresses: tuple[int, ...],
    ) -> None:
        self.order, self.coefficients = backend.empty((rows,), "int64"), backend.empty(shape, "float64")
        self.losses, self.hits = backend.empty(shape[:-1], dtype), backend.empty(shape[:-1], "int64")
        self._rows = [self.coefficients[step] for step in range(shape[0])]
        self._driver = driver
        self._taken = False
        self._repeat: Callable[[], None] | None = None

    def take(self, steps: Steps, data: Data) -> None:
        """Run the steps directly at first, which compiles kernels and allocates buffers; later record and replay."""
        work = partial(steps, data, self.order, self._rows, self.losses, self.hits)
        if not self._taken:
            self._taken = True
            work()
            return
        if self._repeat is None:
            self._repeat = self._driver.record(work)
        self._repeat()
