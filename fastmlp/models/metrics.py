"""How good a classifier's answers are: loss, accuracy, figures per class, mistakes, calibration.

Memory grows with the rows and with the classes, not with their product: logits are taken block by block, and of the
pairs of classes only those are counted that occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.evaluation import log_softmax

BINS = 15
MOST_IN_MATRIX = 100  # classes of which the whole confusion matrix is given
MOST_MISTAKES = 20
BLOCK = 2**21  # logits at a time, in float64

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Answers:
    """What a model answered to rows of known classes, each (n,): the true and the predicted class, int64; the
    confidence, which is the predicted class's probability; the loss, -log of the true class's probability, float64.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    losses: NDArray[np.float64]

    @classmethod
    def of(cls, logits: Iterable[NDArray[Any]], labels: NDArray[np.int64]) -> Answers:
        """logits: blocks (rows, classes), which together have as many rows as there are labels (n,), n > 0."""
        parts, start = [], 0
        for block in _small(logits):
            parts.append(_judged(block, labels[start : start + len(block)]))
            start += len(block)
        return cls(labels, *(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @property
    def hits(self) -> NDArray[np.bool_]:
        return self.predicted == self.labels

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.hits))

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses))


def _small(blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The same rows in blocks of at most BLOCK logits, or of one row."""
    for block in blocks:
        rows = max(1, BLOCK // block.shape[1])
        yield from (block[start : start + rows] for start in range(0, len(block), rows))


def _judged(
    logits: NDArray[Any], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """predicted, confidence and losses of a block."""
    logarithms = log_softmax(logits.astype(np.float64))
    at_label = np.take_along_axis(logarithms, labels[:, None], axis=1)[:, 0]
    return logits.argmax(axis=1), np.exp(logarithms.max(axis=1)), -at_label


def evaluate(answers: Answers, class_names: Sequence[str]) -> dict[str, Any]:
    """All figures, JSON-able.

    accuracy; loss, the mean cross-entropy; calibration_error; samples, n; classes: name, precision, recall, f1 and
    support of each; mistakes: the most frequent ones, MOST_MISTAKES at most, each the true class, the predicted one and
    the count; confusion_entries: every pair of classes that occurs, as columns of indices and counts; confusion: how
    many rows of each class (row) were predicted as each class (column), None beyond MOST_IN_MATRIX classes;
    calibration: the bins of the calibration error.
    """
    pairs, bins = confusion_entries(answers), calibration(answers)
    return {
        "accuracy": answers.accuracy,
        "loss": answers.loss,
        "calibration_error": calibration_error(bins),
        "samples": len(answers.labels),
        "classes": of_classes(answers, class_names),
        "mistakes": mistakes(pairs, class_names),
        "confusion_entries": {name: column.tolist() for name, column in pairs.items()},
        "confusion": _matrix(pairs, len(class_names)).tolist() if len(class_names) <= MOST_IN_MATRIX else None,
        "calibration": bins,
    }


def confusion_entries(answers: Answers) -> Columns:
    """The pairs of classes that occur, in order: true, predicted, and the count of such rows, each int64 (pairs,)."""
    classes = 1 + max(answers.labels.max(), answers.predicted.max())
    pairs, counts = np.unique(answers.labels * classes + answers.predicted, return_counts=True)
    return {"true": pairs // classes, "predicted": pairs % classes, "count": counts}


def mistakes(pairs: Columns, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent mistakes, by name; those of equal counts in the order of their true, then predicted classes."""
    wrong = {name: column[pairs["true"] != pairs["predicted"]] for name, column in pairs.items()}
    most = np.argsort(-wrong["count"], kind="stable")[:MOST_MISTAKES]
    rows = zip(*(wrong[name][most].tolist() for name in ("true", "predicted", "count")), strict=True)
    return [
        {"true": class_names[true], "predicted": class_names[predicted], "count": count}
        for true, predicted, count in rows
    ]


def _matrix(pairs: Columns, classes: int) -> NDArray[np.int64]:
    matrix = np.zeros((classes, classes), np.int64)
    matrix[pairs["true"], pairs["predicted"]] = pairs["count"]
    return matrix


def of_classes(answers: Answers, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """name, precision, recall, f1 (the harmonic mean of both) and support (rows) per class; n / 0 is 0."""
    of_hits, of_predicted, of_labels = answers.labels[answers.hits], answers.predicted, answers.labels
    hits, predicted, support = (np.bincount(c, minlength=len(class_names)) for c in (of_hits, of_predicted, of_labels))
    figures = {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(predicted + support, 1),
        "support": support,
    }
    rows = zip(class_names, *(column.tolist() for column in figures.values()), strict=True)
    return [dict(zip(("name", *figures), row, strict=True)) for row in rows]


def calibration(answers: Answers) -> list[dict[str, Any]]:
    """Per bin of the confidence, which is in ((m - 1) / BINS, m / BINS]: rows, mean confidence and accuracy.

    confidence and accuracy are None in a bin without rows.
    """
    which = np.clip(np.ceil(answers.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    rows, *sums = (np.bincount(which, weights, BINS) for weights in (None, answers.confidence, answers.hits))
    return [
        {"rows": count, "confidence": confidence / count, "accuracy": hits / count}
        if count
        else {"rows": 0, "confidence": None, "accuracy": None}
        for count, confidence, hits in zip(rows.tolist(), *(column.tolist() for column in sums), strict=True)
    ]


def calibration_error(bins: Sequence[dict[str, Any]]) -> float:
    """The expected calibration error: how far the confidence lies from the accuracy, on average.

    With |B_m| rows in bin m and n in all, it is the sum of |B_m| / n * |accuracy(B_m) - confidence(B_m)| (Guo, Pleiss,
    Sun and Weinberger 2017, eq. 3, there with 15 bins).
    """
    full = [one for one in bins if one["rows"]]
    gaps = sum(one["rows"] * abs(one["accuracy"] - one["confidence"]) for one in full)
    return float(gaps / sum(one["rows"] for one in full))
