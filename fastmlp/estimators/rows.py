"""The rows that MLPClassifier trains on: features, labels and weights, and what can be wrong with them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight

from fastmlp.common.errors import UsageError
from fastmlp.estimators.arrays import rows_of, to_host
from fastmlp.training.findings import no_better_than_guessing
from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe
from fastmlp.training.standardize import odd_scale
from fastmlp.training.weights import balanced, relative

Floats = NDArray[Any]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Features (n, d) of any library; labels (n,) and weights (n,) on the host, all weights positive."""

    features: Any
    labels: Labels
    weights: Floats

    @classmethod
    def weighted(cls, features: Any, labels: Labels, weights: Floats) -> Rows:
        """The rows whose weight is not zero."""
        rows = cls(features, labels, weights)
        return rows if weights.all() else rows.take(np.flatnonzero(weights))

    def take(self, index: Labels) -> Rows:
        return Rows(rows_of(self.features, index), self.labels[index], self.weights[index])

    @property
    def copies(self) -> int:
        """How many rows these stand for: one of a whole weight for that many copies, if all weights are whole.

        A factor that all of them have in common does not count, as nowhere in training.
        """
        if (self.weights % 1).any():
            return len(self.labels)
        counts = self.weights.astype(np.int64)
        return int(counts.sum() // np.gcd.reduce(counts))

    @property
    def relative_weights(self) -> Floats | None:
        """The weights over their mean; None if all are equal, which trains faster."""
        return relative(self.weights)


def check_shapes(X: Any, y: Any = None) -> None:
    """Raise UsageError, with the fix, for images in place of features or one-hot rows in place of labels."""
    shape, labels = (tuple(getattr(array, "shape", ())) for array in (X, y))
    if len(shape) > 2:
        raise UsageError(
            f"X must be features (n, d), not of shape {shape}: put a FeatureExtractor before the classifier in a "
            "Pipeline to turn images into features, or flatten them by X.reshape(len(X), -1)."
        )
    if len(labels) == 2 and labels[-1] > 1:
        raise UsageError(f"y must be labels (n,), not of shape {labels}: for one-hot rows, pass y.argmax(axis=1).")
    if len(shape) == 2 and labels[:1] == shape[1:] != shape[:1]:
        raise UsageError(f"X has {shape[0]} rows, but y {labels[0]} labels: X seems transposed, so pass X.T.")


def warn_about_scale(features: Any, centred: bool) -> None:
    """Issue a UserWarning if gradient descent may fail on features of this scale; see `odd_scale`."""
    finding = odd_scale(to_host(features), centred)
    if finding:
        fix = "standardise them by (X - X.mean(axis=0)) / X.std(axis=0), or pass standardize=True"
        warnings.warn(f"The features {finding}: {fix}.", stacklevel=5)


def warn_of_guessing(history: History, rows: Rows, recipe: Recipe) -> None:
    """Issue a ConvergenceWarning if the network has learned nothing from these rows; see `no_better_than_guessing`."""
    finding = no_better_than_guessing(history, rows.labels, recipe, rows.weights)
    if finding:
        fix = 'try preset="tabular", another learning_rate_init, or a larger max_iter'
        warnings.warn(f"{finding}: {fix}.", ConvergenceWarning, stacklevel=4)


def row_weights(
    sample_weight: Floats, class_weight: dict[Any, float] | str | None, classes: NDArray[Any], labels: Labels
) -> Floats:
    """The weight (n,) of each row: its sample weight times its class weight.

    labels int64 (n,) index classes. Raises UsageError if a weight is negative or all are zero.
    """
    weights = sample_weight.astype(np.float64)
    if class_weight is not None:
        weights = weights * _class_weights(class_weight, classes, labels, weights)[labels]
    if (weights < 0).any():
        raise UsageError("sample_weight and class_weight must not be negative: give rows that should not count 0.")
    if not weights.any():
        raise UsageError("All rows have weight 0: give the rows that count a positive sample_weight.")
    return weights


def _class_weights(
    class_weight: dict[Any, float] | str, classes: NDArray[Any], labels: Labels, weights: Floats
) -> Floats:
    """The weight of each class (k,); "balanced": the mean of the classes' summed weights over the class's own sum."""
    if class_weight == "balanced":
        return balanced(np.bincount(labels, weights, len(classes)).astype(np.float64))
    return compute_class_weight(class_weight, classes=classes, y=classes[labels])
