"""Softmax, cross-entropy, its gradient, the loss and the hits: one pass over the logits.

logits (m, c) float, labels (m,) int64 -> gradient (m, c), loss (1,), hits (1,) int64. For a row z with label y:
    s = sum(exp(z - max z)),  loss += log s - (z[y] - max z),  gradient = (exp(z - max z) / s - onehot(y)) / m
Array code writes eight temporaries of this size; here a row stays in registers and the first-level cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import inlined, jit

Floats = NDArray[Any]


@inlined
def _first_largest(row: Floats) -> int:
    """The index of the first largest element, or of the last NaN."""
    first = 0
    for j in range(1, row.shape[0]):
        if row[j] > row[first] or np.isnan(row[j]):
            first = j
    return first


@jit
def softmax_xent(
    logits: Floats, labels: NDArray[np.int64], gradient: Floats, loss: Floats, hits: NDArray[np.int64]
) -> None:
    rows, classes = logits.shape
    number = gradient.dtype.type
    total_loss, total_hits = 0.0, 0  # the loss is summed in float64
    for i in range(rows):
        label, first = labels[i], _first_largest(logits[i])
        largest = logits[i, first]
        label_logit = logits[i, label] - largest  # saved, because gradient may be logits
        total_hits += first == label and not np.isnan(largest)
        total = number(0)
        for j in range(classes):
            gradient[i, j] = np.exp(logits[i, j] - largest)
            total += gradient[i, j]
        total_loss += np.log(total) - label_logit
        for j in range(classes):
            gradient[i, j] /= total
        gradient[i, label] -= number(1)
        for j in range(classes):
            gradient[i, j] /= number(rows)
    loss[0], hits[0] = total_loss, total_hits
