"""Rows that do not fit on the device are sent there in chunks: while one is computed on, a thread uploads the next.

A chunk is made of whole batches, gathered in the epoch's order, so every step is the same as if all rows lay on the
device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend, Data
from fastmlp.backends.release import release_with
from fastmlp.common.errors import BackendError
from fastmlp.network.scaling import Scaling

CHUNK_BYTES = 2**28  # of features: enough to keep a device busy while the next chunk is gathered
SLOTS = 2  # one is computed on, one is being filled


class Chunks:
    """Room for two chunks on a device, filled in turn from features (n, d), labels and weights (n,) on the host.

    rows is the most that a chunk holds; scaling, unless it is None, standardises them on the way. Raises BackendError
    if the budget (bytes) has no room for two rows.
    """

    def __init__(
        self,
        backend: Backend,
        features: NDArray[Any],
        labels: NDArray[np.int64],
        dtype: str,
        budget: int,
        scaling: Scaling | None = None,
        weights: NDArray[Any] | None = None,
    ) -> None:
        self._columns = [features, labels] if weights is None else [features, labels, weights]
        row_bytes = features.shape[1] * np.dtype(dtype).itemsize
        self.rows = min(CHUNK_BYTES, budget // (2 * SLOTS)) // row_bytes  # half of the budget is for others
        if self.rows < 1:
            raise BackendError(
                f"{backend} has {budget:,} bytes of memory left, too few for rows of {row_bytes:,}: end what else uses "
                "it, or choose a --backend on the CPU."
            )
        self._worker = ThreadPoolExecutor(1)  # kept from epoch to epoch
        self._slots = [_Slot(backend, self._columns, self.rows, dtype, scaling) for _ in range(SLOTS)]
        backend.synchronize()  # earlier work may still use the memory that slots got, and uploads do not wait for it
        release_with(self, self._worker.shutdown, backend.synchronize, self._slots.clear)

    def of(self, order: NDArray[np.int64], rows: int) -> Iterator[tuple[int, Data]]:
        """(first place in the order, features, labels and weights, if any) of that many rows each.

        A chunk stays valid until the next but one is asked for; by then the caller has finished with it, on the device
        too.
        """
        starts = range(0, len(order), rows)

        def ahead(number: int) -> Callable[[], Data]:
            part = order[starts[number] : starts[number] + rows]
            return self._worker.submit(self._slots[number % SLOTS].fill, self._columns, part).result

        coming = ahead(0)
        for number, start in enumerate(starts):
            data = coming()
            if number + 1 < len(starts):
                coming = ahead(number + 1)
            yield start, data


class _Slot:
    """Room for a chunk on the host, from where uploads are fast, and on the device."""

    def __init__(
        self, backend: Backend, columns: Sequence[NDArray[Any]], rows: int, dtype: str, scaling: Scaling | None
    ) -> None:
        self._backend, self._scaling = backend, scaling
        kinds = (dtype, "int64", dtype)[: len(columns)]
        room = [((rows, *column.shape[1:]), kind) for column, kind in zip(columns, kinds, strict=True)]
        self._host = [backend.upload_buffer(shape, kind) for shape, kind in room]
        self._device = [backend.empty(shape, kind) for shape, kind in room]

    def fill(self, columns: Sequence[NDArray[Any]], rows: NDArray[np.int64]) -> Data:
        """Send those rows of the columns, and return them on the device."""
        count = len(rows)
        for source, host, device in zip(columns, self._host, self._device, strict=True):
            if self._scaling is not None and source.ndim == 2:
                self._scaling.apply(source[rows], host[:count])
            elif source.dtype == host.dtype:
                np.take(source, rows, axis=0, out=host[:count], mode="clip")  # "raise" would copy twice
            else:
                host[:count] = source[rows]
            self._backend.upload(host[:count], device[:count, ...])
        features, labels, *weights = (device[:count, ...] for device in self._device)
        return features, labels, weights[0] if weights else None
