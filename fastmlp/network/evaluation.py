"""What a network answers: logits, and the loss and accuracy over many rows. Each call has buffers of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array
from fastmlp.common.errors import UsageError
from fastmlp.network.network import Network

ROWS = 2048  # a batch that keeps the forward pass in cache and the number of calls low
NO_ROWS = "There are no rows to take the mean loss of: give at least one."
Figures = tuple[float, float]  # mean loss and accuracy


def evaluate(network: Network, features: Array, labels: Array) -> Figures:
    """Mean cross-entropy and accuracy over all rows, op by op. Raises UsageError if there are none."""
    backend, batches = network.backend, -(-features.shape[0] // ROWS)
    losses, hits = backend.empty((batches,), network.dtype), backend.empty((batches,), "int64")
    for batch, (start, logits) in enumerate(_batches(network, features)):
        here, rows = slice(batch, batch + 1), labels[start : start + logits.shape[0]]
        network.ops.softmax_xent(logits, rows, logits, losses[here], hits[here])
    return means(backend.to_numpy(losses), backend.to_numpy(hits), features.shape[0])


def logits(network: Network, features: Array) -> NDArray[Any]:
    """Logits (n, classes) of features (n, inputs), on the host."""
    parts = list(logit_batches(network, features))
    return np.concatenate(parts) if parts else np.empty((0, network.sizes[-1]), network.dtype)


def logit_batches(network: Network, features: Array) -> Iterator[NDArray[Any]]:
    """The same, batch by batch."""
    return (np.array(network.backend.to_numpy(part)) for _, part in _batches(network, features))


def means(losses: NDArray[Any], hits: NDArray[Any], rows: int) -> Figures:
    """Mean loss and accuracy over that many rows, from the sums of losses and the hits of each batch."""
    if rows == 0:
        raise UsageError(NO_ROWS)
    return float(losses.sum(dtype=np.float64)) / rows, int(hits.sum()) / rows


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Class probabilities (n, c) of logits (n, c), on the host."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Logarithms of the class probabilities (n, c), finite where a probability itself is rounded to 0."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _batches(network: Network, features: Array) -> Iterator[tuple[int, Array]]:
    """(first row, logits) of each batch of the rows; the logits' memory is used again for the next."""
    count = features.shape[0]
    buffers = [network.backend.empty((min(ROWS, count), width), network.dtype) for width in network.sizes[1:]]
    weights, biases = _for_plain_features(network)
    for start in range(0, count, ROWS):
        part = features[start : min(start + ROWS, count), ...]
        hidden = [buffer[: part.shape[0], ...] for buffer in buffers]
        network.forward([part, *hidden], weights, biases)
        yield start, hidden[-1]


def _for_plain_features(network: Network) -> tuple[Sequence[Array], Sequence[Array]]:
    """Weights and biases on the device, for features that are not standardised."""
    if network.mean is None:
        return network.weights.values, network.biases.values
    plain, place = network.parameters, network.backend.asarray
    return [place(w) for w in plain.weights], [place(b) for b in plain.biases]
