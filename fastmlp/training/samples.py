"""What networks are trained and tested on: on the backend's device, or, where it is too small, sent there in chunks.

Chunks are of whole batches, so that every step is the same as if all lay on the device; while the steps of one are
taken, a thread gathers the next in the epoch's order and uploads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.common.errors import BackendError
from fastmlp.network.trainer import Trainer, train_epoch_together

CHUNK_BYTES = 2**28  # of features: long enough for a device to be busy while the next are gathered
SLOTS = 2  # one is computed on, one is being filled

Figures = tuple[float, float]  # mean loss and accuracy


@dataclass(frozen=True)
class Samples:
    """Features (n, d) and labels int64 (n,) on a backend's device, labels known to lie in 0 .. classes - 1.

    weights (n,), of the features' dtype and of mean 1, weigh each row's loss; None: all weigh the same.
    """

    features: Array
    labels: Array
    weights: Array | None = None

    @classmethod
    def place(cls, backend: Backend, features: NDArray[Any], labels: NDArray[np.int64], dtype: str) -> Samples:
        """On the device if they fit into its memory budget, else kept on the host; BackendError if no row fits."""
        labels, budget = labels.astype(np.int64), backend.memory_budget()
        if budget is not None and features.size * np.dtype(dtype).itemsize > budget:
            return StreamedSamples(features, labels, stream=Stream(backend, features, labels, dtype, budget))
        return cls(backend.asarray(np.ascontiguousarray(features, dtype)), backend.asarray(labels))

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def train_epoch(
        self,
        networks: Sequence[Trainer],
        orders: Sequence[NDArray[np.int64]],
        learning_rates: Sequence[NDArray[np.float64]],
    ) -> list[Figures]:
        """See `fastmlp.network.trainer.train_epoch_together`."""
        return train_epoch_together(networks, self.features, self.labels, orders, learning_rates, self.weights)

    def evaluate(self, network: Trainer) -> Figures:
        """See `Trainer.evaluate`."""
        return network.evaluate(self.features, self.labels)

    def logits(self, network: Trainer) -> NDArray[Any]:
        """See `Trainer.logits`."""
        return network.logits(self.features)

    def spaced_rows(self, backend: Backend, rows: int, count: int) -> NDArray[np.float64]:
        """The features of `count`, or somewhat more, evenly spaced ones of the first rows, on the host."""
        return backend.to_numpy(self.features[: rows : max(1, rows // count), ...]).astype(np.float64)


class Stream:
    """Two chunks' room on a device, filled in turns from features (n, d) and labels (n,) on the host.

    rows is the most of a chunk. Raises BackendError if the budget (bytes) has no room for two rows.
    """

    def __init__(
        self, backend: Backend, features: NDArray[Any], labels: NDArray[np.int64], dtype: str, budget: int
    ) -> None:
        self.features, self.labels = features, labels
        row_bytes = features.shape[1] * np.dtype(dtype).itemsize
        self.rows = min(CHUNK_BYTES, budget // (2 * SLOTS)) // row_bytes  # half of the budget is for others
        if self.rows < 1:
            raise BackendError(
                f"{backend} has {budget:,} bytes of memory left, too few for rows of {row_bytes:,}: end what else uses "
                "it, or choose a --backend on the CPU."
            )
        self._slots = [_Slot(backend, (self.rows, features.shape[1]), dtype) for _ in range(SLOTS)]

    def chunks(self, order: NDArray[np.int64], rows: int) -> Iterator[tuple[int, Array, Array]]:
        """(first place in the order, features, labels) of so many rows each; valid until the next but one is asked for.

        Whoever takes a chunk has finished with it, on the device too, when it asks for the next.
        """
        starts = range(0, len(order), rows)
        with ThreadPoolExecutor(1) as worker:

            def ahead(number: int) -> Callable[[], tuple[Array, Array]]:
                part = order[starts[number] : starts[number] + rows]
                return worker.submit(self._slots[number % SLOTS].fill, self.features, self.labels, part).result

            coming = ahead(0)
            for number, start in enumerate(starts):
                features, labels = coming()
                if number + 1 < len(starts):
                    coming = ahead(number + 1)
                yield start, features, labels


class _Slot:
    """A chunk's room on the host, from where uploads are fast, and on the device."""

    def __init__(self, backend: Backend, shape: tuple[int, int], dtype: str) -> None:
        self._backend = backend
        self._host = backend.upload_buffer(shape, dtype), backend.upload_buffer(shape[:1], "int64")
        self._device = backend.empty(shape, dtype), backend.empty(shape[:1], "int64")

    def fill(self, features: NDArray[Any], labels: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """Those rows' features and labels, on the device."""
        count = len(rows)
        for source, host, device in zip((features, labels), self._host, self._device, strict=True):
            if source.dtype == host.dtype:
                np.take(source, rows, axis=0, out=host[:count], mode="clip")  # "raise" would copy twice
            else:
                host[:count] = source[rows]
            self._backend.upload(host[:count], device[:count, ...])
        return self._device[0][:count, ...], self._device[1][:count]


@dataclass(frozen=True, kw_only=True)
class StreamedSamples(Samples):
    """Features (n, d), memory-mapped if they were, and labels (n,) on the host, all rows weighing the same."""

    stream: Stream

    def train_epoch(
        self,
        networks: Sequence[Trainer],
        orders: Sequence[NDArray[np.int64]],
        learning_rates: Sequence[NDArray[np.float64]],
    ) -> list[Figures]:
        """Networks of one order together, those of the next order after them."""
        figures: dict[int, Figures] = {}
        for order in {id(order): order for order in orders}.values():
            members = [number for number, own in enumerate(orders) if own is order]
            together = [networks[n] for n in members], order, [learning_rates[n] for n in members]
            figures |= dict(zip(members, self._train_in_order(*together), strict=True))
        return [figures[number] for number in range(len(networks))]

    def _train_in_order(
        self, networks: Sequence[Trainer], order: NDArray[np.int64], learning_rates: Sequence[NDArray[np.float64]]
    ) -> list[Figures]:
        batch = networks[0].batch_size
        batches = self.stream.rows // batch
        if batches == 0:
            raise BackendError(
                f"{networks[0].backend} has memory left for {self.stream.rows:,} rows at a time, not for a batch of "
                f"{batch:,}: choose a smaller --batch-size."
            )
        totals = np.zeros((len(networks), 2))
        for start, features, labels in self.stream.chunks(order, batches * batch):
            rows, steps = labels.shape[0], slice(start // batch, start // batch + batches)
            in_turn = [np.arange(rows)] * len(networks)
            rates = [rates[steps] for rates in learning_rates]
            totals += rows * np.array(train_epoch_together(networks, features, labels, in_turn, rates))
        return [(float(loss), float(hits)) for loss, hits in totals / len(order)]

    def evaluate(self, network: Trainer) -> Figures:
        totals = np.zeros(2)
        for _, features, labels in self._in_order():
            totals += labels.shape[0] * np.array(network.evaluate(features, labels))
        loss, hits = totals / len(self)
        return float(loss), float(hits)

    def logits(self, network: Trainer) -> NDArray[Any]:
        return np.concatenate([network.logits(features) for _, features, _ in self._in_order()])

    def spaced_rows(self, backend: Backend, rows: int, count: int) -> NDArray[np.float64]:
        return self.features[: rows : max(1, rows // count)].astype(np.float64)

    def _in_order(self) -> Iterator[tuple[int, Array, Array]]:
        return self.stream.chunks(np.arange(len(self)), self.stream.rows)
