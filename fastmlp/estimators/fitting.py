"""What MLPClassifier's training adds to `fastmlp.training`: scaled features, early stopping, fits that resume."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.common.errors import UsageError
from fastmlp.estimators.arrays import on_backend, to_host
from fastmlp.estimators.rows import Floats, Rows
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.training.held_out import hold_out
from fastmlp.training.history import History
from fastmlp.training.loop import train
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import Samples
from fastmlp.training.stopping import Stopping, Watch

BLOCK = 4096  # rows at a time, so that their float64 copy stays small
ROUNDING = 10  # a feature is constant if its deviation is within this many rounding errors of its mean


@dataclass(frozen=True)
class Scaling:
    """Standardisation of each feature, (x - mean) * scale: both float64 (d,)."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def learn(cls, rows: Floats, weights: Floats) -> Scaling:
        """Mean and 1 / deviation of the features of rows (n, d) with weights (n,); a constant feature has scale 1."""
        blocks = [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]
        mean = sum(weights[b] @ rows[b].astype(np.float64) for b in blocks) / weights.sum()
        variance = sum(weights[b] @ (rows[b].astype(np.float64) - mean) ** 2 for b in blocks) / weights.sum()
        constant = np.sqrt(variance) <= ROUNDING * np.finfo(rows.dtype).eps * np.abs(mean)
        return cls(mean, 1 / np.sqrt(np.where(constant, 1, variance)))

    def apply(self, backend: Backend, rows: Array, dtype: str) -> Array:
        """The standardised rows (n, d) of that dtype, on the backend."""
        mean, scale = (backend.asarray(values.astype(dtype)) for values in (self.mean, self.scale))
        return (rows - mean) * scale


@dataclass
class Fit:
    """The state of a fit between two calls, all on the host, so that it can be pickled.

    parameters: for features as they come. state: what training resumes from (see `Trainer.state`), once it has begun.
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
        widths: tuple[int, ...],
        recipe: Recipe,
        seed: int,
        dtype: str,
        scaled: bool,
    ) -> Fit:
        """A fit with new weights. widths: of the hidden layers; scaled: whether each feature is standardised."""
        initial = initial_parameters(_sizes(rows, classes, widths), recipe.init, seed, dtype)
        scaling = Scaling.learn(to_host(rows.features), rows.weights) if scaled else None
        return cls(initial, classes, recipe.optimizer, seed, scaling)

    def can_resume(
        self, rows: Rows, classes: NDArray[Any], widths: tuple[int, ...], recipe: Recipe, dtype: str
    ) -> bool:
        """Whether its network and optimizer are the ones asked for."""
        mine = (self.parameters.sizes, self.parameters.dtype, self.optimizer)
        same = mine == (_sizes(rows, classes, widths), dtype, recipe.optimizer)
        return same and np.array_equal(self.classes, classes)

    def continue_training(
        self, rows: Rows, recipe: Recipe, backend: Backend, shuffle: bool, stopping: Stopping | None = None
    ) -> None:
        """Train from the history's end to the recipe's last epoch, or until it is time to stop."""
        trainer = recipe.network(self.parameters, backend)
        if self.state:
            trainer.state = self.state
            recipe = recipe.changed(standardize=False)  # the state holds the features' mean and scale
        watch = None
        if stopping is not None:
            rows, held_out = self._split(rows, stopping.fraction)
            watch = Watch(trainer, self._placed(backend, held_out), stopping)
        samples = self._placed(backend, rows)
        train(trainer, samples, recipe, self.seed, shuffle=shuffle, history=self.history, on_epoch=watch)
        if watch is not None:
            trainer.state = watch.best_state
        self.state, self.parameters = trainer.state, trainer.parameters
        if self.scaling is not None:
            self.parameters = self.parameters.for_plain_features(self.scaling.mean, self.scaling.scale)

    def _split(self, rows: Rows, fraction: float) -> tuple[Rows, Rows]:
        """The rows to train on, and those held out. Raises UsageError if there are none to hold out."""
        kept, held_out = hold_out(rows.labels, self.seed, fraction)
        if len(held_out) == 0:
            raise UsageError(
                f"early_stopping cannot hold out {fraction:g} of {len(rows.labels)} rows and keep one of each class: "
                "pass more rows of each class, a larger validation_fraction, or early_stopping=False."
            )
        return rows.take(kept), rows.take(held_out)

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


def _sizes(rows: Rows, classes: NDArray[Any], widths: tuple[int, ...]) -> tuple[int, ...]:
    return (rows.features.shape[1], *widths, len(classes))
