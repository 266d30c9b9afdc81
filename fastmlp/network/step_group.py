"""Networks that take every step of an epoch together, by a backend's fused steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend, Data, Steps
from fastmlp.kernels import EpochTask

Coefficients = NDArray[np.float64]


class StepGroup:
    """Networks of one shape, optimizer and batch size, which take those steps; own: which of the orders each takes."""

    def __init__(self, backend: Backend, steps: Steps, tasks: Sequence[EpochTask], own: Sequence[int]) -> None:
        self._backend, self._steps, self._tasks, self._own = backend, steps, tasks, tuple(own)
        self._size = tasks[0].batch_size
        self._runner = backend.epoch_runner(self._size * (1 + max(own)), kernels=True)

    def is_of(self, tasks: Sequence[EpochTask], own: Sequence[int]) -> bool:
        """Whether it can train these: the same arrays, and the same of them by the same order."""
        return [*map(_bound, tasks)] == [*map(_bound, self._tasks)] and tuple(own) == self._own

    def start(
        self, data: Data, orders: Sequence[NDArray[np.int64]], coefficients: Sequence[Coefficients]
    ) -> tuple[Array, Array]:
        """Hand an epoch to the device; its losses and hits int64, both (steps, networks), are to come."""
        rows = np.stack(coefficients, axis=1)
        losses = self._backend.empty(rows.shape[:-1], self._tasks[0].slots[0][0][0].dtype.name)
        hits = self._backend.empty(rows.shape[:-1], "int64")
        with self._backend.without_autograd():
            self._runner(self._steps, data, batch_by_batch(orders, self._size), rows, losses, hits)
        return losses, hits


def batch_by_batch(orders: Sequence[NDArray[np.int64]], size: int) -> NDArray[np.int64]:
    """The first batch of each order, then the second of each, and so on, in one array."""
    together = np.stack(orders)
    whole = together.shape[1] // size * size
    of_batches = together[:, :whole].reshape(len(orders), -1, size).swapaxes(0, 1)
    return np.concatenate([of_batches.ravel(), together[:, whole:].ravel()])


def _bound(task: EpochTask) -> tuple[Any, ...]:
    """What steps keep of a task: arrays, which it keeps alive, by their identity."""
    return id(task.slots[0][0][0]), id(task.mean), task.scale, task.smoothing
