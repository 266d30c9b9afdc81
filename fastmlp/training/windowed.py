"""Samples that are too many for memory: they are read, and computed on, a window at a time.

A thread reads the next window while one is computed on. Where computing takes all cores, that would slow it down by
more than the reading takes: there all cores read a window, and then compute on it, as long as the page cache has it.
Batches go on over the border of two windows: rows that are left of one, too few for a batch, begin the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend, Data
from fastmlp.backends.release import release_with
from fastmlp.features.streamed import StreamedRows
from fastmlp.features.tables import RowArray
from fastmlp.network.scaling import Scaling
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.training.samples import Figures, Samples
from fastmlp.training.windows import Index, WindowedOrder, plan, plan_in_order

MOST_READERS = 8  # threads: more read no faster, for they share the memory
DISK_SHARE = 8  # an eighth of a window from a disk is worth reading ahead
EVALUATED = 2  # parts of a window: as many are held at a time where rows are only looked at
KEPT = 4  # a quarter of a window is kept from epoch to epoch, where rows are only looked at


def placed(
    backend: Backend,
    features: RowArray,
    labels: NDArray[np.int64],
    dtype: str,
    scaling: Scaling | None = None,
    weights: NDArray[Any] | None = None,
) -> Samples:
    """Rows placed as `Samples.place` does or, where they are streamed, to be read window by window."""
    if not isinstance(features, StreamedRows):
        return Samples.place(backend, np.asarray(features), labels, dtype, scaling, weights)
    return WindowedSamples(features, labels, weights, scaling, backend=backend, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class WindowedSamples(Samples):
    """Features (n, d) that are streamed; labels (n,) and weights (n,), if any, on the host."""

    backend: Backend
    dtype: str

    def first(self, rows: int) -> Samples:
        if rows == len(self):
            return self
        weights = None if self.weights is None else self.weights[:rows]
        return replace(self, features=self.features.take(np.arange(rows)), labels=self.labels[:rows], weights=weights)

    def order(self, seed: int, epoch: int, rows: int, shuffle: bool) -> WindowedOrder:
        """Windows are drawn from the seed of the features, so that networks of all seeds share them."""
        borders, most = self._borders, self.features.window_rows
        windows = plan(self.features.seed, epoch, borders, most) if shuffle else plan_in_order(borders, most)
        return WindowedOrder(windows, borders, seed, epoch, shuffle)

    def train_epoch(
        self,
        networks: Sequence[Trainer],
        orders: Sequence[WindowedOrder],
        learning_rates: Sequence[NDArray[np.float64]],
    ) -> list[Figures]:
        batch, different = networks[0].batch_size, {id(order): order for order in orders}
        shuffles = {key: order.shuffled() for key, order in different.items()}
        left: dict[int, list[Array]] = {key: [] for key in different}
        windows, totals, step = len(orders[0].windows), np.zeros((len(networks), 2)), 0
        slots = self._slots(min(2, windows), max(orders[0].sizes), room=len(different) * (batch - 1))
        for number, slot in enumerate(self._read(orders[0].rows(), slots), start=1):
            turns = {key: np.concatenate([slot.append(left[key]), next(shuffles[key])]) for key in different}
            count = len(turns[id(orders[0])])
            rows = count if number == windows else count - count % batch
            now, steps = {key: turn[:rows] for key, turn in turns.items()}, -(-rows // batch)
            if rows:
                rates = [rates[step : step + steps] for rates in learning_rates]
                features, labels, weights = slot.data
                in_turn = [now[id(order)] for order in orders]
                figures = train_epoch_together(networks, features, labels, in_turn, rates, weights)
                if windows == 1:
                    return figures
                totals, step = totals + rows * np.array(figures), step + steps
            left = {key: slot.take(turn[rows:]) for key, turn in turns.items()}
            self.backend.synchronize()  # before the slot is filled again, beside the work on the device
        return [(float(loss), float(hits)) for loss, hits in totals / len(self)]

    def evaluate(self, network: Trainer) -> Figures:
        return self.evaluate_each([network])[0]

    def evaluate_each(self, networks: Sequence[Trainer]) -> list[Figures]:
        totals = np.zeros((len(networks), 2))
        for features, labels, _ in self._in_order():
            totals += labels.shape[0] * np.array([network.evaluate(features, labels) for network in networks])
        return [(float(loss), float(hits)) for loss, hits in totals / len(self)]

    def logit_batches(self, network: Trainer) -> Iterator[NDArray[Any]]:
        for features, _, _ in self._in_order():
            yield from network.logit_batches(features)

    def spaced_rows(self, backend: Backend, rows: int, count: int) -> NDArray[np.float64]:
        return self.features[slice(0, rows, max(1, rows // count))].astype(np.float64)

    def _on_host(self, backend: Backend) -> tuple[NDArray[np.int64], NDArray[Any]]:
        return np.asarray(self.labels), np.asarray(self.weights)

    def _in_order(self) -> Iterator[Data]:
        """All rows, kept where they are few, or else in parts."""
        if KEPT * len(self) <= self.features.window_rows:
            yield self._kept.data
            return
        rows = max(1, self.features.window_rows // EVALUATED)
        parts = (np.arange(start, min(start + rows, len(self))) for start in range(0, len(self), rows))
        for slot in self._read(parts, self._slots(2, rows)):
            yield slot.data

    @cached_property
    def _kept(self) -> Slot:
        return Slot(self, len(self)).fill(np.arange(len(self)))

    # Reading ahead.

    def _read(self, parts: Iterable[Index], slots: Sequence[Slot]) -> Iterator[Slot]:
        """A slot with the rows of each part, which is valid until the next is asked for."""
        slot, spare, following = slots[0], slots[-1], iter(parts)
        coming: Future[Slot] | None = None
        readers = min(MOST_READERS, self.backend.threads) if self.features.in_place else 1
        from_disk = _bytes_from_disk()
        with ThreadPoolExecutor(readers) as pool:
            rows = next(following, None)
            while rows is not None:
                filled = slot.fill(rows, pool.map, readers) if coming is None else coming.result()
                rows, coming = next(following, None), None
                before, from_disk = from_disk, _bytes_from_disk()
                if rows is not None and (not self._reads_in_turn or DISK_SHARE * (from_disk - before) > filled.nbytes):
                    slot, spare = spare, slot
                    coming = pool.submit(slot.fill, rows)
                yield filled

    @property
    def _reads_in_turn(self) -> bool:
        """Whether reading beside computing would only slow it down."""
        return self.backend.fills_host and self.features.in_place

    def _slots(self, count: int, rows: int, room: int = 0) -> list[Slot]:
        """For so many rows and, of each, those left over from the one before."""
        return [Slot(self, rows, room) for _ in range(count)]

    @cached_property
    def _borders(self) -> Index:
        return self.features.borders()


class Slot:
    """Room for a window on the host and, where that is other memory, on the device."""

    def __init__(self, samples: WindowedSamples, rows: int, room: int = 0) -> None:
        backend, width, dtype = samples.backend, samples.features.shape[1], samples.dtype
        shapes = [((rows + room, width), dtype), ((rows + room,), "int64"), ((rows + room,), dtype)]
        self._samples, self._backend, self.rows = samples, backend, 0
        self._host = [backend.upload_buffer(*shape) for shape in shapes[: 2 if samples.weights is None else 3]]
        devices = [backend.asarray(host) for host in self._host] if backend.memory_budget() is None else []
        self._shared = bool(devices) and np.shares_memory(backend.to_numpy(devices[0]), self._host[0])
        self._device = devices if self._shared else [backend.empty(host.shape, host.dtype.name) for host in self._host]
        backend.synchronize()  # earlier work may still use that memory, and uploads do not wait for it
        release_with(self, backend.synchronize, self._host.clear, self._device.clear)

    @property
    def nbytes(self) -> int:
        """Of the features that it holds."""
        return self._host[0][: self.rows].nbytes

    def fill(self, rows: Index, run: Callable[..., Iterable[None]] = map, shares: int = 1) -> Slot:
        """Read these rows of the samples; run: maps a function to so many shares of them, side by side perhaps."""
        samples, self.rows = self._samples, len(rows)
        features, *others = self._host

        def read(share: tuple[int, int]) -> None:
            part = slice(*share)
            samples.features.read(rows[part], features[part], samples.scaling)

        list(run(read, pairwise(len(rows) * share // shares for share in range(shares + 1))))
        for out, column in zip(others, (samples.labels, samples.weights), strict=False):
            out[: len(rows)] = column[rows]
        if not self._shared:
            for host, device in zip(self._host, self._device, strict=True):
                self._backend.upload(host[: len(rows)], device[: len(rows), ...])
        return self

    def append(self, columns: Sequence[Array]) -> Index:
        """Write rows behind the others; their places."""
        start = self.rows
        self.rows += int(columns[0].shape[0]) if columns else 0
        for device, column in zip(self._device, columns, strict=False):
            device[start : self.rows, ...] = column
        return np.arange(start, self.rows)

    def take(self, places: Index) -> list[Array]:
        """A copy of the rows in these places."""
        take, index = self._backend.xp.take, self._backend.asarray(places)
        return [take(device, index, axis=0) for device in self._device] if len(places) else []

    @property
    def data(self) -> Data:
        features, labels, *weights = (device[: self.rows, ...] for device in self._device)
        return features, labels, weights[0] if weights else None


def _bytes_from_disk() -> int:
    """What the process has read that was not in the page cache."""
    import resource  # not on Windows, where nothing is streamed

    return 512 * resource.getrusage(resource.RUSAGE_SELF).ru_inblock
