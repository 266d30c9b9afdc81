"""How good a classifier's predictions are: loss, accuracy, figures per class, confusion, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.evaluation import log_softmax, softmax

BINS = 15


def evaluate(logits: NDArray[Any], labels: NDArray[np.int64], class_names: Sequence[str]) -> dict[str, Any]:
    """All figures for logits (n, classes) of rows with labels (n,), JSON-able; n > 0.

    accuracy; loss, the mean cross-entropy; calibration_error; samples, n; classes: name, precision, recall, f1 and
    support of each; confusion: how many rows of each class (row) were predicted as each class (column).
    """
    probabilities = softmax(logits.astype(np.float64))
    confusion = confusion_matrix(labels, logits.argmax(axis=1), len(class_names))
    return {
        "accuracy": float(np.trace(confusion) / len(labels)),
        "loss": cross_entropy(logits, labels),
        "calibration_error": calibration_error(probabilities, labels),
        "samples": len(labels),
        "classes": [{"name": name, **row} for name, row in zip(class_names, of_classes(confusion), strict=True)],
        "confusion": confusion.tolist(),
    }


def cross_entropy(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """The mean of -log softmax(logits) at the labels."""
    at_label = np.take_along_axis(log_softmax(logits.astype(np.float64)), labels[:, None], axis=1)[:, 0]
    return float(np.mean(-at_label))


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many rows of each class (row) were predicted as each class (column): (classes, classes)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def of_classes(confusion: NDArray[np.int64]) -> list[dict[str, float | int]]:
    """precision, recall, f1 (the harmonic mean of both) and support (rows) per class; 0 where a denominator is 0."""
    hits, predicted, support = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    figures = {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(predicted + support, 1),
        "support": support,
    }
    return [dict(zip(figures, row, strict=True)) for row in zip(*(v.tolist() for v in figures.values()), strict=True)]


def calibration_error(probabilities: NDArray[Any], labels: NDArray[np.int64], bins: int = BINS) -> float:
    """The expected calibration error: how far the confidence lies from the accuracy, on average.

    With rows in bins B_m by their confidence, the highest probability, in ((m - 1) / bins, m / bins], it is the sum of
    |B_m| / n * |accuracy(B_m) - confidence(B_m)| (Guo, Pleiss, Sun and Weinberger 2017, eq. 3, there with 15 bins).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    hits = probabilities.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(which, hits - confidence, minlength=bins)  # |B_m| times the difference of the means
    return float(np.abs(gaps).sum() / len(labels))
