"""What the estimator's training adds to `fastmlp.training`: scaled features, row weights, early stopping, going on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight

from fastmlp.backends.base import Array, Backend
from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.estimators.arrays import on_backend, rows_of, to_host
from fastmlp.network.network import Network, Parameters, initial_parameters
from fastmlp.training.history import History
from fastmlp.training.loop import train
from fastmlp.training.recipe import PRESETS, Recipe
from fastmlp.training.samples import Samples
from fastmlp.training.standardize import odd_scale

# For features of any scale, from a hundred rows on: measured on iris, wine, breast cancer and digits.
TABULAR = Recipe(
    epochs=100,
    batch_size=32,
    learning_rate=0.01,
    schedule="one-cycle",
    optimizer="adam",
    weight_decay=10 / 32,
    init="he",
)
RECIPES = {"tabular": TABULAR, **PRESETS}
BLOCK = 4096  # rows whose float64 copy is small
ROUNDING = 10  # a feature is constant if its deviation is so few roundings of its mean

Floats = NDArray[Any]
Labels = NDArray[np.int64]


def recipe_of(preset: str) -> Recipe:
    if preset not in RECIPES:
        near = did_you_mean(str(preset), RECIPES)
        raise UsageError(f"preset must be one of {', '.join(RECIPES)}, not {preset!r}{near}.")
    return RECIPES[preset]


def widths_of(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """The widths of the hidden layers, given as a sequence or as one number."""
    widths = np.atleast_1d(hidden_layer_sizes)
    if widths.size and not (widths.ndim == 1 and widths.dtype.kind in "iu"):
        raise UsageError(f"hidden_layer_sizes must be whole numbers, not {hidden_layer_sizes!r}.")
    return tuple(widths.tolist())


# Features and labels.


def check_shapes(X: Any, y: Any = None) -> None:
    """Name the mend where images are given as features, or one-hot rows as labels."""
    shape, labels = (tuple(getattr(array, "shape", ())) for array in (X, y))
    if len(shape) > 2:
        raise UsageError(
            f"X must be features (n, d), not of shape {shape}: turn images to features by a FeatureExtractor "
            "before the classifier in a Pipeline, or flatten them by X.reshape(len(X), -1)."
        )
    if len(labels) == 2 and labels[-1] > 1:
        raise UsageError(f"y must be labels (n,), not of shape {labels}: of one-hot rows, give y.argmax(axis=1).")
    if len(shape) == 2 and labels[:1] == shape[1:] != shape[:1]:
        raise UsageError(f"X has {shape[0]} rows, but y {labels[0]} labels: give X.T, for X seems transposed.")


def warn_of_scale(rows: Rows, recipe: Recipe) -> None:
    """A UserWarning if features that are trained on as they come are of a scale that gradient descent may not bear."""
    finding = odd_scale(to_host(rows.features), recipe.standardize)
    if finding:
        warnings.warn(f"The features {finding}, or pass standardize=True.", stacklevel=4)


@dataclass(frozen=True)
class Scaling:
    """Each feature less its mean, times its scale: float64 (d,) both."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def learn(cls, rows: Floats, weights: Floats) -> Scaling:
        """Means, and one over the deviations, of rows (n, d) with weights (n,); a constant feature keeps its scale."""
        blocks = [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]
        mean = sum(weights[b] @ rows[b].astype(np.float64) for b in blocks) / weights.sum()
        variance = sum(weights[b] @ (rows[b].astype(np.float64) - mean) ** 2 for b in blocks) / weights.sum()
        constant = np.sqrt(variance) <= ROUNDING * np.finfo(rows.dtype).eps * np.abs(mean)
        return cls(mean, 1 / np.sqrt(np.where(constant, 1, variance)))

    def apply(self, backend: Backend, rows: Array, dtype: str) -> Array:
        """Scaled rows (n, d) of that dtype, on the backend."""
        mean, scale = (backend.asarray(values.astype(dtype)) for values in (self.mean, self.scale))
        return (rows - mean) * scale

    def folded(self, parameters: Parameters) -> Parameters:
        """Parameters for features as they are, of a network for scaled ones."""
        weight = self.scale[:, None] * parameters.weights[0]
        bias = parameters.biases[0] - self.mean @ weight
        weights, biases = (weight, *parameters.weights[1:]), (bias, *parameters.biases[1:])
        return Parameters(weights, biases).astype(parameters.dtype)


# Weights.


def weights_of_rows(
    sample_weight: Floats, class_weight: dict[Any, float] | str | None, classes: NDArray[Any], labels: NDArray[np.int64]
) -> Floats:
    """The weight (n,) of each row: its sample's times its class's.

    labels int64 (n,) index classes. Raises UsageError if a weight is negative or all are zero.
    """
    weights = sample_weight.astype(np.float64)
    if class_weight is not None:
        weights = weights * _weights_of_classes(class_weight, classes, labels, weights)[labels]
    if (weights < 0).any():
        raise UsageError("sample_weight and class_weight must not be negative: give 0 to a row that shall not count.")
    if not weights.any():
        raise UsageError("All weights of the rows are zero: give a positive sample_weight to the rows that count.")
    return weights


def _weights_of_classes(
    class_weight: dict[Any, float] | str, classes: NDArray[Any], labels: NDArray[np.int64], weights: Floats
) -> Floats:
    """The weight of each class (k,); "balanced": the mean of all classes' summed weights over its own."""
    if class_weight == "balanced":
        sums = np.bincount(labels, weights, len(classes))
        return sums.mean() / np.where(sums > 0, sums, 1)
    return compute_class_weight(class_weight, classes=classes, y=classes[labels])


# Early stopping.


@dataclass(frozen=True)
class Stopping:
    """Hold back a fraction of the rows; end when for over `patience` epochs accuracy on them has not risen by tol."""

    fraction: float
    tol: float
    patience: int

    def split(self, labels: Labels, seed: int) -> tuple[Labels, Labels]:
        """The rows to train on, and those held back, of each class alike."""
        if not 0 < self.fraction < 1:
            raise UsageError(f"validation_fraction must lie between 0 and 1, not {self.fraction}.")
        try:
            kept, held_back = train_test_split(
                np.arange(len(labels)), test_size=self.fraction, random_state=seed % 2**32, stratify=labels
            )
        except ValueError as error:
            raise UsageError(
                f"early_stopping cannot hold back {self.fraction:g} of {len(labels)} rows ({str(error).rstrip('.')}): "
                "give more rows of each class, another validation_fraction, or early_stopping=False."
            ) from None
        return np.sort(kept), np.sort(held_back)


class Watch:
    """The accuracy on rows held back, taken after every epoch, and the network's state at its best."""

    def __init__(self, network: Network, held_back: Samples, stopping: Stopping) -> None:
        self.network, self.held_back, self.stopping = network, held_back, stopping
        self.labels = network.backend.to_numpy(held_back.labels)
        self.weights = None if held_back.weights is None else network.backend.to_numpy(held_back.weights)
        self.scores: list[float] = []
        self.best = -np.inf
        self.best_state = network.state
        self._since = 0

    def __call__(self, history: History) -> bool:
        hits = self.network.logits(self.held_back.features).argmax(axis=1) == self.labels
        score = float(np.average(hits, weights=self.weights))
        self.scores.append(score)
        self._since = 0 if score >= self.best + self.stopping.tol else self._since + 1
        if score > self.best:
            self.best, self.best_state = score, self.network.state
        return self._since > self.stopping.patience


# Training, in one go or in several.


@dataclass(frozen=True)
class Rows:
    """Features (n, d) of any library, labels (n,) and weights (n,) on the host, all weights positive."""

    features: Any
    labels: Labels
    weights: Floats

    def take(self, index: Labels) -> Rows:
        return Rows(rows_of(self.features, index), self.labels[index], self.weights[index])

    @property
    def relative_weights(self) -> Floats | None:
        """Scaled to a mean of 1; None where all are equal, which trains faster."""
        return None if np.ptp(self.weights) == 0 else self.weights / self.weights.mean()


@dataclass
class Training:
    """A network in training, between two calls; all on the host, so that it can be pickled.

    parameters: for features as they are. state: all that its training goes on from (see `Network.state`), if it began.
    """

    parameters: Parameters
    classes: NDArray[Any]
    optimizer: str
    seed: int
    scaling: Scaling | None = None
    state: dict[str, NDArray[Any]] = field(default_factory=dict)
    history: History = field(default_factory=History)

    @classmethod
    def begin(
        cls,
        rows: Rows,
        classes: NDArray[Any],
        hidden: tuple[int, ...],
        recipe: Recipe,
        seed: int,
        dtype: str,
        scaled: bool,
    ) -> Training:
        """hidden: the widths of the hidden layers; scaled: whether each feature is standardised."""
        initial = initial_parameters(_sizes(rows, classes, hidden), recipe.init, seed, dtype)
        scaling = Scaling.learn(to_host(rows.features), rows.weights) if scaled else None
        return cls(initial, classes, recipe.optimizer, seed, scaling)

    def fits(self, rows: Rows, classes: NDArray[Any], hidden: tuple[int, ...], recipe: Recipe, dtype: str) -> bool:
        """Whether it can go on so."""
        mine = (self.parameters.sizes, self.parameters.dtype, self.optimizer)
        same = mine == (_sizes(rows, classes, hidden), dtype, recipe.optimizer)
        return same and np.array_equal(self.classes, classes)

    def go_on(
        self, rows: Rows, recipe: Recipe, backend: Backend, shuffle: bool, stopping: Stopping | None = None
    ) -> Watch | None:
        """Train to the recipe's last epoch; what was watched."""
        network = recipe.network(self.parameters, backend)
        if self.state:
            network.state = self.state
            recipe = recipe.changed(standardize=False)  # it knows its features' mean and spread
        watch = None
        if stopping is not None:
            kept, held_back = stopping.split(rows.labels, self.seed)
            watch, rows = Watch(network, self._placed(backend, rows.take(held_back)), stopping), rows.take(kept)
        samples = self._placed(backend, rows)
        train(network, samples, recipe, self.seed, shuffle=shuffle, history=self.history, on_epoch=watch)
        if watch is not None:
            network.state = watch.best_state
        self.state, self.parameters = network.state, network.parameters
        if self.scaling is not None:
            self.parameters = self.scaling.folded(self.parameters)
        return watch

    def _placed(self, backend: Backend, rows: Rows) -> Samples:
        dtype = self.parameters.dtype
        features = on_backend(backend, rows.features)
        if self.scaling is not None:
            features = self.scaling.apply(backend, features, dtype)
        weights = rows.relative_weights
        return Samples(
            features,
            backend.asarray(rows.labels.astype(np.int64)),
            None if weights is None else backend.asarray(weights.astype(dtype)),
        )


def _sizes(rows: Rows, classes: NDArray[Any], hidden: tuple[int, ...]) -> tuple[int, ...]:
    return (rows.features.shape[1], *hidden, len(classes))
