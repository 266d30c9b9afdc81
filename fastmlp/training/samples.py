"""The rows that networks train and are tested on: on the backend's device or, where they do not fit, sent in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend, Data
from fastmlp.common.errors import BackendError
from fastmlp.common.randomness import Purpose, generator
from fastmlp.network.scaling import Scaling
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.training.chunks import Chunks

Figures = tuple[float, float]  # mean loss and accuracy
Order = Any  # an epoch's rows in the order to take them, as samples draw it; its length is their number


@dataclass(frozen=True)
class Samples:
    """Features (n, d) and labels int64 (n,), in 0 .. classes - 1, on a backend's device.

    weights (n,), of the features' dtype and of mean 1, weigh each row's loss; None: all weigh the same. scaling: what
    the features were standardised by before they were placed; None: nothing.
    """

    features: Array
    labels: Array
    weights: Array | None = None
    scaling: Scaling | None = None

    @classmethod
    def place(
        cls,
        backend: Backend,
        features: NDArray[Any],
        labels: NDArray[np.int64],
        dtype: str,
        scaling: Scaling | None = None,
        weights: NDArray[Any] | None = None,
    ) -> Samples:
        """Place rows on the device if they fit into its memory budget, else keep them on the host, to send in chunks.

        scaling standardises them before they are rounded to that dtype. Raises BackendError if not even a few rows fit.
        """
        labels, budget = labels.astype(np.int64), backend.memory_budget()
        if budget is not None and features.size * np.dtype(dtype).itemsize > budget:
            chunks = Chunks(backend, features, labels, dtype, budget, scaling, weights)
            return ChunkedSamples(features, labels, weights, scaling, chunks=chunks)
        host = np.ascontiguousarray(features, dtype) if scaling is None else scaling.applied(features, dtype)
        weighing = None if weights is None else backend.asarray(weights.astype(dtype))
        return cls(backend.asarray(host), backend.asarray(labels), weighing, scaling)

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def first(self, rows: int) -> Samples:
        """The first rows, where they lie: nothing is copied."""
        weights = None if self.weights is None else self.weights[:rows]
        return replace(self, features=self.features[:rows, ...], labels=self.labels[:rows], weights=weights)

    def order(self, seed: int, epoch: int, rows: int, shuffle: bool) -> Order:
        """The order of the first rows in an epoch, drawn from the seed unless they are not to be shuffled."""
        return generator(seed, Purpose.BATCH_ORDER, epoch).permutation(rows) if shuffle else np.arange(rows)

    def train_epoch(
        self,
        networks: Sequence[Trainer],
        orders: Sequence[Order],
        learning_rates: Sequence[NDArray[np.float64]],
    ) -> list[Figures]:
        """See `fastmlp.network.trainer.train_epoch_together`."""
        return train_epoch_together(networks, self.features, self.labels, orders, learning_rates, self.weights)

    def evaluate(self, network: Trainer) -> Figures:
        """See `Trainer.evaluate`."""
        return network.evaluate(self.features, self.labels)

    def evaluate_each(self, networks: Sequence[Trainer]) -> list[Figures]:
        """The same of each."""
        return [self.evaluate(network) for network in networks]

    def accuracy(self, network: Trainer) -> float:
        """The accuracy of the network's answers, rows weighted."""
        if self.weights is None:
            return self.evaluate(network)[1]
        labels, weights = self._on_host(network.backend)
        predicted = np.concatenate([logits.argmax(axis=1) for logits in self.logit_batches(network)])
        return float(np.average(predicted == labels, weights=weights))

    def _on_host(self, backend: Backend) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Labels and weights."""
        return backend.to_numpy(self.labels), backend.to_numpy(self.weights)

    def logit_batches(self, network: Trainer) -> Iterator[NDArray[Any]]:
        """See `Trainer.logit_batches`."""
        return network.logit_batches(self.features)

    def spaced_rows(self, backend: Backend, rows: int, count: int) -> NDArray[np.float64]:
        """The features of `count` or more evenly spaced rows among the first `rows`, on the host."""
        return backend.to_numpy(self.features[: rows : max(1, rows // count), ...]).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class ChunkedSamples(Samples):
    """Features (n, d), memory-mapped if they were, labels (n,) and weights (n,), if any, on the host."""

    chunks: Chunks

    def train_epoch(
        self,
        networks: Sequence[Trainer],
        orders: Sequence[NDArray[np.int64]],
        learning_rates: Sequence[NDArray[np.float64]],
    ) -> list[Figures]:
        """Train the networks that share an order together, and those of the next order after them."""
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
        batches = self.chunks.rows // batch
        if batches == 0:
            raise BackendError(
                f"{networks[0].backend} has memory left for {self.chunks.rows:,} rows at a time, not for a batch of "
                f"{batch:,}: choose a smaller --batch-size."
            )
        totals = np.zeros((len(networks), 2))
        for start, (features, labels, weights) in self.chunks.of(order, batches * batch):
            rows, steps = labels.shape[0], slice(start // batch, start // batch + batches)
            in_turn = [np.arange(rows)] * len(networks)
            rates = [rates[steps] for rates in learning_rates]
            totals += rows * np.array(train_epoch_together(networks, features, labels, in_turn, rates, weights))
        return [(float(loss), float(hits)) for loss, hits in totals / len(order)]

    def evaluate(self, network: Trainer) -> Figures:
        totals = np.zeros(2)
        for features, labels, _ in self._in_order():
            totals += labels.shape[0] * np.array(network.evaluate(features, labels))
        loss, hits = totals / len(self)
        return float(loss), float(hits)

    def _on_host(self, backend: Backend) -> tuple[NDArray[np.int64], NDArray[Any]]:
        return np.asarray(self.labels), np.asarray(self.weights)

    def logit_batches(self, network: Trainer) -> Iterator[NDArray[Any]]:
        for features, _, _ in self._in_order():
            yield from network.logit_batches(features)

    def spaced_rows(self, backend: Backend, rows: int, count: int) -> NDArray[np.float64]:
        return self.features[: rows : max(1, rows // count)].astype(np.float64)

    def _in_order(self) -> Iterator[Data]:
        return (data for _, data in self.chunks.of(np.arange(len(self)), self.chunks.rows))
