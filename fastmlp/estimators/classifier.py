"""MLPClassifier: the network behind scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp.common.errors import UsageError
from fastmlp.estimators.arrays import (
    backend_for,
    beside,
    computable,
    dtype_of,
    namespace_of,
    on_backend,
    place_of,
    to_host,
)
from fastmlp.estimators.fitting import Fit
from fastmlp.estimators.parameters import check_parameters, recipe_for, seed_of, widths_of
from fastmlp.estimators.rows import Floats, Labels, Rows, check_shapes, row_weights, warn_about_scale, warn_of_guessing
from fastmlp.estimators.saving import ModelFiles
from fastmlp.network.evaluation import log_softmax, softmax
from fastmlp.network.trainer import Trainer
from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe
from fastmlp.training.stopping import Stopping

NUMBERS = "biuf"  # kinds of labels that other libraries' arrays can hold
UNTRAINED = 1  # the batch size of a network that only predicts


class MLPClassifier(ModelFiles, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A multi-layer perceptron with ReLU layers and softmax, trained on mini-batches.

    Parameters are named as in scikit-learn's MLPClassifier wherever they mean the same. The defaults,
    ``preset="tabular"``, train well on ordinary data, scaled or not. ``preset="paper"`` trains as the paper does, with
    the same bits as ``fastmlp train --preset paper``; so does, spelled out, ``MLPClassifier(preset="paper",
    hidden_layer_sizes=(64,), max_iter=300, batch_size=64, learning_rate_init=0.01, init="paper", shuffle=True,
    random_state=0, dtype="float32")``.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(64,)
        Widths of the hidden layers; () gives multinomial logistic regression.
    preset : {"tabular", "best", "fast", "paper"}, default="tabular"
        The values of all parameters that are None. "tabular": each feature standardised, Adam, a one-cycle learning
        rate, 100 epochs. "best", "fast" and "paper": the presets of the command line; "paper" trains on features as
        they come, "fast" on features less their means, all divided by one spread.
    backend : str, default="auto"
        "numpy", "numba", "torch", "torch:DEVICE", "cupy", or "auto": CuPy on a working GPU, else Numba, else NumPy; for
        PyTorch's and CuPy's arrays under ``array_api_dispatch``, their own library and device.
    solver : {"adam", "sgd"} or None, default=None
        Adam, or plain gradient descent without momentum.
    alpha : float or None, default=None
        L2 penalty in scikit-learn's unit: alpha / (2 b) times the sum of the squared weights (not biases) is added to
        the mean loss of a batch, with b = ``batch_size`` (also for the last, smaller batch). "sgd" does exactly that;
        "adam" decouples it from the gradient (Loshchilov and Hutter 2019): each step multiplies the weights by
        1 - learning_rate * alpha / b. The penalty is on the weights of the features as trained on, hence of
        standardised features. "tabular" has 10, "paper" 0.
    label_smoothing : float or None, default=None
        The share of each label, below 1, that training spreads evenly over all classes (Szegedy et al. 2016): training
        losses are those of smoothed labels, and probabilities less sure.
    batch_size : int or None, default=None
        Rows per step; the last batch of an epoch may be smaller.
    learning_rate : {"one-cycle", "constant", "step"} or None, default=None
        "one-cycle" rises from 0 to ``learning_rate_init`` and falls back to 0; "step" multiplies it by 0.1 after every
        100 epochs.
    learning_rate_init : float or None, default=None
        The (highest) learning rate.
    max_iter : int or None, default=None
        Number of epochs.
    init : {"he", "paper"} or None, default=None
        "he" scales the initial weights to the fan-in; "paper" draws, for an integer random_state,
        ``RandomState(random_state).randn(...) / 1000``, layer by layer.
    standardize : bool or None, default=None
        True: subtract each feature's mean and divide by its standard deviation (a constant feature only loses its
        mean); ``coefs_`` are still for features as they come. Both are of the data of fit, and every partial_fit
        updates them by its rows, as if all had come at once: answers stay as they were before it trains, once thirty
        rows have been seen. False: train on features as they come.
    shuffle : bool, default=True
        Whether to shuffle the rows in every epoch.
    random_state : int, RandomState or None, default=0
        Determines initial weights, batch order and held-out rows; the same integer gives the same bits.
    early_stopping : bool, default=False
        Whether to hold out some rows of each class, stop once accuracy on them no longer improves, and keep the network
        of the best epoch.
    validation_fraction : float, default=0.1
        The fraction of rows held out by early_stopping.
    n_iter_no_change : int, default=10
        With early_stopping, epochs without improvement to tolerate.
    tol : float, default=1e-4
        With early_stopping, the least gain in accuracy that counts as improvement.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes by label, multiplied with sample_weight; "balanced" gives all classes the same sum of
        weights. partial_fit does not accept "balanced".
    warm_start : bool, default=False
        Whether fit continues from the network and optimizer of the last fit, for max_iter more epochs and with the
        learning rate from the start of its schedule.
    dtype : {"float32", "float64"}, default="float32"
        The dtype of weights and arithmetic.
    threads : int or None, default=None
        CPU threads. A number holds for the whole process, until the next call of a classifier with another one; None:
        all available cores, or what the process, such as a worker of joblib, limits its libraries to.

    Attributes
    ----------
    classes_ : array (n_classes,)
        The labels, sorted; of the library of X if X was dispatched and labels are numbers.
    coefs_, intercepts_ : list of ndarray
        Weights (fan_in, fan_out) and biases (fan_out,) of each layer, for features as they come. Predictions do not
        read them: they standardise features first, which keeps the digits of those with a large offset.
    n_features_in_, feature_names_in_ : int, ndarray of str
        The number of features and, for data frames, their names.
    n_iter_ : int
        Epochs trained by the last fit and every partial_fit since.
    loss_, loss_curve_ : float, list of float
        The mean training loss, rows weighted, of the last epoch and of every epoch.
    history_ : dict of list
        epoch, learning_rate, train_loss and train_accuracy (rows not weighted) and, with early_stopping,
        validation_accuracy: one entry per epoch.
    validation_scores_, best_validation_score_ : list of float, float
        With early_stopping, the accuracy on the held-out rows after every epoch, and the highest.
    backend_ : str
        The backend that trained.

    See Also
    --------
    FeatureExtractor : From images to features.
    Augmenter : Randomly changed images to train on.

    Notes
    -----
    Rows of weight 0 only contribute their class. All other weights are divided by their mean, so only their ratios
    matter: an integer weight equals that many copies of the row where an epoch is a single batch, and does so on
    average where batches are drawn at random. Unequal weights rule out the fused epoch: such training runs on the
    backend's fused ops.

    All of scikit-learn's estimator_checks pass with ``dtype="float64"``. In float32 rounding alone keeps a weight of 2
    and two copies of a row from agreeing to the 7 digits of ``check_sample_weight_equivalence_on_dense_data``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastmlp import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(backend="numpy").fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (64,),
        *,
        preset: str = "tabular",
        backend: str = "auto",
        solver: str | None = None,
        alpha: float | None = None,
        label_smoothing: float | None = None,
        batch_size: int | None = None,
        learning_rate: str | None = None,
        learning_rate_init: float | None = None,
        max_iter: int | None = None,
        init: str | None = None,
        standardize: bool | None = None,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = 0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: dict[Any, float] | str | None = None,
        warm_start: bool = False,
        dtype: str = "float32",
        threads: int | None = None,
    ) -> None:
        self.hidden_layer_sizes, self.preset, self.backend = hidden_layer_sizes, preset, backend
        self.solver, self.alpha, self.label_smoothing, self.batch_size = solver, alpha, label_smoothing, batch_size
        self.learning_rate, self.learning_rate_init, self.max_iter = learning_rate, learning_rate_init, max_iter
        self.init, self.standardize, self.shuffle, self.random_state = init, standardize, shuffle, random_state
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.tol = n_iter_no_change, tol
        self.class_weight, self.warm_start, self.dtype, self.threads = class_weight, warm_start, dtype, threads

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    # Training.

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MLPClassifier:
        """Train on features and labels.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite.
        y : array-like of shape (n,)
            Labels of any type that scikit-learn accepts.
        sample_weight : array-like of shape (n,), default=None
            How much each row's loss counts; None: all the same.

        Returns
        -------
        self : MLPClassifier
            The trained classifier.
        """
        check_parameters(self.get_params())
        features, targets = self._validated(X, y, reset=True)
        classes, labels = np.unique(targets, return_inverse=True)
        if len(classes) == 1:
            raise UsageError(f"y has only one class, {classes[0]}: pass rows of two classes or more.")
        rows = self._rows(features, labels, sample_weight, classes)
        recipe = recipe_for(self.get_params(), len(rows.labels))
        if self.warm_start and hasattr(self, "_fit"):
            fit = replace(self._resumed(rows, recipe, classes), history=History())
        else:
            fit = self._begun(rows, recipe, classes)
        stopping = Stopping(self.validation_fraction, self.tol, self.n_iter_no_change) if self.early_stopping else None
        self._train(fit, rows, recipe, stopping, X)
        warn_of_guessing(fit.history, rows, recipe)
        return self

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> MLPClassifier:
        """Train for one more epoch, at the constant learning rate learning_rate_init.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features; standardised, if they are, by mean and deviation of all rows of all calls.
        y : array-like of shape (n,)
            Labels, all among the classes.
        classes : array-like of shape (n_classes,), default=None
            All labels there will be; required in the first call.
        sample_weight : array-like of shape (n,), default=None
            How much each row's loss counts, relative to the other rows of this call.

        Returns
        -------
        self : MLPClassifier
            The classifier, one epoch further.
        """
        check_parameters(self.get_params())
        first = not hasattr(self, "_fit")
        known = self._known_classes(classes)
        features, targets = self._validated(X, y, reset=first)
        if not np.isin(targets, known).all():
            raise UsageError("y has labels that are not among the classes: pass all in the first call of partial_fit.")
        rows = self._rows(features, np.searchsorted(known, targets), sample_weight, known)
        recipe = recipe_for(self.get_params(), len(rows.labels))
        fit = self._begun(rows, recipe, known) if first else self._resumed(rows, recipe, known).having_seen(rows)
        return self._train(fit, rows, recipe.changed(epochs=fit.history.epochs + 1, schedule="constant"), None, X)

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
        as_they_come = recipe_for(self.get_params(), rows=1).standardize == "none"
        dtype = dtype_of(X, self.dtype) if as_they_come else "numeric"
        validated: tuple[Any, NDArray[Any]] = validate_data(self, computable(X), to_host(y), dtype=dtype, reset=reset)
        check_classification_targets(validated[1])
        return validated

    def _rows(self, features: Any, labels: Labels, sample_weight: Any, classes: NDArray[Any]) -> Rows:
        host = _check_sample_weight(to_host(sample_weight), labels, dtype=np.float64)
        return Rows.weighted(features, labels, row_weights(host, self.class_weight, classes, labels))

    def _begun(self, rows: Rows, recipe: Recipe, classes: NDArray[Any]) -> Fit:
        if recipe.standardize != "each":
            warn_about_scale(rows.features, centred=recipe.standardize == "together")
        widths, seed = widths_of(self.hidden_layer_sizes), seed_of(self.random_state)
        return Fit.begin(rows, classes, widths, recipe, seed, self.dtype)

    def _resumed(self, rows: Rows, recipe: Recipe, classes: NDArray[Any]) -> Fit:
        """The fit so far. Raises UsageError if it is not of the same kind."""
        if not self._fit.can_resume(rows, classes, widths_of(self.hidden_layer_sizes), recipe, self.dtype):
            raise UsageError(
                "warm_start and partial_fit need the features, hidden layers, classes, solver and dtype of before: "
                "train a clone instead."
            )
        return self._fit

    def _train(self, fit: Fit, rows: Rows, recipe: Recipe, stopping: Stopping | None, X: Any) -> MLPClassifier:
        """Train, and set the attributes."""
        backend = backend_for(self.backend, X, self.threads)
        fit.continue_training(rows, recipe, backend, self.shuffle, stopping)
        self._fit, classes = fit, fit.classes
        self.classes_ = beside(classes, X) if classes.dtype.kind in NUMBERS else classes
        plain = fit.parameters.plain
        self.coefs_, self.intercepts_ = list(plain.weights), list(plain.biases)
        self.history_ = {name: values for name, values in fit.history.as_dict().items() if values}
        self.loss_curve_ = self.history_["train_loss"]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.loss_curve_)
        self.backend_ = str(backend)
        if stopping is not None:
            self.validation_scores_ = fit.history.validation_accuracy
            self.best_validation_score_ = max(self.validation_scores_)
        return self

    # Prediction.

    def predict(self, X: ArrayLike) -> Any:
        """The most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.

        Returns
        -------
        y : array of shape (n,)
            Labels.
        """
        chosen = self._logits(X, "predict").argmax(axis=1)
        labels = self._fit.classes[chosen]
        return labels if namespace_of(self.classes_) is None else beside(labels, X)

    def predict_proba(self, X: ArrayLike) -> Any:
        """The probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.

        Returns
        -------
        probabilities : array of shape (n, n_classes)
            Columns in the order of classes_.
        """
        return beside(softmax(self._logits(X, "predict_proba")), X)

    def predict_log_proba(self, X: ArrayLike) -> Any:
        """The logarithm of the probability of each class, finite where the probability itself rounds to 0.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features.

        Returns
        -------
        log_probabilities : array of shape (n, n_classes)
            Columns in the order of classes_.
        """
        return beside(log_softmax(self._logits(X, "predict_log_proba")), X)

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
