"""How MLPClassifier trains and answers by a preset of ours: tabular, fast or paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp.common.errors import UsageError
from fastmlp.estimators.arrays import (
    backend_for,
    beside,
    computable,
    dtype_of,
    on_backend,
    place_of,
    to_host,
)
from fastmlp.estimators.fitting import Fit
from fastmlp.estimators.parameters import check_parameters, recipe_for, seed_of
from fastmlp.estimators.rows import Floats, Labels, Rows, check_shapes, row_weights, warn_about_scale, warn_of_guessing
from fastmlp.network.trainer import Trainer
from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe
from fastmlp.training.stopping import Stopping

NUMBERS = "biuf"  # kinds of labels that other libraries' arrays can hold
UNTRAINED = 1  # the batch size of a network that only predicts
DTYPE = "float32"


class TrainedByPreset:
    """The training of a classifier by a recipe, and its logits."""

    hidden_layer_sizes: Sequence[int] | None
    backend: str
    random_state: int | np.random.RandomState | None
    shuffle: bool
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    class_weight: dict[Any, float] | str | None
    warm_start: bool
    verbose: bool | int
    dtype: str | None
    threads: int | None

    def _fit_by_preset(self, X: Any, y: Any, sample_weight: Any) -> None:
        check_parameters(self._given())
        features, targets = self._validated(X, y, reset=True)
        classes, labels = np.unique(targets, return_inverse=True)
        if len(classes) == 1:
            raise UsageError(f"y has only one class, {classes[0]}: pass rows of two classes or more.")
        rows = self._rows(features, labels, sample_weight, classes)
        recipe = recipe_for(self._given(), len(rows.labels), rows.features.shape[1], rows.copies)
        if self.warm_start and hasattr(self, "_fit"):
            fit = replace(self._resumed(rows, recipe, classes), history=History())
        else:
            fit = self._begun(rows, recipe, classes)
        stopping = Stopping(self.validation_fraction, self.tol, self.n_iter_no_change) if self.early_stopping else None
        self._train(fit, rows, recipe, stopping, X)
        warn_of_guessing(fit.history, rows, recipe)

    def _partial_fit_by_preset(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        check_parameters(self._given())
        first = not hasattr(self, "_fit")
        known = self._known_classes(classes)
        features, targets = self._validated(X, y, reset=first)
        if not np.isin(targets, known).all():
            raise UsageError("y has labels that are not among the classes: pass all in the first call of partial_fit.")
        rows = self._rows(features, np.searchsorted(known, targets), sample_weight, known)
        seen = 0 if first else self._fit.seen
        recipe = recipe_for(self._given(), len(rows.labels), rows.features.shape[1], seen + rows.copies)
        fit = self._begun(rows, recipe, known) if first else self._resumed(rows, recipe, known).having_seen(rows)
        self._train(fit, rows, recipe.changed(epochs=fit.history.epochs + 1, schedule="constant"), None, X)

    def _known_classes(self, classes: Any) -> NDArray[Any]:
        """The classes that partial_fit was given, now or in its first call."""
        if self.early_stopping or self.class_weight == "balanced":
            raise UsageError(
                "partial_fit sees only part of the data: it supports neither early_stopping nor 'balanced' weights."
            )
        if classes is None and not hasattr(self, "_fit"):
            raise UsageError("The first call of partial_fit needs classes: pass all labels there will be.")
        return self._fit.classes if classes is None else np.unique(np.asarray(to_host(classes)))

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, NDArray[Any]]:
        """Features, in the library they came from, and labels (n,) on the host.

        Features that are standardised keep their dtype until then: an offset may need all of its digits.
        """
        check_shapes(X, y)
        as_they_come = recipe_for(self._given(), rows=1, features=1).standardize == "none"
        dtype = dtype_of(X, self.dtype or DTYPE) if as_they_come else "numeric"
        validated: tuple[Any, NDArray[Any]] = validate_data(self, computable(X), to_host(y), dtype=dtype, reset=reset)
        check_classification_targets(validated[1])
        return validated

    def _rows(self, features: Any, labels: Labels, sample_weight: Any, classes: NDArray[Any]) -> Rows:
        host = _check_sample_weight(to_host(sample_weight), labels, dtype=np.float64)
        return Rows.weighted(features, labels, row_weights(host, self.class_weight, classes, labels))

    def _begun(self, rows: Rows, recipe: Recipe, classes: NDArray[Any]) -> Fit:
        if recipe.standardize != "each":
            warn_about_scale(rows.features, centred=recipe.standardize == "together")
        return Fit.begin(rows, classes, recipe, seed_of(self.random_state), self.dtype or DTYPE)

    def _resumed(self, rows: Rows, recipe: Recipe, classes: NDArray[Any]) -> Fit:
        """The fit so far. Raises UsageError if it is not of the same kind."""
        if not self._fit.can_resume(rows, classes, recipe, self.dtype or DTYPE):
            raise UsageError(
                "warm_start and partial_fit need the features, hidden layers, classes, solver and dtype of before: "
                "train a clone instead."
            )
        return self._fit

    def _train(self, fit: Fit, rows: Rows, recipe: Recipe, stopping: Stopping | None, X: Any) -> None:
        """Train, and set the attributes."""
        backend = backend_for(self.backend, X, self.threads)
        self.backend_ = fit.continue_training(rows, recipe, backend, self.shuffle, stopping, bool(self.verbose))
        self._fit, classes = fit, fit.classes
        self.classes_ = beside(classes, X) if classes.dtype.kind in NUMBERS else classes
        plain = fit.parameters.plain
        self.coefs_, self.intercepts_ = list(plain.weights), list(plain.biases)
        self.history_ = {name: values for name, values in fit.history.as_dict().items() if values}
        self.loss_curve_ = self.history_["train_loss"]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.loss_curve_)
        if stopping is not None:
            self.validation_scores_ = fit.history.validation_accuracy
            self.best_validation_score_ = max(self.validation_scores_)

    def _given(self) -> dict[str, Any]:
        return self.get_params()  # type: ignore[attr-defined]

    # Answers.

    def _logits(self, X: Any, method: str) -> Floats:
        """Logits (n, n_classes) on the host."""
        check_is_fitted(self)
        place = place_of(self.classes_)
        if self._fit.classes.dtype.kind in NUMBERS and get_config()["array_api_dispatch"] and place_of(X) != place:
            raise UsageError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same device as "
                f"those passed to fit(): {' on '.join(place)}, not {' on '.join(place_of(X))}."
            )
        check_shapes(X)
        parameters = self._fit.parameters
        dtype = dtype_of(X, parameters.dtype) if parameters.scaling is None else "numeric"
        features = validate_data(self, computable(X), dtype=dtype, reset=False)
        backend = backend_for(self.backend, X, self.threads)
        trainer = Trainer(parameters, backend, UNTRAINED)
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is checked below
            logits = trainer.logits(on_backend(backend, features, parameters.dtype, parameters.scaling))
        finite = np.isfinite(logits).all(axis=1)
        if not finite.all():
            raise UsageError(
                f"Row {finite.argmin()} of X is too far from the rows of training for {parameters.dtype}: check it."
            )
        return logits
